"""What differs between runs: the model, the data, the seed, settings of the task, versions.

What is the same in all of them is not listed. Paths of data are not compared, as every run has its
own; what the data say is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from luthier.across.sides import Side
from luthier.verdict.evidence import JSON, mapping, text
from luthier.verdict.formatting import DASH, count, memory, number
from luthier.verdict.wording import listed

#: Keys of the task that are said elsewhere, or that decide nothing.
_ELSEWHERE = frozenset({"data", "model", "seed", "arms", "goal", "name"})
MODEL = "model"
#: Words of the headline at most.
_NAMED = 4


@dataclass(frozen=True)
class Difference:
    """One thing that is not the same in all runs.

    Attributes:
        what: its name, as people say it.
        values: of each run, in the runs' order; "–" where a run has none.
        matters: whether the headline names it: what was chosen, and no label, date or price.
    """

    what: str
    values: tuple[str, ...]
    matters: bool = True


def differences(sides: Sequence[Side]) -> list[Difference]:
    """Everything that differs, the weightiest first."""
    found = [
        Difference(MODEL, tuple(_model(side) for side in sides)),
        *(
            Difference(f"{words} rows", tuple(_split(side, name) for side in sides))
            for name, words in (("train", "training"), ("validation", "validation"))
        ),
        Difference("test rows", tuple(_split(side, "test") for side in sides)),
        Difference("labels", tuple(", ".join(side.labels) or DASH for side in sides)),
        *_settings(sides),
        Difference("seed", tuple(str(side.task.seed) for side in sides)),
        Difference("arms", tuple(", ".join(a.name for a in s.evidence.arms) for s in sides)),
        Difference("machine", tuple(_machine(side.manifest) for side in sides)),
        *_versions(sides),
        Difference("task", tuple(side.task.name for side in sides), matters=False),
        Difference("goal", tuple(side.task.goal or DASH for side in sides), matters=False),
    ]
    return [one for one in found if len(set(one.values)) > 1]


def summary(found: Sequence[Difference], of: Sequence[Side] = ()) -> str:
    """What differs, in a clause: "the runs differ in: model, seed".

    Args:
        found: the differences.
        of: the runs, where they are some of those on the page.
    """
    who = listed([side.name for side in of]) if of else "the runs"
    named = [one.what for one in found if one.matters]
    if not named:
        return f"nothing that matters differs between {who}"
    more = len(named) - _NAMED
    shown = named[:_NAMED] if more > 1 else named
    rest = f" and {len(named) - len(shown)} more" if len(shown) < len(named) else ""
    return f"{who} differ in: {', '.join(shown)}{rest}"


def shared_training(sides: Sequence[Side]) -> list[str]:
    """How training rows of one run are among those of another, where they differ."""
    said = []
    rows = [_training(side) for side in sides]
    for index, one in enumerate(sides):
        for place in range(index + 1, len(sides)):
            mine, theirs = rows[index], rows[place]
            if not mine or not theirs or mine == theirs:
                continue
            both = len(mine & theirs)
            other = sides[place].name
            if not both:
                said.append(f"{one.name} and {other} share no training row.")
            elif both == len(mine):
                said.append(f"All training rows of {one.name} are among those of {other}.")
            elif both == len(theirs):
                said.append(f"All training rows of {other} are among those of {one.name}.")
            else:
                said.append(
                    f"{one.name} and {other} share {both:,} training rows (of {len(mine):,} and "
                    f"{len(theirs):,})."
                )
    return said


def measured_elsewhere(sides: Sequence[Side]) -> str:
    """A sentence where times cannot be compared, as machines differ; else ""."""
    if len({_machine(side.manifest) for side in sides}) < 2:
        return ""
    return "The runs were made on different machines: times and memory cannot be compared."


def probed_otherwise(sides: Sequence[Side]) -> str:
    """A sentence where forgetting was measured by different probes; else ""."""
    by = {side.name: side.task.to_dict()["forgetting"] for side in sides}
    if len({json.dumps(one, sort_keys=True) for one in by.values()}) < 2:
        return ""
    return "What was forgotten was measured by different probes: the drops cannot be compared."


def _training(side: Side) -> set[tuple[str, str]]:
    return {
        (text(row.get("input")), text(row.get("output"))) for row in side.evidence.splits["train"]
    }


def _model(side: Side) -> str:
    held = mapping(side.manifest.get("model"))
    return text(held.get("name")) or side.task.model


def _split(side: Side, name: str) -> str:
    """How many rows, and the start of the hash of what they say."""
    held = mapping(mapping(side.manifest.get("splits")).get(name))
    rows = held.get("rows", len(side.evidence.splits[name]))
    digest = text(held.get("hash"))[:8]
    return f"{count(rows)} ({digest})" if digest else count(rows)


def _machine(manifest: Mapping[str, Any]) -> str:
    held = mapping(manifest.get("machine"))
    size = number(held.get("memory_bytes"))
    gpus = held.get("gpus")
    parts = [
        f"{count(held.get('cores'))} cores",
        # memory that is left to a machine differs by a little from day to day
        memory(round(size, -9)) if size else "",
        ", ".join(map(text, gpus)) if isinstance(gpus, list) and gpus else "no GPU",
        text(held.get("platform")),
    ]
    return ", ".join(part for part in parts if part)


def _versions(sides: Sequence[Side]) -> list[Difference]:
    held: list[JSON] = [
        {**mapping(side.manifest.get("versions")), "luthier": side.manifest.get("luthier")}
        for side in sides
    ]
    names = dict.fromkeys(name for one in held for name in one)
    return [
        Difference(f"version of {name}", tuple(text(one.get(name)) or DASH for one in held))
        for name in names
    ]


def _settings(sides: Sequence[Side]) -> list[Difference]:
    """Keys of the task files; a section is compared key by key."""
    held = [
        dict(_flat({k: v for k, v in side.task.to_dict().items() if k not in _ELSEWHERE}))
        for side in sides
    ]
    names = dict.fromkeys(name for one in held for name in one)
    silent = ("labels", "budget.", "prices.")
    return [
        Difference(
            name,
            tuple(_said(one.get(name)) for one in held),
            matters=not name.startswith(silent),
        )
        for name in names
        if name != "labels"
    ]


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in values.items():
        if isinstance(value, dict) and value and key != "schema":
            found += _flat(value, f"{prefix}{key}.")
        else:
            found.append((f"{prefix}{key}", value))
    return found


def _said(value: Any) -> str:
    if value is None or value == [] or value == "" or value == {}:
        return DASH
    if isinstance(value, list) and all(isinstance(item, str | int | float) for item in value):
        return listed([str(item) for item in value])
    return text(value)
