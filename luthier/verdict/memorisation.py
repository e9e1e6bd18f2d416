"""The panel on what the arms learned by heart: a statement for each, and what it rests on."""

from __future__ import annotations

from luthier.verdict.evidence import JSON, Evidence, mapping, text, texts
from luthier.verdict.formatting import DASH, number, p_value, pair, percent
from luthier.verdict.views import Cell, Line, Table, is_recommended, ranked, tag_of

_SAID = {"yes": "memorised", "no": "not memorised", "undecided": "undecided"}


def memorisation_table(evidence: Evidence) -> Table | None:
    """What each arm that changed weights learned by heart; None where nobody looked."""
    lines = []
    for arm in ranked(evidence):
        found = mapping(arm.result.get("memorisation"))
        if not found:
            continue
        tests = mapping(found.get("tests"))
        lines.append(
            Line(
                arm.name,
                is_recommended(evidence, arm),
                tag_of(evidence, arm),
                (
                    Cell(_SAID.get(text(found.get("memorised")), DASH)),
                    _counted(mapping(tests.get("extraction")), "extracted"),
                    _counted(mapping(tests.get("pii")), "regurgitated"),
                    _apart(mapping(tests.get("membership"))),
                    _counted(mapping(tests.get("canaries")), "exposed", of="planted"),
                ),
            )
        )
    if not lines:
        return None
    heads = (
        "Rows learned by heart",
        "Rows it can write to the end",
        "Personal data it gives away",
        "Told from held-out rows",
        "Planted secrets",
    )
    return Table("What training left in the model of single rows", heads, tuple(lines))


def memorisation_reasons(evidence: Evidence) -> list[tuple[str, str]]:
    """(arm, why it is said) of the arms that memorised, or may have."""
    return [
        (arm.name, reason)
        for arm in ranked(evidence)
        for reason in texts(mapping(arm.result.get("memorisation")).get("reasons"))
    ]


def _counted(test: JSON, key: str, of: str = "tried") -> Cell:
    """So many of so many, with the corrected p."""
    hits, tried = number(test.get(key)), number(test.get(of))
    if hits is None or not tried:
        return Cell(DASH)
    return Cell(f"{hits:,.0f} of {tried:,.0f}", _p(test))


def _apart(test: JSON) -> Cell:
    """The AUC of the attack that tells most, with its interval, and how much is known."""
    best = mapping(mapping(test.get("attacks")).get(text(test.get("best"))))
    value, ends = number(best.get("auc")), pair(best.get("interval"))
    if value is None or ends is None:
        return Cell(DASH)
    said = f"{ends[0]:.2f} to {ends[1]:.2f}"
    # a run of an older version did not measure it
    if (share := number(mapping(test.get("known")).get("share"))) is not None:
        said += f"; {percent(max(0.0, share), 0)} known"
    return Cell(f"AUC {value:.2f}", said)


def _p(test: JSON) -> str:
    value = number(test.get("p_adjusted"))
    return "not judged" if value is None else f"p {p_value(value)}"
