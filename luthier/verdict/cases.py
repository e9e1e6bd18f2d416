"""The failing examples of a report: what every arm answered to the same test row, side by side."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from html import escape
from typing import Any

from luthier.evaluation.metrics.squad import told_answers
from luthier.verdict.evidence import JSON, Arm, Evidence, text, texts
from luthier.verdict.formatting import Scale, clip, number

CASES = 200  # rows shown at most
INPUT_CHARACTERS = 700
ANSWER_CHARACTERS = 320
BUDGET = 1_100_000  # bytes of HTML that the examples may take
NARROW = 16  # characters of an answer that fit into a narrow column
MATRIX_LABELS = 16  # more labels than this make a list of confusions, not a table


@dataclass(frozen=True)
class Text:
    """A text that may have been cut: `left_out` characters are missing at its end."""

    shown: str
    left_out: int = 0


@dataclass(frozen=True)
class Reply:
    """One arm's answer to one row; `state` is right, wrong, part, unscored or missing."""

    arm: str
    text: Text
    state: str
    score: str


@dataclass(frozen=True)
class Case:
    """One test row and all answers to it. `tags` are the filters it passes."""

    id: str
    input: Text
    reference: Text
    replies: tuple[Reply, ...]
    tags: tuple[str, ...]


@dataclass(frozen=True)
class Cases:
    """The examples of a report.

    Attributes:
        shown: the rows, those that the arm in `focus` got wrong first.
        total: how many test rows there are.
        wrong: how many of all rows that arm got wrong.
        exact: every score is 0 or 1; otherwise "wrong" means a score below one half.
        filters: (tag, words, how many of the shown rows) for the filter box.
        cut: some text was cut.
        short: most answers fit into a narrow column.
    """

    shown: tuple[Case, ...]
    total: int
    wrong: int
    focus: str
    exact: bool
    filters: tuple[tuple[str, str, int], ...]
    cut: bool
    short: bool


@dataclass(frozen=True)
class Confusion:
    """Reference label by predicted label, of one arm.

    Attributes:
        labels: names of rows and columns; empty when there are too many for a table.
        counts: counts[i][j] rows of label i that were answered with label j.
        other: per row, answers that are no label.
        pairs: (reference, answer, count) of what was confused, most frequent first.
        pairs_left_out: how many kinds of confusion `pairs` leaves out.
    """

    arm: str
    labels: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    other: tuple[int, ...]
    pairs: tuple[tuple[str, str, int], ...]
    pairs_left_out: int


def build_cases(evidence: Evidence, focus: Arm | None, scale: Scale) -> Cases:
    """Line up the predictions of all arms that answered, by row id.

    Args:
        evidence: the run folder.
        focus: the arm whose mistakes come first: the recommended one, else the best.
        scale: how scores are written.
    """
    arms = [arm for arm in evidence.arms if arm.predictions]
    arms.sort(key=lambda arm: (arm is not focus, -(number(arm.result.get("score")) or 0.0)))
    answers = {arm.name: _by_id(arm.predictions) for arm in arms}
    rows: dict[str, JSON] = _by_id(evidence.splits["test"])
    for arm in arms:
        for key, row in answers[arm.name].items():
            rows.setdefault(key, row)
    scores = [
        value
        for found in answers.values()
        for row in found.values()
        if (value := number(row.get("score"))) is not None
    ]
    exact = all(value in (0.0, 1.0) for value in scores)
    order = sorted(
        enumerate(rows.items()),
        key=lambda item: (*_urgency(item[1][0], answers, focus, exact), item[0]),
    )
    # of a question's right answers any one is enough; they are read better than a JSON list
    several = evidence.verdict.get("kind") == "qa"
    wrong = 0
    if focus is not None and focus.name in answers:
        wrong = sum(_state(row, exact) == "wrong" for row in answers[focus.name].values())
    shown: list[Case] = []
    spent = 0
    for _, (key, row) in order[:CASES]:
        case = _case(key, row, arms, answers, exact, scale, several)
        spent += _size(case)
        if spent > BUDGET and shown:
            break
        shown.append(case)
    cut = any(
        case.input.left_out or case.reference.left_out or any(r.text.left_out for r in case.replies)
        for case in shown
    )
    sizes = [len(reply.text.shown) for case in shown for reply in case.replies]
    return Cases(
        shown=tuple(shown),
        total=len(rows),
        wrong=wrong,
        focus=focus.name if focus else "",
        exact=exact,
        filters=_filters(arms, shown, exact),
        cut=cut,
        short=sum(size > NARROW for size in sizes) <= 0.2 * len(sizes),
    )


def _by_id(rows: list[JSON]) -> dict[str, JSON]:
    """Rows by id; a row without one goes by its place."""
    found: dict[str, JSON] = {}
    for place, row in enumerate(rows):
        found.setdefault(text(row.get("id")) or f"row {place + 1}", row)
    return found


def _state(row: JSON | None, exact: bool) -> str:
    if row is None:
        return "missing"
    score = number(row.get("score"))
    if score is None:
        return "unscored"
    if score >= 1:
        return "right"
    return "wrong" if exact or score < 0.5 else "part"


def _urgency(
    key: str, answers: dict[str, dict[str, JSON]], focus: Arm | None, exact: bool
) -> tuple[float, float]:
    """Sort key: the focus arm's mistakes, then disagreements, then what everybody answered."""
    own = answers.get(focus.name, {}).get(key) if focus else None
    score = number(own.get("score")) if own else None
    first = 1.0 if score is None else score
    return first, 0.0 if _disagree(key, answers, exact) else 1.0


def _disagree(key: str, answers: dict[str, dict[str, JSON]], exact: bool) -> bool:
    scores = [
        value
        for found in answers.values()
        if key in found and (value := number(found[key].get("score"))) is not None
    ]
    return bool(scores) and max(scores) - min(scores) >= (1 if exact else 0.3)


def _case(
    key: str,
    row: JSON,
    arms: list[Arm],
    answers: dict[str, dict[str, JSON]],
    exact: bool,
    scale: Scale,
    several: bool,
) -> Case:
    first = next((found[key] for found in answers.values() if key in found), {})
    reference = row.get("output", row.get("reference", first.get("reference")))
    replies, tags = [], []
    for index, arm in enumerate(arms):
        answer = answers[arm.name].get(key)
        state = _state(answer, exact)
        if state == "wrong":
            tags.append(f"wrong-{index}")
        score = "" if exact or answer is None else scale.show(answer.get("score"))
        said = _text(answer.get("prediction") if answer else "", ANSWER_CHARACTERS)
        replies.append(Reply(arm.name, said, state, score))
    states = {reply.state for reply in replies}
    if states == {"wrong"}:
        tags.append("all-wrong")
    if _disagree(key, answers, exact):
        tags.append("disagree")
    return Case(
        id=text(key),
        input=_text(row.get("input", first.get("input")), INPUT_CHARACTERS),
        reference=_text(
            " / ".join(told_answers(text(reference))) if several else reference, ANSWER_CHARACTERS
        ),
        replies=tuple(replies),
        tags=tuple(tags),
    )


def _text(value: Any, longest: int) -> Text:
    return Text(*clip(text(value).strip(), longest))


def _size(case: Case) -> int:
    """Bytes that a case takes in the page, markup included, estimated from above."""
    parts = [case.id, case.input.shown, case.reference.shown]
    parts += [piece for reply in case.replies for piece in (reply.arm, reply.text.shown)]
    return 700 + 260 * len(case.replies) + sum(len(escape(part).encode()) for part in parts)


def _filters(arms: list[Arm], shown: list[Case], exact: bool) -> tuple[tuple[str, str, int], ...]:
    wrong = "is wrong" if exact else "scores below one half"
    choices = [("disagree", "Arms disagree"), ("all-wrong", f"Every arm {wrong}")]
    choices += [(f"wrong-{index}", f"{arm.name} {wrong}") for index, arm in enumerate(arms)]
    counted = [(tag, said, sum(tag in case.tags for case in shown)) for tag, said in choices]
    return tuple(item for item in counted if item[2])


def build_confusion(evidence: Evidence, arm: Arm | None) -> Confusion | None:
    """What one arm took for what, over the whole test; None when the task has no labels."""
    if arm is None or not arm.predictions or evidence.verdict.get("kind") != "classification":
        return None
    references = {
        key: text(row.get("output")) for key, row in _by_id(evidence.splits["test"]).items()
    }
    labels = texts(evidence.manifest.get("labels"))
    seen: list[tuple[str, str]] = []
    for key, row in _by_id(arm.predictions).items():
        reference = text(row.get("reference")) or references.get(key, "")
        said = reference if number(row.get("score")) == 1 else text(row.get("prediction")).strip()
        seen.append((reference, said))
    labels = list(dict.fromkeys([*labels, *sorted({reference for reference, _ in seen})]))
    known = {label.strip().casefold(): index for index, label in enumerate(labels)}
    counts = [[0] * len(labels) for _ in labels]
    other = [0] * len(labels)
    confused: Counter[tuple[str, str]] = Counter()
    for reference, said in seen:
        row_index, column = known[reference.strip().casefold()], known.get(said.casefold())
        if column is None:
            other[row_index] += 1
        else:
            counts[row_index][column] += 1
        if column != row_index:
            confused[labels[row_index], "no label" if column is None else labels[column]] += 1
    small = len(labels) <= MATRIX_LABELS
    pairs = [(reference, said, times) for (reference, said), times in confused.most_common()]
    return Confusion(
        arm=arm.name,
        labels=tuple(labels) if small else (),
        counts=tuple(tuple(row) for row in counts) if small else (),
        other=tuple(other) if small else (),
        pairs=tuple(pairs[:20]) if not small else (),
        pairs_left_out=max(0, len(pairs) - 20) if not small else 0,
    )
