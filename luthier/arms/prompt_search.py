"""A searched prompt: wordings of the instruction and sets of examples, tried against each other.

The search goes from coarse to fine: wordings without examples; sets of examples (random, typical,
diverse, nearest to the question) under the task's own wording; the best of both together; and at
last single examples exchanged where that helps. It scores prompts on training rows that none of
them shows, so that the validation rows are fresh for the choice between the few finalists, among
which the plain prompt and the best random draw always are. The test is never seen.

Sources: instructions written by a model, Zhou et al. 2023 (arXiv 2211.01910); nearest examples, Liu
et al. 2022 (2101.06804); diverse ones, Zhang et al. 2023 (2210.03493); that both together are to be
searched, and on the score itself, Opsahl-Ong et al. 2024 (2406.11695).
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from luthier.arms.base import ARMS, Answerer, Choice, Fit, Workplace
from luthier.arms.nearest import open_nearest
from luthier.arms.prompt_making import Kitchen, Rows, divided, wordings_of
from luthier.arms.prompt_sets import NOTHING
from luthier.arms.prompt_trials import Candidate, Clock, Trials, exchange, race
from luthier.arms.prompted import instructed, open_prompted, untrained
from luthier.arms.readings import longest_answer, read_best, reading_choice
from luthier.arms.zero_shot import ZeroShot
from luthier.data.examples import Example
from luthier.models.pool import ModelPool
from luthier.prompts.wordings import Wording
from luthier.task import Task

#: Validation rows that finalists are compared on.
_LABELLED_FINAL, _WRITTEN_FINAL = 100, 40
#: With fewer rows in the finals they do not decide alone.
_FEW = 30
#: Rows on which all of a race's candidates are tried, as shares of the rows.
_RUNGS = (0.25, 0.5, 1.0)
#: The share of the arm's time that the search takes, and at which shares of that its parts end.
_SHARE, _WORDINGS, _SETS, _CROSSED = 0.4, 0.3, 0.6, 0.8
#: Exchanges of single examples that are tried.
_EXCHANGES = 12


@ARMS.register("prompt-search")
class PromptSearchArm(ZeroShot):
    """Asks the model with the instruction and examples that a search found best."""

    name = "prompt-search"
    title = "Searched prompt"
    seeded = True
    order = 32
    # it takes what time it is given, and one more arm widens the intervals of all the others
    in_auto = False

    def least_seconds(self, place: Workplace, tests: int) -> float:
        """Answering the test, the finals, and as much again for the search."""
        from luthier.arms.planning import answering_seconds

        final = min(_final_rows(place), len(place.validation))
        return answering_seconds(place, tests + 8 * final)

    def fit(self, place: Workplace) -> Fit:
        """Search, and let the finalists meet on validation rows."""
        task = place.task
        began = time.perf_counter()
        settings = task.prompt_search
        minutes = settings.minutes or _SHARE * place.minutes
        clock = Clock(60 * minutes)
        bare = instructed(task, place.pool)
        rows = divided(place)
        longest = longest_answer(task, bare, place.train)
        trials = Trials(
            place, self.name, rows.search, longest, place.folder / "search" / "journal.jsonl"
        )
        kitchen = Kitchen(place, self.name, bare, rows, minutes)
        wordings = wordings_of(place, rows, by_a_model=not clock.out(_WORDINGS / 3))
        search = _Search(place, kitchen, trials, clock)
        finalists = search.finalists(wordings)
        searched = time.perf_counter() - began
        return self._decided(place, finalists, rows, kitchen, trials, clock, searched)

    def _decided(
        self,
        place: Workplace,
        finalists: Sequence[Candidate],
        rows: Rows,
        kitchen: Kitchen,
        trials: Trials,
        clock: Clock,
        searched: float,
    ) -> Fit:
        """The finals."""
        task = place.task
        loaded = place.pool.causal(task.model)
        final = rows.final[: _final_rows(place)] or rows.search
        results = []
        for number, finalist in enumerate(finalists):
            # rows that were searched on may not be shown to each other
            candidate = kitchen.widened(finalist, final) if rows.final else finalist
            reading, value, options = read_best(
                place,
                f"{self.name}, finalist {number + 1} of {len(finalists)}",
                place.pool.generator(task.model),
                candidate.prompt,
                final,
                loaded.context_length,
            )
            note = _in_search(trials, finalist)
            weighed = _weighed(value, len(final), trials, finalist) if rows.final else value
            rank = (weighed, -candidate.order, -number)
            results.append((rank, value, candidate, reading, options, note))
        # among equals the shorter prompt
        _, _, best, reading, options, _ = max(results, key=lambda result: result[0])
        where = "validation" if rows.final else rows.where
        tried = trials.table.values()
        notes = [
            *kitchen.notes,
            f"{len(tried)} prompts were tried on up to {len(rows.search)} {rows.where} rows that "
            "no prompt shows"
            + (", as many as the time allowed." if clock.ran_out else ".")
            + " The finalists then met on other rows.",
        ]
        if not rows.final:
            notes[-1] = notes[-1].replace("The finalists then met on other rows.", "")
            notes.append("There were no further rows, so the choice may flatter its winner.")
        choices = [
            Choice(
                what="the prompt",
                options=[
                    {"value": c.name, "score": v, "note": note} for _, v, c, _, _, note in results
                ],
                chosen=best.name,
                why=f"the highest score on {len(final)} {where} examples"
                + (
                    " and, as these are few, those of the search"
                    if rows.final and len(final) < _FEW
                    else ""
                )
                + "; of equals the shortest",
            )
        ]
        if options:
            choices.append(reading_choice(options, reading, len(final)))
        return Fit(
            settings={"model": task.model, "reading": reading.to_dict(), **kitchen.kept(best)},
            choices=choices,
            costs={**untrained(task, place.pool), "train_seconds": searched},
            notes=notes,
            extra={
                "search": {
                    "rows": len(rows.search),
                    "split": rows.where,
                    "tried": sorted(
                        tried, key=lambda t: (-t["rows"], -(t["score"] or 0.0), t["instruction"])
                    ),
                    "instructions": kitchen.texts,
                }
            },
        )

    def open(
        self,
        task: Task,
        labels: tuple[str, ...] | None,
        folder: Path,
        settings: dict[str, Any],
        pool: ModelPool,
    ) -> Answerer:
        """The answerer; with examples in the arm's folder where each question has its own."""
        if "room" in settings:
            return open_nearest(
                self.name, settings, folder / "model", pool, task=task, labels=labels
            )
        return open_prompted(self.name, settings, pool, task=task, labels=labels)


class _Search:
    """The order in which things are tried."""

    def __init__(self, place: Workplace, kitchen: Kitchen, trials: Trials, clock: Clock) -> None:
        self._place, self._kitchen, self._trials, self._clock = place, kitchen, trials, clock
        rows = len(trials.rows)
        self._rungs = sorted({max(1, round(share * rows)) for share in _RUNGS})

    def finalists(self, wordings: Sequence[Wording]) -> list[Candidate]:
        """The best found, and always the plain prompt and the best random draw."""
        make, whole = self._kitchen.make, self._rungs[-1]
        plain = make(wordings[0])
        assert plain is not None
        by_name = {one.name: one for one in wordings}
        worded = self._race((make(one) for one in wordings), _WORDINGS)
        sets = {one.name: one for one in self._kitchen.sets()}
        shown = self._race((make(wordings[0], one) for one in sets.values()), _SETS)
        best_wordings = list(dict.fromkeys([wordings[0].name, *(c.wording for c in worded[:2])]))
        crossed = self._race(
            (
                make(by_name[wording], sets.get(name, NOTHING))
                for wording in best_wordings
                for name in (NOTHING.name, *(c.shown for c in shown[:2]))
            ),
            _CROSSED,
            rungs=[whole],
        )
        found = list(crossed)
        fixed = next((c for c in found if c.examples), None)
        if fixed is not None:
            changed = exchange(
                fixed,
                self._kitchen.remade,
                self._proposals(fixed),
                lambda candidate: self._trials.value(candidate, whole),
                self._clock.out,
            )
            if changed is not fixed:
                found.append(changed)
        # of prompts that were scored on as many rows; among equals the shorter
        values = {c: self._trials.value(c, whole) for c in found}
        found = [c for c in found if values[c] > -math.inf]
        found.sort(key=lambda c: (-values[c], c.order))
        draw = next((c for c in shown if "draw" in c.shown), None)
        chosen = [*found[:2], plain, *([draw] if draw else [])]
        return list({c.key: c for c in chosen}.values())

    def _race(
        self,
        candidates: Iterable[Candidate | None],
        until: float,
        rungs: Sequence[int] | None = None,
    ) -> list[Candidate]:
        fitting = [one for one in candidates if one is not None]
        return race(
            fitting, self._trials.value, rungs or self._rungs, lambda: self._clock.out(until)
        )

    def _proposals(self, candidate: Candidate) -> Iterator[tuple[int, Example]]:
        """Examples to put in, of the labels that are misread before all, and where."""
        draws = random.Random(f"prompt-search-{self._place.task.seed}")
        misread = [row.output for row in self._trials.wrong(candidate)]
        pool = self._kitchen.shown
        by_output: dict[str, list[Example]] = {}
        for example in pool:
            by_output.setdefault(example.output, []).append(example)
        for _ in range(_EXCHANGES):
            wanted = by_output.get(draws.choice(misread)) if misread else None
            example = draws.choice(wanted or pool)
            same = [
                place
                for place, shown in enumerate(candidate.examples)
                if shown.output == example.output
            ]
            # in place of one with the same answer, where there is one, so that labels stay even
            yield draws.choice(same or list(range(len(candidate.examples)))), example


def _final_rows(place: Workplace) -> int:
    return _LABELLED_FINAL if place.labels else _WRITTEN_FINAL


def _weighed(value: float, rows: int, trials: Trials, finalist: Candidate) -> float:
    """The score that finalists are ranked by: where there are few rows of the finals, the rows of
    the search are counted too, though the search favours what it found."""
    held = trials.table.get(finalist.key)
    if rows >= _FEW or held is None or held["score"] is None:
        return value
    searched = int(held["rows"])
    return (rows * value + searched * float(held["score"])) / (rows + searched)


def _in_search(trials: Trials, candidate: Candidate) -> str | None:
    """What the search saw of a finalist."""
    held = trials.table.get(candidate.key)
    if held is None or held["score"] is None:
        return None
    return f"{held['score']:.3f} on {held['rows']} rows in the search"
