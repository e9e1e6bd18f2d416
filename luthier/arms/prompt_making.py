"""What a search for a prompt tries: which rows it has, which wordings, and candidates of both."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from luthier.arms.base import Workplace
from luthier.arms.few_shot import room_for_examples, sizes_of
from luthier.arms.nearest import (
    ENCODER,
    Examples,
    NearestPrompt,
    encoded,
    encoder_of,
    store_examples,
)
from luthier.arms.prompt_sets import NOTHING, ExampleSet, sets_of
from luthier.arms.prompt_trials import Candidate
from luthier.arms.prompted import shots_from
from luthier.arms.readings import EMPTY_QUESTIONS, longest_answer
from luthier.data.examples import Example, Message
from luthier.data.folding import fold
from luthier.generation.options import Sampling, Stopping
from luthier.prompts.prompt import Prompt
from luthier.prompts.wordings import Wording, by_model, by_rule, distinct

#: Rows that prompts are tried on: where answers are labels, whose likelihoods are read in one
#: pass, and where they are written.
_LABELLED_ROWS, _WRITTEN_ROWS = 48, 24
#: With fewer training rows that can be spared than this, validation rows are used.
_FEWEST = 8
#: Random sets of each size, and numbers of nearest examples.
_DRAWS = 3
_LABELLED_NEAREST, _WRITTEN_NEAREST = (4, 8), (2, 4)
#: Tokens of an instruction that a model writes.
_INSTRUCTION_TOKENS = 200
#: Follows the name of a set of which some examples were exchanged.
_EXCHANGED = ", some exchanged"


@dataclass(frozen=True)
class Rows:
    """Which rows are for what.

    Attributes:
        search: prompts are tried on.
        learned: training rows that instructions may be made of, by rules or by a model: none that
            is asked in the search, nor of the same conversation or group.
        shown: those of them that may be examples: of a single turn.
        final: the finalists are compared on.
        where: the split that `search` is of.
    """

    search: tuple[Example, ...]
    learned: tuple[Example, ...]
    shown: tuple[Example, ...]
    final: tuple[Example, ...]
    where: str


def divided(place: Workplace) -> Rows:
    """Which rows prompts are tried on, which they may show, and which are kept for the finals."""
    most = place.task.prompt_search.rows or (_LABELLED_ROWS if place.labels else _WRITTEN_ROWS)
    order = random.Random(f"prompt-search-rows-{place.task.seed}")
    train, validation = list(place.train), tuple(place.validation)
    count = min(most, len(train) // 3)
    if count >= min(_FEWEST, most) or len(validation) < 2:
        search = tuple(order.sample(train, max(1, count)))
        where = "training"
    else:
        half = len(validation) // 2
        validation = tuple(order.sample(validation, len(validation)))
        search, validation, where = validation[:half][:most], validation[half:], "validation"
    # nothing that is asked may be shown, nor come from the same conversation or document
    asked = {e.id for e in search} if where == "training" else set()
    openings = {_opening(e) for e in search}
    texts = {fold(e.input) for e in search}
    groups = {e.group for e in search if e.group is not None}
    learned = tuple(
        e
        for e in train
        if e.id not in asked
        and e.group not in groups
        and _opening(e) not in openings
        and (len(e.messages) > 1 or fold(e.input) not in texts)
    )
    shown = tuple(e for e in learned if len(e.messages) == 1)
    return Rows(search, learned, shown, validation, where)


def _opening(example: Example) -> str:
    """What the user says first, up to case, spacing and punctuation. Rows that begin alike are
    taken for one conversation, cut at different turns; of a single turn they are one question."""
    return fold(next((m.content for m in example.messages if m.role == "user"), ""))


class Kitchen:
    """Makes candidates of wordings and sets of examples, and keeps the chosen one."""

    def __init__(
        self, place: Workplace, name: str, bare: Prompt, rows: Rows, minutes: float
    ) -> None:
        self._place, self._name, self._bare, self._rows = place, name, bare, rows
        self.notes = list(bare.notes)
        self.texts: dict[str, str] = {}
        self._longest = longest_answer(place.task, bare, place.train)
        self._room = room_for_examples(place, bare)
        self._context = place.pool.causal(place.task.model).context_length
        self._encoder, notes = encoder_of(place.pool)
        self.notes += notes
        single = [e for e in place.train if len(e.messages) == 1]
        #: what may be shown in the end, and the part of it that may be shown in the search
        self._all = self._store = None
        self.shown: list[Example] = []
        if rows.shown:
            # encoding takes its share of the search's time, not of the arm's
            hurried = replace(place, minutes=minutes)
            self._all = Examples(*encoded(hurried, name, single, self._encoder), self._encoder)
            kept = {e.id for e in rows.shown}
            self._store = self._all.part([e.id in kept for e in self._all.examples])
            self.shown = self._store.examples
            self._look_up(self._store, rows.search)

    def sets(self) -> list[ExampleSet]:
        """Sets of examples to try."""
        if self._store is None or not self.shown:
            return []
        place, labels = self._place, self._place.labels
        return sets_of(
            self.shown,
            self._store.vectors,
            labels,
            sizes=sizes_of(labels),
            nearest=_LABELLED_NEAREST if labels else _WRITTEN_NEAREST,
            draws=_DRAWS,
            seed=place.task.seed,
        )

    def make(self, wording: Wording, shown: ExampleSet = NOTHING) -> Candidate | None:
        """The candidate; None where wording and examples leave too little of the context to the
        longest question. The task's own wording without examples is always one."""
        self.texts.setdefault(wording.name, wording.text)
        bare = self._bare.with_instruction(wording.text)
        question = self._rows.search[0].messages
        if shown.nearest:
            assert self._store is not None
            # as in few-shot, half of the context stays free of examples
            most = min(self._context - self._longest, self._context // 2)
            prompt: Prompt = NearestPrompt.over(bare, self._store, shown.nearest, most)
        else:
            prompt = bare.with_shots(shots_from(shown.examples))
        alone = len(bare.ask(question))
        added = len(prompt.ask(question)) - alone
        # nearest examples are left out one by one where a question needs their place
        longer = alone + (0 if shown.nearest else added) - len(self._bare.ask(question))
        if longer > max(0, self._room):
            return None
        return Candidate(wording.name, shown.name, prompt, shown.examples, order=alone + added)

    def remade(self, candidate: Candidate, examples: Sequence[Example]) -> Candidate | None:
        """The same wording with other examples."""
        name = candidate.shown.removesuffix(_EXCHANGED) + _EXCHANGED
        wording = Wording(candidate.wording, self.texts[candidate.wording])
        return self.make(wording, ExampleSet(name, tuple(examples)))

    def widened(self, candidate: Candidate, asked: Sequence[Example]) -> Candidate:
        """A candidate whose nearest examples come from all training rows, as when it is served."""
        prompt = candidate.prompt
        if not isinstance(prompt, NearestPrompt) or self._all is None:
            return candidate
        self._look_up(self._all, asked)
        bare = self._bare.with_instruction(prompt.instruction)
        wide = NearestPrompt.over(bare, self._all, prompt.size, prompt.room)
        return Candidate(candidate.wording, candidate.shown, wide, order=candidate.order)

    def kept(self, candidate: Candidate) -> dict[str, Any]:
        """What `open` needs of the winner, besides model and reading."""
        prompt = candidate.prompt
        if not isinstance(prompt, NearestPrompt):
            return {"prompt": prompt.to_dict(), "examples": len(candidate.examples)}
        assert self._all is not None
        store_examples(
            self._place.folder / "model",
            self._all.examples,
            None if self._encoder is None else self._all.vectors,
        )
        return {
            "prompt": self._bare.with_instruction(prompt.instruction).to_dict(),
            "encoder": None if self._encoder is None else ENCODER,
            "examples": prompt.size,
            "room": prompt.room,
        }

    def _look_up(self, store: Examples, rows: Sequence[Example]) -> None:
        empty = [(Message("user", text),) for text in EMPTY_QUESTIONS]
        store.look_up([*(e.messages for e in rows), *empty])


def wordings_of(place: Workplace, rows: Rows, *, by_a_model: bool) -> list[Wording]:
    """The task's own wording first, then the user's, those of rules, and those of a model.

    Args:
        place: of the arm.
        rows: which training rows may be seen.
        by_a_model: whether there is time for a model to write some.
    """
    task = place.task
    seen = rows.learned
    rules = by_rule(task.instruction, seen, place.labels, goal=task.goal)
    given = [
        Wording(f"given in the task, {number}", text.strip())
        for number, text in enumerate(task.prompt_search.instructions, 1)
    ]
    found = [*rules[:1], *given, *rules[1:]]
    writer = task.prompt_search.writer or task.model
    if task.prompt_search.rewrites and writer != "none" and by_a_model:
        found += by_model(
            task.instruction,
            seen,
            lambda requests: _written(place, writer, requests),
            count=task.prompt_search.rewrites,
            seed=task.seed,
        )
    return distinct(found)


def _written(place: Workplace, model: str, requests: list[str]) -> list[str]:
    """A model's replies to requests; nothing to one that is too long for it."""
    from luthier.models.heads import stop_ids

    loaded = place.pool.causal(model)
    prompt = Prompt(loaded.tokenizer, stop_ids=stop_ids(loaded.model))
    stopping = Stopping(prompt.stop_ids, prompt.stop_strings, _INSTRUCTION_TOKENS)
    asked = [prompt.ask((Message("user", text),)) for text in requests]
    fitting = [
        row
        for row, ids in enumerate(asked)
        if len(ids) + _INSTRUCTION_TOKENS <= loaded.context_length
    ]
    replies = [""] * len(requests)
    with place.reporter.work("prompt-search: rewriting the instruction", len(fitting)) as bar:
        written = place.pool.generator(model).generate(
            [asked[row] for row in fitting],
            stopping,
            Sampling(temperature=0.8, top_p=0.95, seed=place.task.seed),
            bar.advance,
        )
    for row, answer in zip(fitting, written, strict=True):
        # one that was cut off is no whole instruction
        replies[row] = answer.text if answer.finish_reason == "stop" else ""
    return replies
