"""The report's part on tone and format: answers beside the outputs that the user wants."""

from __future__ import annotations

from dataclasses import dataclass

from luthier.evaluation.manner import NAMES
from luthier.verdict.evidence import JSON, Arm, Evidence, mapping
from luthier.verdict.formatting import DASH, number, pair, percent, plain
from luthier.verdict.views import Cell, Line, Table, ranked
from luthier.verdict.wording import listed


@dataclass(frozen=True)
class Manner:
    """What the part shows.

    Attributes:
        said: a sentence for each arm.
        table: traits by arm, with the wanted outputs and the references.
        nowhere: traits that neither answers nor references nor wanted outputs have, or "".
        english: whether words were looked at.
    """

    said: tuple[str, ...]
    table: Table
    nowhere: str
    english: bool


def manner_panel(evidence: Evidence) -> Manner | None:
    """The part; None where the task names no wanted outputs."""
    arms = [(arm, held) for arm in ranked(evidence) if (held := _held(arm))]
    if not arms:
        return None
    first = arms[0][1]
    keys = [key for key in NAMES if any(_one(held, key) for _, held in arms)]
    found = [key for key in keys if not _nowhere(key, [held for _, held in arms])]
    nowhere = [NAMES[key] for key in keys if key not in found]
    lines = tuple(_line(key, first, [held for _, held in arms]) for key in found)
    heads = ("Wanted", "References", *(arm.name for arm, _ in arms))
    return Manner(
        said=tuple(_sentence(arm, held) for arm, held in arms),
        table=Table("Tone and format, beside the outputs you want", heads, lines, first="Trait"),
        nowhere=f"In no text at all: {', '.join(nowhere)}." if nowhere else "",
        english=first.get("english") is True,
    )


def _nowhere(key: str, arms: list[JSON]) -> bool:
    """Whether nothing that was looked at has a trait."""
    own = [_one(held, key) for held in arms]
    counts = [mapping(one.get("wanted")).get("count") for one in own]
    shares = [
        mapping(one.get(who)).get("share") for one in own for who in ("answers", "references")
    ]
    return all(number(value) == 0 for value in (*counts, *shares))


def _held(arm: Arm) -> JSON:
    held = mapping(mapping(arm.result.get("behaviour")).get("manner"))
    return held if mapping(held.get("traits")) else {}


def _one(held: JSON, key: str) -> JSON:
    return mapping(mapping(held.get("traits")).get(key)) or mapping(
        mapping(held.get("numbers")).get(key)
    )


def _line(key: str, first: JSON, arms: list[JSON]) -> Line:
    said = NAMES[key]
    own = _one(first, key)
    wanted = mapping(own.get("wanted"))
    shown = (
        f"{_whole(wanted.get('count'))} of {_whole(wanted.get('of'))}"
        if wanted
        else _figure(own.get("wanted"))
    )
    references = own.get("references")
    cells = [
        Cell(shown),
        _share(mapping(references)) if wanted else Cell(_figure(references)),
        *(_answers(_one(held, key)) for held in arms),
    ]
    return Line(f"{said[:1].upper()}{said[1:]}", False, "", tuple(cells))


def _answers(one: JSON) -> Cell:
    answers = one.get("answers")
    cell = _share(mapping(answers)) if isinstance(answers, dict) else Cell(_figure(answers))
    return Cell(cell.text, "unlike what is wanted") if one.get("unlike") is True else cell


def _share(held: JSON) -> Cell:
    ends = pair(held.get("interval"))
    sub = f"{plain(100 * ends[0], 0)} to {plain(100 * ends[1], 0)}" if ends else ""
    return Cell(percent(held.get("share"), 0), sub)


def _figure(value: object) -> str:
    known = number(value)
    return DASH if known is None else plain(known, 0 if known == int(known) else 1)


def _whole(value: object) -> str:
    known = number(value)
    return DASH if known is None else plain(known, 0)


def _sentence(arm: Arm, held: JSON) -> str:
    """What of an arm's manner is unlike the wanted outputs, in words."""
    unlike = [key for key in NAMES if _one(held, key).get("unlike") is True]
    if not unlike:
        return f"{arm.name}: nothing in tone or format is shown to be unlike what is wanted."
    parts = []
    for key in unlike:
        own = _one(held, key)
        wanted = mapping(own.get("wanted"))
        if not wanted:
            parts.append(
                f"{_figure(own.get('answers'))} {NAMES[key]} (wanted: {_figure(own.get('wanted'))})"
            )
            continue
        share = percent(mapping(own.get("answers")).get("share"), 0)
        all_ = "every" if number(wanted.get("count")) else "no"
        parts.append(f"{share} of answers {_plural(NAMES[key])} ({all_} wanted one does)")
    return f"{arm.name} writes otherwise than wanted: {listed(parts)}."


def _plural(said: str) -> str:
    """A trait said of several answers: "ends with a mark" -> "end with a mark"."""
    verb, _, rest = said.partition(" ")
    known = {"has": "have", "is": "are"}
    return f"{known.get(verb, verb.removesuffix('s'))} {rest}".strip()
