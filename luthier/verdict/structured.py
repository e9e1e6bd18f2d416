"""The report's part on structured answers: the schema, how many keep to it, and field by field."""

from __future__ import annotations

import json
from dataclasses import dataclass

from luthier.verdict.evidence import JSON, Arm, Evidence, dicts, mapping, text
from luthier.verdict.formatting import DASH, clip, count, number, percent
from luthier.verdict.views import Cell, Line, Table, line_of, ranked

#: Characters of the schema, and fields, that are shown.
_SCHEMA, _FIELDS = 8000, 60


@dataclass(frozen=True)
class Structured:
    """What the part shows.

    Attributes:
        given: whether the task gives the schema; else it was read off the training outputs.
        schema: as indented JSON, or "" where the folder does not hold it.
        schema_left_out: characters of it that are cut.
        validity: how many answers of each arm are JSON, and valid.
        problems: (arm, what is wrong, how many answers) of the arms, the most frequent first.
        fields: each field by arm; None where none is known.
        fields_left_out: rarer fields that the table leaves out.
    """

    given: bool
    schema: str
    schema_left_out: int
    validity: Table
    problems: tuple[tuple[str, str, str], ...]
    fields: Table | None
    fields_left_out: int


def structured(evidence: Evidence, compared: list[Arm]) -> Structured | None:
    """The part; None for a task whose answers have no structure.

    Args:
        evidence: the run folder.
        compared: the arms whose fields are listed.
    """
    arms = [arm for arm in ranked(evidence) if mapping(arm.result.get("schema"))]
    fields, left_out = _fields(compared)
    if not arms and fields is None:
        return None
    held = mapping(evidence.verdict.get("answer_schema"))
    schema = mapping(held.get("schema")) or mapping(evidence.task.get("schema"))
    shown, cut = clip(json.dumps(schema, indent=2, ensure_ascii=False), _SCHEMA)
    lines = tuple(_validity(evidence, arm) for arm in arms)
    return Structured(
        given=any(mapping(arm.result.get("schema")).get("given") is True for arm in arms),
        schema=text(shown) if schema else "",
        schema_left_out=cut,
        validity=Table("Answers that keep to the schema", _HEADS, lines),
        problems=tuple(problem for arm in arms for problem in _problems(arm)),
        fields=fields,
        fields_left_out=left_out,
    )


_HEADS = ("Valid against the schema", "JSON at all", "Most frequent problem")


def _validity(evidence: Evidence, arm: Arm) -> Line:
    held = mapping(arm.result.get("schema"))
    problems = _problems(arm)
    first = f"{problems[0][1]} ({problems[0][2]})" if problems else "none"
    return line_of(
        evidence,
        arm,
        Cell(percent(held.get("valid_rate"))),
        Cell(percent(held.get("json_rate"))),
        Cell(first),
    )


def _problems(arm: Arm) -> list[tuple[str, str, str]]:
    return [
        (arm.name, text(item.get("problem")), count(item.get("count")))
        for item in dicts(mapping(arm.result.get("schema")).get("problems"))
    ]


def _fields(arms: list[Arm]) -> tuple[Table | None, int]:
    """F1 of each field with precision and recall; the most wanted first."""
    held = {
        arm.name: {text(f.get("field")): f for f in dicts(arm.result.get("fields"))} for arm in arms
    }
    names: dict[str, JSON] = {}
    for own in held.values():
        for name, field in own.items():
            names.setdefault(name, field)
    if not names:
        return None, 0
    order = sorted(names, key=lambda name: -(number(names[name].get("wanted")) or 0.0))
    lines = [
        Line(
            name or "(the whole)",
            False,
            f"wanted {count(names[name].get('wanted'))} times",
            tuple(_field(own.get(name)) for own in held.values()),
        )
        for name in order[:_FIELDS]
    ]
    table = Table("F1 of each field", tuple(held), tuple(lines), first="Field")
    return table, max(0, len(order) - _FIELDS)


def _field(found: JSON | None) -> Cell:
    if not found or number(found.get("f1")) is None:
        return Cell(DASH)
    sub = (
        f"precision {percent(found.get('precision'), 0)}, recall {percent(found.get('recall'), 0)}"
    )
    return Cell(percent(found.get("f1")), sub)
