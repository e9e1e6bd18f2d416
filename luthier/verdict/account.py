"""What a report tells of arms and data: settings, choices, curves, lints, splits, labels."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from luthier.verdict.curves import Curves, curves_of
from luthier.verdict.evidence import JSON, Arm, Evidence, dicts, mapping, text, texts
from luthier.verdict.formatting import (
    DASH,
    Scale,
    clip,
    count,
    figure,
    number,
    percent,
    plain,
    words,
)
from luthier.verdict.plots import bar
from luthier.verdict.samples import Panel, panel_of
from luthier.verdict.views import is_recommended, ranked, tag_of

SAMPLE = 4000  # characters of the rendered training row that are shown
LABELS = 25  # labels whose distribution is drawn
FINDING_ROWS = 12  # rows named for one finding


@dataclass(frozen=True)
class Choice:
    """Something chosen on validation: `options` are (value, score, chosen, note)."""

    what: str
    options: tuple[tuple[str, str, bool, str], ...]
    why: str


@dataclass(frozen=True)
class Story:
    """What one arm did."""

    name: str
    title: str
    why: str
    marked: bool
    tag: str
    failed: str
    notes: tuple[str, ...]
    settings: tuple[tuple[str, str], ...]
    metrics: tuple[tuple[str, str], ...]
    choices: tuple[Choice, ...]
    curves: Curves | None
    samples: Panel | None


def stories(evidence: Evidence, scale: Scale) -> list[Story]:
    """One story for each arm: the scored ones from best to worst, then the failed ones."""
    arms = ranked(evidence)
    arms += [arm for arm in evidence.arms if arm not in arms]
    return [_story(evidence, arm, scale, place) for place, arm in enumerate(arms)]


def _story(evidence: Evidence, arm: Arm, scale: Scale, place: int) -> Story:
    return Story(
        name=arm.name,
        title=arm.title,
        why=arm.why,
        marked=is_recommended(evidence, arm),
        tag=tag_of(evidence, arm),
        failed=arm.failed,
        notes=(*texts(arm.record.get("notes")), *_seeds(arm, scale)),
        settings=tuple(_settings(mapping(arm.record.get("settings")))),
        metrics=tuple(
            (words(text(name)), _metric(value, scale))
            for name, value in mapping(arm.result.get("metrics")).items()
            if number(value) is not None
        ),
        choices=tuple(_choice(item, scale) for item in dicts(arm.record.get("choices"))),
        curves=curves_of(arm.record, f"curve-{place}"),
        samples=panel_of(arm.samples),
    )


def _seeds(arm: Arm, scale: Scale) -> list[str]:
    """What fits with several seeds scored, as a sentence; nothing where there was one."""
    held = mapping(arm.result.get("seeds"))
    known = [number(score) for score in held.get("scores") or []]
    scores = [score for score in known if score is not None]
    spread = number(held.get("deviation"))
    if len(scores) < 2 or spread is None:
        return []
    shown = ", ".join(scale.show(score) for score in scores)
    size = f"{plain(100 * spread)} points" if scale.is_percent else figure(spread)
    return [
        f"Fitted with {len(scores)} seeds: {shown}; the standard deviation between them is {size}. "
        "The score is their mean; the first is the one that is kept and served."
    ]


def _metric(value: Any, scale: Scale) -> str:
    known = number(value) or 0.0
    return percent(known) if scale.is_percent and abs(known) <= 1 else figure(known)


def _settings(settings: JSON, prefix: str = "") -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for key, value in settings.items():
        name = words(text(f"{prefix}{key}"))
        if isinstance(value, dict) and not prefix and value:
            found += _settings(value, f"{key} ")
        elif value not in (None, "", [], {}):  # what was not set says nothing
            found.append((name, _setting(value)))
    return found


def _setting(value: Any) -> str:
    if value is None or value == "":
        return DASH
    known = number(value)
    if known is not None:
        return count(known) if known == int(known) else f"{known:.6g}"
    shown = ", ".join(map(_setting, value)) if isinstance(value, list) else text(value)
    short, left = clip(shown, 400)
    return f"{short} … ({left:,} characters more)" if left else short


def _choice(item: JSON, scale: Scale) -> Choice:
    chosen = item.get("chosen")
    options = tuple(
        (
            _setting(option.get("value")),
            scale.show(option.get("score")),
            option.get("value") == chosen,
            text(option.get("note")),
        )
        for option in dicts(item.get("options"))
    )
    if not options and chosen is not None:
        options = ((_setting(chosen), DASH, True, ""),)
    return Choice(words(text(item.get("what"))) or "choice", options, text(item.get("why")))


@dataclass(frozen=True)
class Finding:
    """One lint finding."""

    lint: str
    severity: str
    count: str
    message: str
    fix: str
    rows: str


def findings(evidence: Evidence) -> list[tuple[str, list[Finding]]]:
    """(heading, findings) by severity, errors first; severities without findings are left out."""
    heads = (("error", "Errors"), ("warning", "Warnings"), ("note", "Notes"))
    known = {severity for severity, _ in heads}
    grouped: dict[str, list[Finding]] = {severity: [] for severity, _ in heads}
    for item in dicts(evidence.lint.get("findings")):
        severity = text(item.get("severity"))
        severity = severity if severity in known else "note"
        named = texts(item.get("rows"))
        rows = _rows(named[:FINDING_ROWS])
        if len(named) > FINDING_ROWS:
            rows += f" and {len(named) - FINDING_ROWS:,} more"
        grouped[severity].append(
            Finding(
                lint=text(item.get("lint")),
                severity=severity,
                count=count(item.get("count")) if item.get("count") is not None else "",
                message=text(item.get("message")),
                fix=text(item.get("fix")),
                rows=rows,
            )
        )
    return [(head, grouped[severity]) for severity, head in heads if grouped[severity]]


def _rows(named: list[str]) -> str:
    """Rows by name, those of one file together: "train.csv rows 5, 9, test.csv row 2"."""
    files: dict[str, list[str]] = {}
    for row in named:
        file, found, place = row.rpartition(" row ")
        if found and place.isdigit():
            files.setdefault(file, []).append(place)
        else:
            files[row] = []
    return ", ".join(
        clip(file, 80)[0] + (f" row{'s' * (len(places) > 1)} {', '.join(places)}" if places else "")
        for file, places in files.items()
    )


def sample_spans(evidence: Evidence) -> tuple[list[tuple[str, bool]], int]:
    """(text, trained) spans of the first training row as the model saw it, and how many
    characters were left out at its end."""
    spans: list[tuple[str, bool]] = []
    room = SAMPLE
    left = 0
    for item in dicts(evidence.lint.get("sample")):
        said = text(item.get("text"))
        shown, more = said[:room], max(0, len(said) - room)
        room -= len(shown)
        left += more
        if shown:
            spans.append((shown, item.get("trained") is True))
    return spans, left


@dataclass(frozen=True)
class SplitSize:
    """One split: rows, tokens (median and longest) and the hash of its content."""

    name: str
    rows: str
    median: str
    longest: str
    hash: str


def split_sizes(evidence: Evidence) -> list[SplitSize]:
    """The splits that the manifest or the data folder knows."""
    known = mapping(evidence.manifest.get("splits"))
    tokens = mapping(evidence.lint.get("tokens"))
    found = []
    for name in ("train", "validation", "test"):
        split, rows = mapping(known.get(name)), evidence.splits[name]
        if not split and not rows:
            continue
        counted = mapping(tokens.get(name))
        found.append(
            SplitSize(
                name=name,
                rows=count(split.get("rows", len(rows))),
                median=count(counted.get("median")),
                longest=count(counted.get("longest")),
                hash=text(split.get("hash")),
            )
        )
    return found


@dataclass(frozen=True)
class LabelShare:
    """How often one label occurs in training and test, and the bar of its training share."""

    label: str
    train: str
    test: str
    bar: Markup


def label_shares(evidence: Evidence) -> tuple[list[LabelShare], int]:
    """Labels by training frequency, and how many labels were left out of the list."""
    if evidence.verdict.get("kind", evidence.task.get("kind")) != "classification":
        return [], 0
    counts = {
        name: Counter(text(row.get("output")) for row in evidence.splits[name])
        for name in ("train", "test")
    }
    listed = evidence.manifest.get("labels")
    labels = dict.fromkeys(texts(listed) + list(counts["train"]) + list(counts["test"]))
    if not counts["train"] and not counts["test"]:
        return [], 0
    main = counts["train"] if counts["train"] else counts["test"]
    most = max(main.values())
    order = sorted(labels, key=lambda label: -main[label])
    shares = [
        LabelShare(
            label,
            _share(counts["train"], label),
            _share(counts["test"], label),
            bar(main[label] / most),
        )
        for label in order[:LABELS]
    ]
    return shares, len(order) - len(shares)


def _share(counts: Counter[str], label: str) -> str:
    total = sum(counts.values())
    return f"{counts[label]:,} ({percent(counts[label] / total, 0)})" if total else DASH
