"""Looking at a task before time is spent on it: data findings, token counts, an estimate, and what
exactly the model will see."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from luthier.data.examples import Example
from luthier.data.kept_lints import kept_lints
from luthier.data.linting import (
    COMBINED,
    Finding,
    LintContext,
    Rendered,
    Sample,
    lint,
    number,
)
from luthier.data.lints import languages, overlong
from luthier.data.mixtures import SourceUse
from luthier.data.prepare import Prepared
from luthier.errors import InputError
from luthier.progress import Reporter
from luthier.prompts.prompt import Prompt
from luthier.task import Task

#: The encoder that some lints ask for a second opinion, when it is on this machine already.
_ENCODER = "all-minilm-l6-v2"


@dataclass(frozen=True)
class Examined:
    """What a look at a task found.

    Attributes:
        findings: data findings, the serious ones first.
        tokens: for each split: rows, total, median and longest (prompt + answer), overlong (rows
            over the limit), and sampled: how many rows were counted (the total is then estimated).
        estimate: seconds and peak_memory_bytes of training with LoRA; see `estimating`.
        sample: (text, trained) spans of the first training example, as the model will see it.
        labels: of a classification, for each split, label to rows.
        languages: of training inputs and outputs, code to share; see `languages.Mix`.
        arms: for each arm that would run: name, seconds at the least, peak_memory_bytes, fits.
        mixture: for each task of the mixture, what training takes of it.
        budget_minutes: of the task.
    """

    findings: tuple[Finding, ...]
    tokens: dict[str, dict[str, int]]
    estimate: dict[str, float]
    sample: tuple[tuple[str, bool], ...]
    labels: dict[str, dict[str, int]] = field(default_factory=dict)
    languages: dict[str, dict[str, float]] = field(default_factory=dict)
    arms: tuple[dict[str, Any], ...] = ()
    mixture: tuple[SourceUse, ...] = ()
    budget_minutes: float = math.inf

    @property
    def ok(self) -> bool:
        """Whether nothing forbids going on."""
        return all(finding.severity != "error" for finding in self.findings)

    @property
    def answer(self) -> str:
        """The answer in one line: ok, or not, and why not."""
        for finding in self.findings:
            if finding.lint == COMBINED:
                return finding.message
        counts = Counter(finding.severity for finding in self.findings)
        said = " and ".join(
            number(counts[severity], severity)
            for severity in ("error", "warning", "note")
            if counts[severity]
        )
        if counts["error"]:
            return f"Not ok: {said}."
        return f"ok: {said}, none that forbids training." if said else "ok: nothing was found."

    def to_dict(self) -> dict[str, Any]:
        """What lint.json holds and `luthier check --json` prints."""
        return {
            "ok": self.ok,
            "answer": self.answer,
            "findings": [finding.to_dict() for finding in self.findings],
            "tokens": self.tokens,
            "estimate": self.estimate,
            "arms": list(self.arms),
            **({"mixture": [asdict(use) for use in self.mixture]} if self.mixture else {}),
            "labels": self.labels,
            "languages": self.languages,
            "sample": [{"text": text, "trained": trained} for text, trained in self.sample],
        }


def examine(task: Task, prepared: Prepared, reporter: Reporter | None = None) -> Examined:
    """Look at a task's data with the model's own tokenizer.

    Raises:
        InputError: the instruction alone is longer than the model's context; or another task, or
            rows to replay, that the task names cannot be used.
        ModelError: the model is not to be had.
    """
    from luthier.estimating import arms_of, lora_of, mixture_of
    from luthier.models.tuned import describe_any, load_any_tokenizer
    from luthier.staged.plan import check_elsewhere

    check_elsewhere(task)
    tokenizer = load_any_tokenizer(task.model, base=task.folder, reporter=reporter)
    info = describe_any(task.model, base=task.folder)
    prompt = Prompt(tokenizer, instruction=task.instruction)
    instruction = len(tokenizer(task.instruction, add_special_tokens=False)["input_ids"])
    if instruction >= info.context_length:
        raise InputError(
            f"{task.path}: `instruction` has {instruction} tokens, and {task.model} reads at "
            f"most {info.context_length}.",
            fix="Shorten it, or choose a model with a longer context.",
        )
    counted: dict[str, tuple[int, int]] = {}

    def count_tokens(example: Example) -> tuple[int, int]:
        # where it was read names a row; examples of large files are made anew each time
        name = f"{example.source} {example.id}"
        if name not in counted:
            asked = len(prompt.ask(example.messages))
            counted[name] = (asked, len(prompt.answer_ids(example.output)))
        return counted[name]

    context = LintContext(
        task=task,
        splits=prepared.splits,
        labels=prepared.labels,
        count_tokens=count_tokens,
        context_length=info.context_length,
        render=_renderer(task, prompt),
        embed=_embedder(),
        refused=prepared.refused,
    )
    findings = lint(context, reporter, kept_lints(context, _folder_of(task)))
    over = overlong.measure(context)
    tokens = {}
    for name, examples in prepared.splits.items():
        drawn = context.sample(name)
        tokens[name] = _sizes([sum(count_tokens(e)) for e in drawn.examples], drawn)
        tokens[name]["overlong"] = over[name].count if name in over else 0
        tokens[name]["rows"] = len(examples)
    drawn_train = [count_tokens(e) for e in context.sample("train").examples]
    share = sum(answer for _, answer in drawn_train) / max(1, sum(map(sum, drawn_train)))
    return Examined(
        findings=tuple(findings),
        budget_minutes=task.budget.minutes,
        tokens=tokens,
        estimate=lora_of(task, prepared, info, tokens["train"], instruction, share),
        sample=_sample(task, prompt, prepared.splits.train),
        labels={
            name: dict(Counter(example.output for example in examples).most_common())
            for name, examples in prepared.splits.items()
        }
        if prepared.labels
        else {},
        languages={
            mix.part: {code: round(share, 4) for code, share in mix.shares.items()}
            for mix in languages.mixes(context)
            if mix.shares
        },
        arms=tuple(arms_of(task, prepared, info)),
        # not the tokens counted above: each task has its own instruction before its rows
        mixture=tuple(
            mixture_of(
                task,
                prepared,
                lambda e: len(prompt.ask(e.messages)) + len(prompt.answer_ids(e.output)),
            )
        ),
    )


def _folder_of(task: Task) -> Path | None:
    """The folder with the model's tokenizer, where it is on this machine."""
    from luthier.errors import ModelError
    from luthier.models.loading import resolve

    try:
        return resolve(task.model, task.folder).path
    except ModelError:
        return None


def _sizes(lengths: Sequence[int], drawn: Sample) -> dict[str, int]:
    ordered = sorted(lengths)
    if not ordered:
        return {"rows": 0, "total": 0, "median": 0, "longest": 0, "sampled": 0}
    return {
        "rows": drawn.of,
        "total": round(sum(ordered) * drawn.of / len(ordered)),
        "median": ordered[len(ordered) // 2],
        "longest": ordered[-1],
        "sampled": len(ordered),
    }


def _renderer(task: Task, prompt: Prompt) -> Callable[[Example], Rendered]:
    begin = prompt.tokenizer.bos_token_id
    starts = frozenset() if begin is None else frozenset([int(begin)])

    def render(example: Example) -> Rendered:
        taught = prompt.teach(
            example.messages,
            example.output,
            loss_on=task.training.loss_on,
            # a weight of nought leaves nothing trained, which is another matter
            weight=example.weight or None,
        )
        return Rendered(taught.ids, taught.trained, starts, prompt.stop_ids)

    return render


def _embedder() -> Callable[[Sequence[str]], Any] | None:
    """The sentence encoder, loaded on first use; None when it would have to be fetched."""
    from luthier.models.loading import resolve

    if resolve(_ENCODER).path is None:
        return None
    loaded: list[Any] = []

    def embed(texts: Sequence[str]) -> Any:
        from luthier.models.encoder import Encoder

        if not loaded:
            loaded.append(Encoder.load(_ENCODER))
        return loaded[0].encode(texts)[0]

    return embed


def _sample(task: Task, prompt: Prompt, train: Sequence[Example]) -> tuple[tuple[str, bool], ...]:
    """The first training example as text, in spans that are trained or only read."""
    if not train:
        return ()
    first = train[0]
    taught = prompt.teach(
        first.messages, first.output, loss_on=task.training.loss_on, weight=first.weight
    )
    spans: list[tuple[list[int], bool]] = []
    for token, trained in zip(taught.ids, taught.trained, strict=True):
        if not spans or spans[-1][1] != trained:
            spans.append(([], trained))
        spans[-1][0].append(token)
    return tuple((str(prompt.tokenizer.decode(ids)), trained) for ids, trained in spans)
