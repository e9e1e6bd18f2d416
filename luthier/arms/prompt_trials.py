"""Trying prompts against each other on the same rows, the better ones on more of them.

What a prompt answered is remembered row by row, in memory and in a journal on disk, so that a
prompt that goes on to more rows is asked about the new ones alone, and a search that was
interrupted does not ask again.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from luthier.arms.base import Workplace
from luthier.arms.nearest import NearestPrompt
from luthier.arms.prompted import (
    CALIBRATED,
    GENERATE,
    LIKELIHOOD,
    PromptedAnswerer,
    Reading,
    best_label,
)
from luthier.arms.readings import EMPTY_QUESTIONS, conversations, score_on
from luthier.data.examples import Example, Message
from luthier.files import disk_errors, hash_of
from luthier.generation.answers import Answer
from luthier.prompts.prompt import Prompt


@dataclass(frozen=True)
class Candidate:
    """One prompt of a search.

    Attributes:
        wording: the name of its instruction.
        shown: the name of its set of examples.
        prompt: as the model reads it.
        examples: of `prompt.shots`; none where they differ from question to question.
        order: among equals the lower one is preferred: roughly the tokens it adds to a question.
    """

    wording: str
    shown: str
    prompt: Prompt = field(compare=False)
    examples: tuple[Example, ...] = field(default=(), compare=False)
    order: int = field(default=0, compare=False)

    @property
    def name(self) -> str:
        """For tables."""
        return f"{self.wording}; {self.shown}"

    @property
    def key(self) -> str:
        """Names the prompt, whatever it is called."""
        if isinstance(self.prompt, NearestPrompt):
            shown = [self.prompt.store.hash, self.prompt.size, self.prompt.room]
            return hash_of([self.prompt.hash, "nearest", *shown])
        return self.prompt.hash


class Trials:
    """Scores prompts on rows that none of them shows.

    Args:
        place: of the arm.
        name: of the arm.
        rows: that prompts are scored on, in the order they are taken.
        longest: tokens that an answer may have.
        journal: file that answers are added to, and read from when it is there.
    """

    def __init__(
        self, place: Workplace, name: str, rows: Sequence[Example], longest: int, journal: Path
    ) -> None:
        self._place, self._name, self._longest = place, name, longest
        self._generator = place.pool.generator(place.task.model)
        self._context = place.pool.causal(place.task.model).context_length
        self.rows = tuple(rows)
        self._journal = journal
        #: prompt: row: what it answered, a text or the labels' log-likelihoods
        self._known: dict[str, dict[str, Any]] = {}
        self.table: dict[str, dict[str, Any]] = {}
        self._read_journal()

    def value(self, candidate: Candidate, count: int) -> float:
        """The metric on the first `count` rows; -inf for a prompt that does not fit into the
        model's context with one of them."""
        rows = self.rows[:count]
        known = self._known.setdefault(candidate.key, {})
        new = [row for row in rows if row.id not in known]
        if new:
            self._remember(candidate.key, self._ask(candidate, new))
        answers = [known[row.id] for row in rows]
        if any(answer is None for answer in answers):
            value = -math.inf
        elif self._place.labels:
            value = self._likeliest(candidate, rows, answers)
        else:
            value = score_on(self._place, rows, [Answer(a, seconds=0.0) for a in answers])
        before = self.table.get(candidate.key)
        if before is None or before["rows"] <= len(rows):
            self.table[candidate.key] = {
                "instruction": candidate.wording,
                "examples": candidate.shown,
                "rows": len(rows),
                "score": None if value == -math.inf else round(value, 6),
            }
        return value

    def wrong(self, candidate: Candidate) -> list[Example]:
        """The rows whose label a prompt does not find; all rows where there are no labels."""
        labels = self._place.labels
        if not labels:
            return list(self.rows)
        known = self._known.get(candidate.key, {})
        plain = Reading(LIKELIHOOD)
        return [
            row
            for row in self.rows
            if row.id in known
            and known[row.id] is not None
            and labels[best_label(known[row.id], plain)] != row.output
        ]

    def _ask(self, candidate: Candidate, rows: Sequence[Example]) -> dict[str, Any]:
        prompt = candidate.prompt
        asked = {row.id: prompt.ask(row.messages) for row in rows}
        said = f"{self._name}: {candidate.name}"
        labels = self._place.labels
        if labels:
            label_ids = [prompt.answer_ids(label) for label in labels]
            for text in EMPTY_QUESTIONS:
                if text not in self._known[candidate.key]:
                    asked[text] = prompt.ask((Message("user", text),))
            room = self._context - max(map(len, label_ids))
            if any(len(ids) > room for ids in asked.values()):
                return dict.fromkeys(asked)
            with self._place.reporter.work(said, len(asked)) as bar:
                scores, _ = self._generator.score(list(asked.values()), label_ids, bar.advance)
            return {
                key: [round(value, 5) for value in row]
                for key, row in zip(asked, scores, strict=True)
            }
        if any(len(ids) + self._longest > self._context for ids in asked.values()):
            return dict.fromkeys(asked)
        answerer = PromptedAnswerer(
            self._name,
            self._generator,
            prompt,
            Reading(GENERATE, self._longest),
            task=self._place.task,
            context_length=self._context,
        )
        with self._place.reporter.work(said, len(rows)) as bar:
            answers = answerer.answer(conversations(rows), progress=bar.advance)
        return {row.id: answer.text for row, answer in zip(rows, answers, strict=True)}

    def _likeliest(
        self, candidate: Candidate, rows: Sequence[Example], scores: Sequence[list[float]]
    ) -> float:
        """The better of plain and calibrated likelihoods; which one serves is chosen later."""
        labels = self._place.labels
        assert labels is not None
        known = self._known[candidate.key]
        liking = [known[text] for text in EMPTY_QUESTIONS]
        bias = tuple(sum(column) / len(column) for column in zip(*liking, strict=True))
        return max(
            score_on(
                self._place,
                rows,
                [Answer(labels[best_label(row, reading)], seconds=0.0) for row in scores],
            )
            for reading in (Reading(LIKELIHOOD), Reading(CALIBRATED, bias=bias))
        )

    def _remember(self, key: str, answers: dict[str, Any]) -> None:
        self._known[key].update(answers)
        line = json.dumps({"prompt": key, "of": self._of, "answers": answers})
        with disk_errors(self._journal):
            self._journal.parent.mkdir(parents=True, exist_ok=True)
            with self._journal.open("a", encoding="utf-8") as file:
                file.write(line + "\n")

    @cached_property
    def _of(self) -> str:
        """What answers depend on besides prompt and row: rows are known by their ids alone."""
        rows = [[row.id, [[m.role, m.content] for m in row.messages]] for row in self.rows]
        return hash_of([self._place.task.model, self._place.labels, self._longest, rows])[:16]

    def _read_journal(self) -> None:
        if not self._journal.is_file():
            return
        text = self._journal.read_text(encoding="utf-8", errors="replace")
        if text and not text.endswith("\n"):  # the last line was being written
            with disk_errors(self._journal), self._journal.open("a", encoding="utf-8") as file:
                file.write("\n")
        for line in text.splitlines():
            try:
                held = json.loads(line)
                if held["of"] == self._of:
                    self._known.setdefault(held["prompt"], {}).update(held["answers"])
            except (ValueError, KeyError, TypeError, AttributeError):
                continue  # a torn line costs that prompt another try


class Clock:
    """How much of a search's time is left.

    Args:
        seconds: the search may take.
    """

    def __init__(self, seconds: float) -> None:
        self._began, self._seconds = time.monotonic(), seconds
        self.ran_out = False

    def out(self, share: float = 1.0) -> bool:
        """Whether so much of the time is used up."""
        used = time.monotonic() - self._began > share * self._seconds
        self.ran_out |= used
        return used


def race(
    candidates: Iterable[Candidate],
    value: Callable[[Candidate, int], float],
    rungs: Sequence[int],
    clock: Callable[[], bool] = lambda: False,
) -> list[Candidate]:
    """Successive halving (Jamieson and Talwalkar 2016, arXiv 1502.07943): all candidates are
    scored on few rows, the better half of them on more, and so on.

    Args:
        candidates: in the order of preference among equals.
        value: of a candidate on the first n rows.
        rungs: numbers of rows, rising.
        clock: asked before each candidate whether time has run out; the first one is always
            scored.

    Returns:
        All that were scored, those that came furthest first, each group best first.
    """
    field_ = list(dict.fromkeys(candidates))
    ranked: list[Candidate] = []
    for number, rows in enumerate(rungs):
        scored: list[tuple[float, int, Candidate]] = []
        for place, candidate in enumerate(field_):
            if (scored or number) and clock():
                break
            scored.append((-value(candidate, rows), place, candidate))
        scored.sort(key=lambda one: one[:2])
        done = [candidate for _, _, candidate in scored]
        if len(done) < len(field_) and number:
            # a rung that was not finished says nothing of those it did not reach
            return ranked
        ranked = done + [one for one in ranked if one not in set(done)]
        if len(done) < len(field_):
            return ranked
        if len(field_) > 2:
            best = set(done[: max(2, math.ceil(len(done) / 2))])
            field_ = [one for one in field_ if one in best]
    return ranked


def exchange(
    best: Candidate,
    remade: Callable[[Candidate, Sequence[Example]], Candidate | None],
    proposals: Iterable[tuple[int, Example]],
    value: Callable[[Candidate], float],
    clock: Callable[[], bool] = lambda: False,
) -> Candidate:
    """Replace one shown example after another where that raises the score.

    Args:
        best: to start from.
        remade: the candidate with other examples, None where they do not fit.
        proposals: (which example, by what).
        value: of a candidate on all rows.
        clock: whether time has run out.
    """
    reached = value(best)
    for place, example in proposals:
        if clock():
            break
        shown = list(best.examples)
        if example.id in {one.id for one in shown}:
            continue
        shown[place % len(shown)] = example
        changed = remade(best, shown)
        if changed is not None and (gained := value(changed)) > reached:
            best, reached = changed, gained
    return best
