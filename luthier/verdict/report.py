"""The report of a run: one self-contained HTML file, made from the run folder and nothing else.

What is in a run folder is untrusted text; `pages.py` sees that it stays text.
"""

from __future__ import annotations

import datetime
import json
import shlex
from pathlib import Path
from typing import Any

from markupsafe import Markup

from luthier.files import write_text
from luthier.verdict import account, panels, retrieved, spending, views
from luthier.verdict.cases import build_cases, build_confusion
from luthier.verdict.evidence import Evidence, mapping, read_run, text, texts
from luthier.verdict.forgotten import forgotten
from luthier.verdict.formatting import (
    DASH,
    clip,
    compact,
    memory,
    number,
    plural,
    seconds,
    words,
)
from luthier.verdict.learning import learning_panel, missing_curves
from luthier.verdict.manners import manner_panel
from luthier.verdict.memorisation import memorisation_reasons, memorisation_table
from luthier.verdict.pages import asset, environment, policy
from luthier.verdict.pairs import report_pairs
from luthier.verdict.slicing import slice_panel
from luthier.verdict.structured import structured

#: decision -> (the status word, its sign; the sign says it without colour)
_STATUS = {"deploy": ("Deploy", "●"), "undecided": ("Undecided", "◐"), "none": ("None", "○")}
SNIPPET_CHARACTERS = 2000  # of the task's first input in the deployment examples
PORT = 8000


def build_report(folder: Path) -> Path:
    """Write `report.html` into a run folder, atomically, and return its path.

    Reads task.yaml, manifest.json, lint.json, verdict.json, data/*.jsonl and arms/*; all but
    verdict.json may be missing.

    Raises:
        RunError: no run folder, no verdict in it yet, or it may not be written.
        InputError: verdict.json is broken.
    """
    folder = Path(folder)
    path = folder / "report.html"
    write_text(path, render(read_run(folder)))
    return path


def render(evidence: Evidence) -> str:
    """The page as text."""
    verdict = evidence.verdict
    scale = views.scale_of(evidence)
    ranked = views.ranked(evidence)
    recommended = evidence.arm(verdict.get("recommendation"))
    focus = recommended if recommended in ranked else (ranked[0] if ranked else None)
    metric = words(text(verdict.get("metric"))) or "score"
    decision = text(verdict.get("decision"))
    status, sign = _STATUS.get(decision, (decision.capitalize() or "Unknown", "○"))
    style, script = asset("report.css"), asset("report.js")
    labels, labels_left_out = account.label_shares(evidence)
    sample, sample_left_out = account.sample_spans(evidence)
    return (
        environment()
        .get_template("report.html.jinja")
        .render(
            policy=policy(style, script),
            style=Markup(style),
            script=Markup(script),
            headline=_headline(evidence),
            task=text(verdict.get("task") or evidence.task.get("name")) or "Luthier run",
            goal=text(evidence.task.get("goal")),
            decision=decision if decision in _STATUS else "none",
            status=status,
            sign=sign,
            reasons=texts(verdict.get("reasons")),
            facts=_facts(evidence, metric),
            detectable=views.detectable(evidence, scale),
            recommended=recommended.name if recommended else "",
            focus=focus.name if focus else "",
            metric=metric,
            is_percent=scale.is_percent,
            score_plot=views.score_plot(evidence, scale, metric),
            score_table=views.score_table(evidence, scale, metric),
            method=_method(evidence),
            warnings=texts(verdict.get("warnings")),
            unscored=views.unscored(evidence),
            slices=slice_panel(evidence, panels.compared_arms(evidence, focus)),
            confidence=panels.confidence_panel(evidence, focus),
            behaviour=panels.behaviour_table(evidence),
            manner=manner_panel(evidence),
            structured=structured(evidence, panels.compared_arms(evidence, focus)),
            all_pairs=report_pairs(evidence, scale),
            retrieved=retrieved.retrieved(evidence),
            learning=learning_panel(evidence, scale),
            no_curve=missing_curves(evidence),
            cost_table=views.cost_table(evidence, focus),
            cost_details=spending.cost_details(evidence),
            break_even=spending.break_even_plot(evidence, focus),
            priced=spending.priced(evidence),
            forgetting=forgotten(evidence),
            memorisation=memorisation_table(evidence),
            memorisation_reasons=memorisation_reasons(evidence),
            max_forgetting=number(mapping(evidence.task.get("success")).get("max_forgetting")),
            cases=build_cases(evidence, focus, scale),
            confusion=build_confusion(evidence, focus),
            stories=account.stories(evidence, scale),
            findings=account.findings(evidence),
            linted=bool(evidence.lint),
            sample=sample,
            sample_left_out=sample_left_out,
            splits=account.split_sizes(evidence),
            labels=labels,
            labels_left_out=labels_left_out,
            manifest_notes=texts(evidence.manifest.get("notes")),
            problems=evidence.problems,
            folder=_folder_name(evidence),
            commands=_commands(evidence),
            versions=_versions(evidence),
            machine=_machine(evidence),
            serve=_serve(evidence),
            made=_when(text(evidence.manifest.get("created"))),
            luthier=text(evidence.manifest.get("luthier")),
        )
    )


def _headline(evidence: Evidence) -> str:
    """The answer in one sentence: the verdict's own, else made from the decision."""
    verdict = evidence.verdict
    if said := text(verdict.get("headline")):
        return said
    name = text(verdict.get("recommendation"))
    if verdict.get("decision") == "deploy" and name:
        return f"Deploy {name}."
    if verdict.get("decision") == "none":
        return "None of the arms is worth deploying."
    return f"Undecided; {name} is the best guess so far." if name else "Undecided."


def _method(evidence: Evidence) -> str:
    """How intervals and p-values were computed, and the metric's signature, as sentences."""
    statistics = mapping(evidence.verdict.get("statistics"))
    method, signature = text(statistics.get("method")), text(statistics.get("signature"))
    said = f"{method[:1].upper()}{method[1:].rstrip('.')}." if method else ""
    return f"{said} Metric: {signature}.".strip() if signature else said


def _facts(evidence: Evidence, metric: str) -> list[tuple[str, str]]:
    """(name, value) pairs for the line of facts."""
    verdict = evidence.verdict
    n_test = number(verdict.get("n_test"))
    facts = [
        ("task", text(verdict.get("task") or evidence.task.get("name"))),
        ("kind", words(text(verdict.get("kind") or evidence.task.get("kind")))),
        ("metric", metric),
        ("test", plural(int(n_test), "row") if n_test is not None else ""),
        ("seed", text(verdict.get("seed", evidence.manifest.get("seed")))),
        ("time", _time(evidence)),
        ("model", text(mapping(evidence.manifest.get("model")).get("name"))),
    ]
    return [(name, value or DASH) for name, value in facts]


def _time(evidence: Evidence) -> str:
    """What the run took, of its budget; "" where that is not known."""
    taken = number(evidence.manifest.get("seconds"))
    if taken is None:
        return ""
    budget = number(mapping(evidence.task.get("budget")).get("minutes"))
    of = f" (budget: {budget:g} min)" if budget is not None else ""
    return f"{seconds(taken)}{of}"


def _commands(evidence: Evidence) -> list[tuple[str, str]]:
    """(what it is for, command) that repeat the run."""
    folder = _folder_name(evidence)
    name, again = shlex.quote(folder), shlex.quote(f"{folder}-again")
    commands = []
    if command := text(evidence.manifest.get("command")):
        commands.append(("How it was run", command))
    if evidence.task:
        # the folder's task.yaml reads the folder's own data, and holds the seed
        task = shlex.quote(f"{folder}/task.yaml")
        said = "Run it again from this folder alone: the same rows, seed and settings"
        commands.append((said, f"luthier run {task} --out {again} --yes"))
        said = "Then see that both came to the same"
        commands.append((said, f"luthier compare {name} {again}"))
    elif not commands:
        seed = number(evidence.manifest.get("seed", evidence.verdict.get("seed")))
        given = f" --seed {int(seed)}" if seed is not None else ""
        commands.append(("Run it again", f"luthier run task.yaml{given} --out {name}"))
    if pinned := _pinned(evidence):
        commands.append(("With the same versions", pinned))
    return [*commands, ("Rebuild this report from the folder", f"luthier report {name}")]


def _pinned(evidence: Evidence) -> str:
    """The command that installs the versions of libraries the run was made with, or ""."""
    # "2.13.0+cpu" names a build, which no index has under that name
    versions = {
        text(name): text(version).partition("+")[0]
        for name, version in mapping(evidence.manifest.get("versions")).items()
        if name not in ("python", "luthier")
    }
    if not versions:
        return ""
    return shlex.join(["pip", "install", *(f"{n}=={v}" for n, v in versions.items())])


def _folder_name(evidence: Evidence) -> str:
    return evidence.folder.resolve().name or "RUN"


def _versions(evidence: Evidence) -> list[tuple[str, str]]:
    """(name, version) of Luthier, the model and the libraries."""
    found = []
    if version := text(evidence.manifest.get("luthier")):
        found.append(("luthier", version))
    found += [
        (text(name), text(version))
        for name, version in mapping(evidence.manifest.get("versions")).items()
        if name != "luthier"
    ]
    model = mapping(evidence.manifest.get("model"))
    if model.get("name"):
        size = number(model.get("parameters"))
        said = f" ({compact(size)} parameters)" if size else ""
        found.append(("model", text(model.get("name")) + said))
    if digest := text(evidence.manifest.get("task_hash")):
        found.append(("task hash", digest))
    return found


def _machine(evidence: Evidence) -> str:
    machine = mapping(evidence.manifest.get("machine"))
    cores, size = number(machine.get("cores")), number(machine.get("memory_bytes"))
    gpus = texts(machine.get("gpus"))
    parts = [
        plural(int(cores), "core") if cores else "",
        f"{memory(size)} of memory" if size else "",
        ", ".join(gpus) if gpus else "no GPU" if "gpus" in machine else "",
        text(machine.get("platform")),
    ]
    return ", ".join(part for part in parts if part)


def _when(said: str) -> str:
    """A time as people write it: "2026-03-01 09:30 UTC"; anything else as it is."""
    try:
        when = datetime.datetime.fromisoformat(said)
    except ValueError:
        return said
    return f"{when.astimezone(datetime.UTC):%Y-%m-%d %H:%M} UTC" if when.tzinfo else said


def _serve(evidence: Evidence) -> dict[str, Any]:
    """What to type to serve the run and to ask it the task's own first question."""
    rows = evidence.splits["test"] or next(
        (arm.predictions for arm in evidence.arms if arm.predictions), []
    )
    question = text(rows[0].get("input")) if rows else ""
    question, left_out = clip(question or "Your question here", SNIPPET_CHARACTERS)
    message = {"role": "user", "content": question}
    body = json.dumps({"model": "luthier", "messages": [message]}, ensure_ascii=False)
    address = f"http://localhost:{PORT}/v1"
    return {
        "command": f"luthier serve {shlex.quote(_folder_name(evidence))} --port {PORT}",
        "curl": (
            f"curl {address}/chat/completions \\\n"
            f"  -H 'Content-Type: application/json' \\\n"
            f"  -d {shlex.quote(body)}"
        ),
        "python": (
            "from openai import OpenAI\n\n"
            f'client = OpenAI(base_url="{address}", api_key="none")\n'
            "reply = client.chat.completions.create(\n"
            '    model="luthier",\n'
            f'    messages=[{{"role": "user", "content": {_literal(question)}}}],\n'
            ")\n"
            "print(reply.choices[0].message.content)"
        ),
        "left_out": left_out,
    }


def _literal(value: str) -> str:
    """A Python string literal in double quotes; JSON's escapes are Python's too."""
    return json.dumps(value, ensure_ascii=False)
