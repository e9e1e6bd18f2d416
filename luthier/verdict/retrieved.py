"""The report's part on retrieval: what was found, whose fault it was, what was cited."""

from __future__ import annotations

from dataclasses import dataclass

from luthier.verdict.evidence import Evidence, mapping
from luthier.verdict.formatting import DASH, figure, number, percent
from luthier.verdict.views import Cell, Table, line_of, ranked


@dataclass(frozen=True)
class Retrieved:
    """What the part shows.

    Attributes:
        said: a sentence each.
        search: what was found; None where no row names its document.
        answers: what was made of it.
    """

    said: tuple[str, ...]
    search: Table | None
    answers: Table


def retrieved(evidence: Evidence) -> Retrieved | None:
    """The part; None for a run without documents."""
    held = [
        (arm, mapping(arm.result.get("retrieval")))
        for arm in ranked(evidence)
        if mapping(arm.result.get("retrieval"))
    ]
    if not held:
        return None
    found, answers, said = [], [], []
    for arm, values in held:
        search, faults = mapping(values.get("search")), mapping(values.get("faults"))
        cited, silent = mapping(values.get("citations")), mapping(values.get("abstention"))
        if search:
            numbers = [number(search.get(key)) for key in _SEARCH]
            cells = [Cell(DASH if one is None else figure(one)) for one in numbers]
            found.append(line_of(evidence, arm, *cells))
        wrong = number(faults.get("wrong"))
        if wrong and arm.result.get("ceiling") is not True:
            missed, held_back, read = (
                int(number(faults.get(who)) or 0) for who in ("retriever", "withheld", "reader")
            )
            between = ""
            if held_back:
                verb = "was" if held_back == 1 else "were"
                between = f" {held_back} {verb} not let pass for want of support,"
            said.append(
                f"{arm.name}: of {wrong:.0f} wrong answers to questions that have one, {missed} "
                f"had not been shown the right document (the search's fault),{between} and "
                f"{read} had (the reader's)."
            )
        answers.append(
            line_of(
                evidence,
                arm,
                Cell(_of(faults.get("retriever"), wrong)),
                Cell(_of(faults.get("withheld"), wrong)),
                Cell(_of(faults.get("reader"), wrong)),
                Cell(percent(cited.get("precision")), _counted(cited.get("given"))),
                Cell(percent(cited.get("recall")), _counted(cited.get("answers"))),
                Cell(percent(values.get("faithfulness"))),
                Cell(percent(silent.get("precision")), _counted(silent.get("abstained"))),
                Cell(percent(silent.get("recall")), _counted(silent.get("unanswerable"))),
            )
        )
    return Retrieved(
        tuple(said),
        Table("What was found", tuple(_SEARCH.values()), tuple(found)) if found else None,
        Table("What was made of it", _ANSWERS, tuple(answers)),
    )


_SEARCH = {
    "recall@1": "Recall at 1",
    "recall@3": "Recall at 3",
    "recall@k": "Recall of all shown",
    "mrr": "MRR",
    "ndcg": "nDCG",
    "context_precision": "Context precision",
}
_ANSWERS = (
    "Search's faults",
    "Not let pass",
    "Reader's faults",
    "Citation precision",
    "Citation recall",
    "Supported words",
    "Abstains rightly",
    "Finds what has no answer",
)


def _of(part: object, whole: float | None) -> str:
    value = number(part)
    return DASH if value is None or whole is None else f"{value:.0f} of {whole:.0f}"


def _counted(value: object) -> str:
    held = number(value)
    return "" if held is None else f"of {held:.0f}"
