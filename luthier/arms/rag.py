"""Retrieval: the passages most like the question, in the prompt."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from luthier.arms.base import ARMS, Answerer, Arm, Choice, Fit, Workplace
from luthier.arms.grounded import (
    GroundedAnswerer,
    Reader,
    index_of,
    scope_of,
    settled,
    with_passages,
    without_documents,
)
from luthier.arms.prompted import (
    GENERATE,
    PromptedAnswerer,
    Reading,
    instructed,
    open_prompted,
    untrained,
)
from luthier.arms.readings import conversations, longest_answer, score_on
from luthier.models.pool import ModelPool
from luthier.retrieval.grounding import FORMS
from luthier.retrieval.passages import Mode
from luthier.task import Task

#: Validation rows that a way of asking is tried on.
ROWS = 24
_PASSAGES = (3, 1, 5)
_MODES: tuple[Mode, ...] = ("hybrid", "bm25")
_AGAIN = (False, True)
_SUPPORT = (0.0, 0.5, 1.0)


@ARMS.register("rag")
class Rag(Arm):
    """Searches the task's documents and lets the model answer from what was found."""

    name = "rag"
    title = "Retrieval"
    order = 25

    def unsuited(self, task: Task) -> str | None:
        """See `Arm.unsuited`."""
        return without_documents(self.name, task) or super().unsuited(task)

    def least_seconds(self, place: Workplace, tests: int) -> float:
        """Reading three passages for every answer, and for a dozen tries on validation."""
        from luthier.arms.planning import answering_seconds

        rows = min(ROWS, len(place.validation))
        shown = _PASSAGES[0] * place.task.retrieval.size
        return answering_seconds(place, tests + 4 * rows, shown=shown)

    def fit(self, place: Workplace) -> Fit:
        """Index the documents, and choose on validation how they are searched and shown."""
        task = place.task
        index = index_of(task, place.folder, place.pool, place.reporter)
        prompt = instructed(task, place.pool)
        settings = {
            "model": task.model,
            "prompt": prompt.to_dict(),
            "reading": Reading(GENERATE, longest_answer(task, prompt, place.train)).to_dict(),
        }
        inner = open_prompted(self.name, settings, place.pool, task=task)
        reader, choices, notes = choose_reader(place, self.name, inner, index)
        return Fit(
            settings={
                **settings,
                "reader": reader.to_dict(),
                "index_version": index.version,
            },
            choices=choices,
            costs=untrained(task, place.pool),
            notes=[*prompt.notes, *notes],
        )

    def open(
        self,
        task: Task,
        labels: tuple[str, ...] | None,
        folder: Path,
        settings: dict[str, Any],
        pool: ModelPool,
    ) -> Answerer:
        """The answerer, over the run's index as it is now."""
        del labels
        inner = open_prompted(self.name, settings, pool, task=task)
        reader = Reader(**settings["reader"])
        return GroundedAnswerer(
            self.name, inner, index_of(task, folder, pool), scope_of(task), reader
        )


def choose_reader(
    place: Workplace,
    name: str,
    inner: PromptedAnswerer,
    index: Any,
    forms: Sequence[str] = tuple(FORMS),
) -> tuple[Reader, list[Choice], list[str]]:
    """The form, the number of passages, the way of searching and the least support that score
    best on validation, chosen one after another.

    Args:
        place: of the arm.
        name: of the arm.
        inner: reads and writes.
        index: of the documents.
        forms: that may be chosen.

    Returns:
        (the reader, what was chosen from what, notes).
    """
    wanted = place.task.retrieval
    start = Reader(
        k=wanted.k or _PASSAGES[0],
        mode=wanted.mode or _MODES[0],
        rerank=bool(wanted.rerank),
        least_support=0.0 if wanted.least_support is None else wanted.least_support,
    )
    rows = place.validation[:ROWS]
    if not rows:
        return start, [], ["No validation rows: how passages are shown was not chosen."]
    asked = conversations(rows)
    scope = scope_of(place.task)
    tried: dict[Reader, tuple[float, list[Any]]] = {}
    began = time.monotonic()

    def attempt(reader: Reader) -> float:
        if reader not in tried:
            found = index.search_many(
                [one[-1].content for one in asked],
                reader.k,
                mode=reader.mode,
                scope=scope,
                rerank=reader.rerank,
            )
            shown = [
                with_passages(one, passages, reader.form)
                for one, passages in zip(asked, found, strict=True)
            ]
            with place.reporter.work(f"{name}: trying on validation", len(asked)) as bar:
                written = inner.answer(shown, progress=bar.advance)
            pairs = list(zip(written, found, strict=True))
            answers = [settled(answer, passages, 0.0) for answer, passages in pairs]
            tried[reader] = score_on(place, rows, answers), pairs
        return tried[reader][0]

    choices: list[Choice] = []
    options = [_with(start, form=form) for form in forms]
    best = options[0]
    if len(options) > 1:
        best = _best_of("how the question is asked", options, attempt, choices, len(rows))
    else:
        attempt(best)
    each = (time.monotonic() - began) / max(1, len(tried))
    notes = []
    for what, key, values in (
        ("passages shown", "k", _PASSAGES if wanted.k is None else ()),
        ("how passages are found", "mode", _MODES if wanted.mode is None else ()),
        ("whether they are put in order again", "rerank", _AGAIN if wanted.rerank is None else ()),
    ):
        if not values:
            continue
        # a try takes what the others took; half of the time is for the test
        if (time.monotonic() - began + len(values) * each) / 60 > place.minutes / 2:
            notes.append(f"{what}: not chosen on validation, to stay within the budget.")
            continue
        options = [_with(best, **{key: value}) for value in values]
        best = _best_of(what, options, attempt, choices, len(rows))
    if wanted.least_support is None:
        attempt(best)
        pairs = tried[best][1]
        scores = [
            score_on(place, rows, [settled(answer, found, least) for answer, found in pairs])
            for least in _SUPPORT
        ]
        chosen = max(range(len(scores)), key=lambda i: (scores[i], -i))
        choices.append(
            Choice(
                what="the least support of an answer",
                options=[
                    {"value": least, "score": score}
                    for least, score in zip(_SUPPORT, scores, strict=True)
                ],
                chosen=_SUPPORT[chosen],
                why=f"the highest score on {len(rows)} validation examples",
            )
        )
        best = _with(best, least_support=_SUPPORT[chosen])
    return best, choices, notes


def _best_of(
    what: str, options: list[Reader], attempt: Any, choices: list[Choice], rows: int
) -> Reader:
    scores = [attempt(option) for option in options]
    # among equals the first, which is the default or the shorter prompt
    place = max(range(len(options)), key=lambda i: (scores[i], -i))
    keys = [k for k in vars(options[0]) if len({getattr(o, k) for o in options}) > 1]
    named = [", ".join(str(getattr(option, key)) for key in keys) for option in options]
    choices.append(
        Choice(
            what=what,
            options=[{"value": n, "score": s} for n, s in zip(named, scores, strict=True)],
            chosen=named[place],
            why=f"the highest score on {rows} validation examples",
        )
    )
    return options[place]


def _with(reader: Reader, **changes: Any) -> Reader:
    return Reader(**{**reader.to_dict(), **changes})
