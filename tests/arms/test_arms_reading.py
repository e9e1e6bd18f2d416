"""How an answer is taken from a model: written, or by the likelihood of the labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from arms_samples import COLOURS, colours, example, workplace

from luthier.arms.prompted import (
    CALIBRATED,
    GENERATE,
    LIKELIHOOD,
    PromptedAnswerer,
    Reading,
    fitting,
    shots_from,
)
from luthier.arms.readings import longest_answer, read_best
from luthier.arms.zero_shot import ZeroShot
from luthier.data.examples import Example, Message
from luthier.errors import InputError
from luthier.generation.answers import Answer
from luthier.generation.options import AnswerOptions, PromptTooLongError
from luthier.models.pool import ModelPool
from luthier.prompts.prompt import Prompt


class Scripted:
    """A generator that writes and prefers what it is told to.

    Args:
        written: what it writes, by question.
        liked: the label it finds likeliest, by question; a question not listed likes `bias`.
    """

    def __init__(self, prompt: Prompt, written: dict[str, str], liked: dict[str, str]) -> None:
        self._prompt = prompt
        self._written = {self._key(q): text for q, text in written.items()}
        self._liked = {self._key(q): text for q, text in liked.items()}
        self.bias = [0.0, 0.0, 0.0]
        self.asked: list[str] = []

    def _key(self, question: str) -> tuple[int, ...]:
        return tuple(self._prompt.ask((Message("user", question),)))

    def generate(
        self, prompts: Sequence[Sequence[int]], stopping: Any, sampling: Any, progress: Any = None
    ) -> list[Answer]:
        return [Answer(self._written[tuple(p)], seconds=0.0) for p in prompts]

    def score(
        self, prompts: Sequence[Sequence[int]], continuations: Any, progress: Any = None
    ) -> tuple[list[list[float]], list[float]]:
        rows = []
        for prompt in prompts:
            liked = self._liked.get(tuple(prompt))
            rows.append(
                [bias + (label == liked) for bias, label in zip(self.bias, COLOURS, strict=True)]
            )
        return rows, [0.0] * len(prompts)


@pytest.fixture(scope="module")
def pool() -> ModelPool:
    return ModelPool()


@pytest.fixture(scope="module")
def prompt(pool: ModelPool, tiny_model: Path) -> Prompt:
    return Prompt(pool.causal(str(tiny_model)).tokenizer, instruction="Name the colour.")


def outputs(examples: Sequence[Example]) -> dict[str, str]:
    return {e.input: e.output for e in examples}


def wrong(examples: Sequence[Example]) -> dict[str, str]:
    return {e.input: COLOURS[(COLOURS.index(e.output) + 1) % 3] for e in examples}


def choose(
    prompt: Prompt, tiny_model: Path, folder: Path, written: Any, liked: Any, bias: Any = None
) -> tuple[Reading, float, list[dict[str, Any]]]:
    place = workplace(tiny_model, folder)
    scripted = Scripted(prompt, written(place.validation), liked(place.validation))
    scripted.bias = bias or scripted.bias
    return read_best(
        place,
        "test",
        scripted,  # type: ignore[arg-type]
        prompt,
        place.validation,
        512,
    )


def test_what_serves_on_validation_is_chosen(
    prompt: Prompt, tiny_model: Path, tmp_path: Path
) -> None:
    reading, value, options = choose(prompt, tiny_model, tmp_path, wrong, outputs)
    assert reading.way == LIKELIHOOD
    assert value == 1.0
    assert options == [
        {"value": GENERATE, "score": 0.0},
        {"value": LIKELIHOOD, "score": 1.0},
        {"value": CALIBRATED, "score": 1.0},
    ]
    assert choose(prompt, tiny_model, tmp_path, outputs, wrong)[0].way == GENERATE


def test_ties_go_to_writing(prompt: Prompt, tiny_model: Path, tmp_path: Path) -> None:
    reading, value, _ = choose(prompt, tiny_model, tmp_path, outputs, outputs)
    assert (reading.way, value) == (GENERATE, 1.0)


def test_calibration_takes_out_a_liking_for_some_labels(
    prompt: Prompt, tiny_model: Path, tmp_path: Path
) -> None:
    # the model likes "red" by 5 whatever is asked, and the right label by 1 on top
    bias = [0.0, 0.0, 5.0]
    reading, value, options = choose(prompt, tiny_model, tmp_path, wrong, outputs, bias)
    assert reading.way == CALIBRATED
    assert reading.bias == (0.0, 0.0, 5.0)
    assert value == 1.0
    assert options[1]["score"] == pytest.approx(1 / 3)


def test_without_labels_there_is_nothing_to_choose(
    prompt: Prompt, tiny_model: Path, tmp_path: Path
) -> None:
    rows = (example("a", "one two"), example("b", "three"))
    place = workplace(
        tiny_model, tmp_path, train=rows, validation=rows, labels=None, kind="generation"
    )
    scripted: Any = Scripted(prompt, outputs(rows), {})
    reading, value, options = read_best(place, "test", scripted, prompt, rows, 512)
    assert (reading.way, value) == (GENERATE, pytest.approx(1.0))
    assert [option["value"] for option in options] == [GENERATE]
    assert read_best(place, "test", scripted, prompt, (), 512)[1:] == (0.0, [])


def by_hand(pool: ModelPool, model: Path, ids: list[int], label: list[int]) -> float:
    """Log-likelihood of a label's tokens after a prompt, one forward pass for it alone."""
    with torch.inference_mode():
        logits = pool.causal(str(model)).model(torch.tensor([ids + label])).logits[0].double()
    steps = torch.log_softmax(logits[len(ids) - 1 : -1], dim=-1)
    return float(sum(steps[i, token] for i, token in enumerate(label)))


@pytest.mark.parametrize("way", [LIKELIHOOD, CALIBRATED])
def test_likelihood_is_the_argmax_of_the_labels_log_likelihoods(
    pool: ModelPool, prompt: Prompt, tiny_model: Path, way: str
) -> None:
    bias = (0.0, 3.0, -1.0) if way == CALIBRATED else ()
    answerer = PromptedAnswerer(
        "test",
        pool.generator(str(tiny_model)),
        prompt,
        Reading(way, bias=bias),
        labels=COLOURS,
        context_length=512,
    )
    asked = [e.messages for e in colours(0, 7)]
    answers = answerer.answer(asked)
    for conversation, answer in zip(asked, answers, strict=True):
        ids = prompt.ask(conversation)
        found = [by_hand(pool, tiny_model, ids, prompt.answer_ids(label)) for label in COLOURS]
        found = [f - b for f, b in zip(found, bias or (0.0,) * 3, strict=True)]
        best = max(range(3), key=lambda index: found[index])
        assert answer.text == COLOURS[best]
        expected = torch.softmax(torch.tensor(found), dim=0).tolist()
        shown = answer.extra["probabilities"]
        assert list(shown) == list(COLOURS)
        assert list(shown.values()) == pytest.approx(expected, abs=1e-4)
        assert answer.prompt_tokens == len(ids)
    assert not answerer.generates


def test_the_bias_is_the_mean_over_questions_without_content(
    pool: ModelPool, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from luthier.arms import readings

    place = workplace(tiny_model, tmp_path)
    loaded = place.pool.causal(str(tiny_model))
    prompt = Prompt(loaded.tokenizer, instruction="Name the colour.")
    kept: list[Reading] = []
    honest = readings.best_label

    def spy(scores: Sequence[float], reading: Reading) -> int:
        kept.append(reading)
        return honest(scores, reading)

    monkeypatch.setattr(readings, "best_label", spy)
    read_best(
        place, "test", place.pool.generator(str(tiny_model)), prompt, place.validation[:2], 512
    )
    (bias,) = {reading.bias for reading in kept if reading.way == CALIBRATED}
    for column, label in enumerate(COLOURS):
        ids = prompt.answer_ids(label)
        liking = [
            by_hand(pool, tiny_model, prompt.ask((Message("user", text),)), ids)
            for text in ("N/A", "...", "[none]")
        ]
        assert bias[column] == pytest.approx(sum(liking) / 3, abs=1e-3)


def test_a_fitted_arm_reads_as_it_chose(tiny_model: Path, tmp_path: Path) -> None:
    place = workplace(tiny_model, tmp_path)
    arm = ZeroShot()
    fit = arm.fit(place)
    (choice,) = fit.choices
    best = max(option["score"] for option in choice.options)
    first = next(o["value"] for o in choice.options if o["score"] == best)
    assert choice.chosen == first == fit.settings["reading"]["way"]
    answerer = arm.open(place.task, place.labels, tmp_path, fit.settings, place.pool)
    answers = answerer.answer([e.messages for e in place.validation])
    right = [a.text == e.output for a, e in zip(answers, place.validation, strict=True)]
    assert sum(right) / len(right) == pytest.approx(best)


def test_the_longest_answer_is_taken_from_training(
    prompt: Prompt, tiny_model: Path, tmp_path: Path
) -> None:
    rows = [example(str(i), "x" * 9) for i in range(50)]
    place = workplace(tiny_model, tmp_path)
    # a byte a token and the stop token: 10 tokens; a quarter more and four to spare
    assert longest_answer(place.task, prompt, rows) == 16
    # one in fifty may be longer
    assert longest_answer(place.task, prompt, [*rows, example("z", "x" * 99)]) == 16
    wish = workplace(tiny_model, tmp_path, generation={"max_new_tokens": 5}).task
    assert longest_answer(wish, prompt, rows) == 5


def test_a_question_too_long_for_the_context(
    pool: ModelPool, prompt: Prompt, tiny_model: Path
) -> None:
    answerer = PromptedAnswerer(
        "test",
        pool.generator(str(tiny_model)),
        prompt,
        Reading(GENERATE, 8),
        context_length=512,
    )
    with pytest.raises(PromptTooLongError, match="maximum context length is 511 tokens"):
        answerer.answer([(Message("user", "x" * 600),)])
    # what the asker wants written counts, too
    ids = len(prompt.ask((Message("user", "hello"),)))
    options = AnswerOptions(max_new_tokens=512 - ids + 1)
    with pytest.raises(PromptTooLongError):
        answerer.answer([(Message("user", "hello"),)], options)


def test_conversations_of_several_turns_are_no_shots() -> None:
    talk = Example(
        "1",
        (Message("user", "a"), Message("assistant", "b"), Message("user", "c")),
        "d",
        source="rows.jsonl line 7",
    )
    with pytest.raises(InputError, match=r"rows\.jsonl line 7 has several turns"):
        shots_from([talk])


def test_examples_give_way_to_a_question_that_needs_their_place(prompt: Prompt) -> None:
    shots = shots_from(colours(0, 4))
    shown = prompt.with_shots(shots)
    question = (Message("user", "what colour is it then?"),)
    sizes = [len(prompt.with_shots(shots[n:]).ask(question)) for n in range(5)]
    assert fitting(shown, question, sizes[0]) == (shown.ask(question), 0)
    for left_out in range(1, 5):
        # one token less than what one example more would take: the first ones are left out
        expected = prompt.with_shots(shots[left_out:]).ask(question)
        assert fitting(shown, question, sizes[left_out - 1] - 1) == (expected, left_out)
    with pytest.raises(PromptTooLongError):
        fitting(shown, question, sizes[4] - 1)


def test_an_answer_says_which_examples_gave_way(
    pool: ModelPool, tiny_model: Path, prompt: Prompt
) -> None:
    shown = prompt.with_shots(shots_from(colours(0, 3)))
    short, long = (Message("user", "red?"),), (Message("user", "is this then red? " * 6),)
    room = len(shown.ask(long)) - 1
    answerer = PromptedAnswerer(
        "test",
        pool.generator(str(tiny_model)),
        shown,
        Reading(LIKELIHOOD),
        labels=tuple(COLOURS),
        context_length=room + max(len(shown.answer_ids(label)) for label in COLOURS),
    )
    one, other = answerer.answer([short, long])
    assert "examples_left_out" not in one.extra
    assert other.extra["examples_left_out"] == 1
    assert other.prompt_tokens <= room
