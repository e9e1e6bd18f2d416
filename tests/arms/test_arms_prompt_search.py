"""The searched prompt: what it may see, what it finds, what it keeps."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from arms_samples import COLOURS, colours, example, workplace
from conftest import write_tiny_model
from hypothesis import given, settings
from hypothesis import strategies as st
from retrieval_fakes import WordEncoder

from luthier.arms.base import Workplace
from luthier.arms.nearest import Examples
from luthier.arms.planning import choose_arms
from luthier.arms.prompt_making import divided
from luthier.arms.prompt_search import PromptSearchArm, _weighed
from luthier.arms.prompt_sets import diverse, sets_of
from luthier.data.examples import Example, Message
from luthier.errors import InputError, ModelError
from luthier.generation.answers import Answer
from luthier.generation.local import Generator
from luthier.models.pool import ModelPool
from luthier.task import Task


@pytest.fixture(autouse=True)
def encoder(monkeypatch: pytest.MonkeyPatch) -> Iterator[WordEncoder]:
    encoder = WordEncoder()
    monkeypatch.setattr(ModelPool, "encoder", lambda self, name: encoder)
    yield encoder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("search") / "model", context=2048)


def place_of(model: Path, folder: Path, **changes: Any) -> Workplace:
    few = {"rewrites": 0, "rows": 8}
    changes = {"prompt_search": few, "train": colours(0, 36), **changes}
    return workplace(model, folder, **changes)


@pytest.fixture
def obedient(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes models do what they are told: they read the right label off the question where
    `obeys(what stands before the question, question)`, else they say "blue". Returns what they
    read."""

    def make(obeys: Callable[[str, str], bool]) -> list[str]:
        read: list[str] = []

        def right(generator: Generator, ids: Sequence[int]) -> str:
            text = str(generator.tokenizer.decode(ids))
            read.append(text)
            before, _, question = text.rpartition("item ")
            told = [colour for colour in COLOURS if colour in question]
            return told[0] if told and obeys(before, question) else "blue"

        def score(self: Generator, prompts: Any, choices: Any, progress: Any = None) -> Any:
            texts = [str(self.tokenizer.decode(ids)) for ids in choices]
            found = []
            for ids in prompts:
                wanted = right(self, ids)
                found.append([0.0 if text.startswith(wanted) else -5.0 for text in texts])
            return found, [0.0] * len(found)

        def generate(
            self: Generator, prompts: Any, stopping: Any, sampling: Any = None, progress: Any = None
        ) -> list[Answer]:
            return [Answer(right(self, ids), seconds=0.0) for ids in prompts]

        monkeypatch.setattr(Generator, "score", score)
        monkeypatch.setattr(Generator, "generate", generate)
        return read

    return make


def test_the_wording_that_the_model_obeys_is_found(
    model: Path, tmp_path: Path, obedient: Any
) -> None:
    obedient(lambda before, question: "OPEN SESAME" in before)
    wish = {"rewrites": 0, "rows": 8, "instructions": ["Hm.", "OPEN SESAME please."]}
    fit = PromptSearchArm().fit(place_of(model, tmp_path, prompt_search=wish))
    assert fit.settings["prompt"]["instruction"] == "OPEN SESAME please."
    assert fit.settings["examples"] == 0  # of equals the shortest
    choice = fit.choices[0]
    scores = {option["value"]: option["score"] for option in choice.options}
    assert choice.chosen == "given in the task, 2; no examples"
    assert scores[choice.chosen] == 1.0
    assert scores["the task's own; no examples"] == pytest.approx(1 / 3)
    assert "9 validation examples" in choice.why


def test_examples_that_the_model_needs_are_found(
    model: Path, tmp_path: Path, obedient: Any
) -> None:
    # one a colour that is called clear: half of the rows are
    obedient(
        lambda before, question: any(f"{c} (clear)" in before for c in COLOURS if c in question)
    )
    clear = [replace(e, messages=(Message("user", f"{e.input} (clear)"),)) for e in colours(0, 18)]
    place = place_of(model, tmp_path, train=[*clear, *colours(20, 18)])
    fit = PromptSearchArm().fit(place)
    scores = {option["value"]: option["score"] for option in fit.choices[0].options}
    assert scores[fit.choices[0].chosen] == 1.0
    assert scores["the task's own; no examples"] == pytest.approx(1 / 3)
    shown = [shot["input"] for shot in fit.settings["prompt"]["shots"]]
    assert {text.split()[2] for text in shown if "(clear)" in text} >= {"green", "red"}


def test_nothing_that_prompts_are_tried_on_is_shown(
    model: Path, tmp_path: Path, obedient: Any
) -> None:
    read = obedient(lambda before, question: False)
    place = place_of(model, tmp_path)
    rows = divided(place)
    assert rows.where == "training" and len(rows.search) == 8
    assert not {e.id for e in rows.search} & {e.id for e in rows.shown}
    PromptSearchArm().fit(place)
    tried = set()
    for text in read:
        before, item, question = text.rpartition("item ")
        asked = [e.input for e in rows.search if (item + question).startswith(e.input)]
        tried.update(asked)
        assert not asked or not any(e.input in before for e in rows.search)
    assert tried == {e.input for e in rows.search}


def test_rows_of_the_same_text_or_group_are_not_shown_either(model: Path, tmp_path: Path) -> None:
    rows = [replace(e, group=str(n // 3)) for n, e in enumerate(colours(0, 60))]
    twins = [replace(e, id=f"twin {e.id}", group=None) for e in rows]
    found = divided(place_of(model, tmp_path, train=[*rows, *twins]))
    groups = {e.group for e in found.search} - {None}
    assert not {e.input for e in found.search} & {e.input for e in found.shown}
    assert not groups & {e.group for e in found.shown}


@settings(deadline=None, max_examples=40)
@given(train=st.integers(1, 80), validation=st.integers(0, 60), rows=st.integers(4, 60))
def test_rows_never_serve_two_ends(train: int, validation: int, rows: int) -> None:
    place = workplace(
        Path("none"),
        Path("none"),
        train=colours(0, train),
        validation=colours(1000, validation),
        prompt_search={"rows": rows},
    )
    found = divided(place)
    search, shown, final = (
        {e.id for e in part} for part in (found.search, found.shown, found.final)
    )
    assert search
    assert not search & shown and not search & final and not shown & final
    assert len(search) <= rows
    assert final <= {e.id for e in place.validation}


def test_the_folder_is_all_that_serving_needs(model: Path, tmp_path: Path) -> None:
    place = place_of(model, tmp_path / "here")
    fit = PromptSearchArm().fit(place)
    asked = [e.messages for e in place.validation]
    arm = PromptSearchArm()
    first = arm.open(place.task, place.labels, place.folder, fit.settings, place.pool)
    shutil.move(tmp_path / "here", tmp_path / "there")
    again = arm.open(place.task, place.labels, tmp_path / "there", fit.settings, place.pool)
    assert [a.text for a in first.answer(asked)] == [a.text for a in again.answer(asked)]
    assert json.loads(json.dumps(fit.settings)) == fit.settings
    assert json.loads(json.dumps(fit.extra)) == fit.extra


def test_the_nearest_examples_win_where_they_help_and_are_served(
    model: Path, tmp_path: Path, obedient: Any
) -> None:
    # a question needs an example of its own number
    obedient(lambda before, question: f"item {question.split(':')[0]}:" in before)
    things = [f"item {n}: {COLOURS[n % 3]}" for n in range(30)]
    train = [example(f"{thing} {twin}", thing.split()[-1]) for thing in things for twin in "ab"]
    validation = [example(thing, thing.split()[-1]) for thing in things[:9]]
    place = place_of(
        model,
        tmp_path / "here",
        train=train,
        validation=validation,
        prompt_search={"rewrites": 0, "rows": 12},
    )
    fit = PromptSearchArm().fit(place)
    assert fit.choices[0].chosen == "the task's own; the 4 nearest to the question"
    scores = {option["value"]: option["score"] for option in fit.choices[0].options}
    assert scores[fit.choices[0].chosen] == 1.0
    assert scores["the task's own; no examples"] == pytest.approx(1 / 3)
    assert all("rows in the search" in option["note"] for option in fit.choices[0].options)
    names = {one["examples"] for one in fit.extra["search"]["tried"]}
    assert any("diverse" in name for name in names) and any("typical" in name for name in names)
    shutil.move(tmp_path / "here", tmp_path / "there")
    answerer = PromptSearchArm().open(
        place.task, place.labels, tmp_path / "there", fit.settings, place.pool
    )
    answer = answerer.answer([(Message("user", "item 5: red"),)])[0]
    assert answer.text == "red"
    assert len(answer.extra["shown"]) == 4
    assert {one["id"] for one in answer.extra["shown"]} <= {e.id for e in place.train}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many prompts were scored, call by call."""
    counts: list[int] = []
    real = Generator.score

    def score(self: Generator, prompts: Any, *rest: Any) -> Any:
        counts.append(len(prompts))
        return real(self, prompts, *rest)

    monkeypatch.setattr(Generator, "score", score)
    return counts


def test_an_interrupted_search_asks_nothing_twice(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: list[int]
) -> None:
    from luthier.arms import prompt_search

    real = prompt_search.read_best

    def killed(*rest: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(prompt_search, "read_best", killed)
    with pytest.raises(KeyboardInterrupt):
        PromptSearchArm().fit(place_of(model, tmp_path))
    searched = sum(asked)
    asked.clear()
    monkeypatch.setattr(prompt_search, "read_best", real)
    fit = PromptSearchArm().fit(place_of(model, tmp_path))
    finals = sum(asked)
    assert searched > 100
    assert finals <= 4 * (9 + 3)  # the finals alone
    assert fit.choices[0].chosen


def test_rows_that_were_changed_are_asked_again(
    model: Path, tmp_path: Path, asked: list[int]
) -> None:
    PromptSearchArm().fit(place_of(model, tmp_path))
    whole = sum(asked)
    asked.clear()
    PromptSearchArm().fit(place_of(model, tmp_path))
    finals = sum(asked)
    asked.clear()
    changed = [replace(e, messages=(Message("user", f"{e.input}!"),)) for e in colours(0, 36)]
    PromptSearchArm().fit(place_of(model, tmp_path, train=changed))
    assert finals < whole == pytest.approx(sum(asked), rel=0.2)


@pytest.mark.parametrize(("rows", "chosen"), [(29, "searched"), (30, "final")])
def test_few_rows_of_the_finals_do_not_decide_alone(rows: int, chosen: str) -> None:
    """One is better on 48 rows of the search, the other by one row of the finals."""

    class Seen:
        table = {  # noqa: RUF012
            "a": {"score": 0.75, "rows": 48},
            "b": {"score": 0.50, "rows": 48},
            "c": {"score": None, "rows": 48},
        }

    def weighed(key: str, right: int) -> float:
        one = SimpleNamespace(key=key)
        return _weighed(right / rows, rows, Seen, one)  # type: ignore[arg-type]

    better = "searched" if weighed("a", 20) > weighed("b", 21) else "final"
    assert better == chosen
    assert weighed("c", 20) == weighed("d", 20) == 20 / rows
    if rows < 30:
        assert weighed("a", 20) == pytest.approx((20 + 36) / (rows + 48))


def test_halves_of_validation_are_drawn(model: Path, tmp_path: Path) -> None:
    """Rows sorted by their answer are not cut into different questions."""
    validation = sorted(colours(0, 40), key=lambda e: e.output)
    rows = divided(place_of(model, tmp_path, train=colours(50, 3), validation=validation))
    assert rows.where == "validation"
    assert {e.output for e in rows.final} == set(COLOURS) == {e.output for e in rows.search}
    assert not {e.id for e in rows.final} & {e.id for e in rows.search}


def test_a_question_that_stands_among_the_examples_very_often_finds_others() -> None:
    same = [replace(example("again and again", "red"), id=str(n)) for n in range(200)]
    others = [example(f"something else {n}", "blue") for n in range(3)]
    store = Examples([*same, *others], None, None)
    found = store.nearest((Message("user", "Again and again!"),), 2)
    assert [e.output for e, _ in found] == ["blue", "blue"]


def test_no_time_leaves_the_plain_prompt_among_the_finalists(model: Path, tmp_path: Path) -> None:
    wish = {"rewrites": 6, "rows": 8, "minutes": 1e-9}
    fit = PromptSearchArm().fit(place_of(model, tmp_path, prompt_search=wish))
    assert "the task's own; no examples" in {o["value"] for o in fit.choices[0].options}
    assert any("as many as the time allowed" in note for note in fit.notes)
    assert not any("by a model" in name for name in fit.extra["search"]["instructions"])


def test_a_model_writes_instructions(model: Path, tmp_path: Path, obedient: Any) -> None:
    # asked for an instruction it writes the first label
    read = obedient(lambda before, question: False)
    fit = PromptSearchArm().fit(place_of(model, tmp_path, prompt_search={"rewrites": 4, "rows": 8}))
    assert any("Rewrite this instruction" in text for text in read)
    assert any("Write the instruction" in text for text in read)
    texts = fit.extra["search"]["instructions"]
    assert {name: text for name, text in texts.items() if "by a model" in name} == {
        "rewritten by a model, 1": "blue"
    }


def test_without_validation_the_choice_says_so(model: Path, tmp_path: Path) -> None:
    fit = PromptSearchArm().fit(place_of(model, tmp_path, validation=()))
    assert any("may flatter" in note for note in fit.notes)
    assert "training examples" in fit.choices[0].why


def test_few_training_rows(model: Path, tmp_path: Path) -> None:
    place = place_of(model, tmp_path, train=colours(0, 4), validation=colours(50, 12))
    rows = divided(place)
    assert rows.where == "validation" and len(rows.search) == len(rows.final) == 6
    fit = PromptSearchArm().fit(place)
    assert "6 validation examples" in fit.choices[0].why


def test_rows_of_several_turns_are_asked_and_not_shown(model: Path, tmp_path: Path) -> None:
    talk = (Message("user", "a"), Message("assistant", "b"), Message("user", "the cow"))
    talks = [Example(str(i), talk, "d") for i in range(30)]
    how: dict[str, Any] = {"labels": None, "kind": "chat", "generation": {"max_new_tokens": 3}}
    place = place_of(model, tmp_path, train=talks, validation=talks[:4], **how)
    fit = PromptSearchArm().fit(place)
    assert {one["examples"] for one in fit.extra["search"]["tried"]} == {"no examples"}


def test_a_writer_of_instructions_never_sees_what_prompts_are_tried_on(
    model: Path, tmp_path: Path, obedient: Any
) -> None:
    def talk(number: int, turns: int) -> Example:
        said = [
            one
            for turn in range(turns)
            for one in (
                Message("user", f"question {turn} of talk {number}, which is long enough"),
                Message("assistant", f"reply {turn} of talk {number}, which is long enough"),
            )
        ]
        # a talk is read as one row for each of its replies, as `messages` columns may be written
        return Example(f"{number}-{turns}", tuple(said[:-1]), said[-1].content)

    talks = [talk(number, turns) for number in range(20) for turns in (2, 3)]
    how: dict[str, Any] = {"labels": None, "kind": "chat", "generation": {"max_new_tokens": 3}}
    wish = {"rewrites": 8, "rows": 10}
    place = place_of(model, tmp_path, train=talks, validation=talks[:4], prompt_search=wish, **how)
    rows = divided(place)
    read = obedient(lambda before, question: False)
    PromptSearchArm().fit(place)
    requests = [text for text in read if "instruction only" in text]
    assert len(requests) == 8
    assert all("Output: reply" in text for text in requests)  # it sees some
    for text in requests:
        for row in rows.search:
            assert row.output not in text
            assert not any(message.content in text for message in row.messages)


def number_of(row: Example) -> str:
    return row.id.split()[1]


def test_what_may_be_learned_from_is_not_of_the_conversations_that_are_asked(
    model: Path, tmp_path: Path
) -> None:
    opening = [Message("user", f"opening {n}") for n in range(30)]
    rule = Message("system", "Be brief.")
    ask, go_on = Message("assistant", "yes?"), Message("user", "go on")
    short = [Example(f"short {n}", (one,), "a") for n, one in enumerate(opening)]
    long = [Example(f"long {n}", (rule, one, ask, go_on), "b") for n, one in enumerate(opening)]
    found = divided(place_of(model, tmp_path, train=[*short, *long]))
    asked = {number_of(row) for row in found.search}
    assert not asked & {number_of(row) for row in found.learned}
    # "go on" and the rule are said in every conversation, and make none of them the same
    assert len(found.learned) == 60 - 2 * len(asked)
    assert set(found.shown) == {row for row in found.learned if row.id.startswith("short")}


@pytest.mark.parametrize("kind", ["qa", "translation", "extraction", "ner", "generation"])
def test_every_kind_of_task(model: Path, tmp_path: Path, kind: str) -> None:
    how: dict[str, Any] = {"labels": None, "kind": kind, "generation": {"max_new_tokens": 2}}
    place = place_of(model, tmp_path, **how)
    if kind == "extraction":  # whose answers are JSON
        place.train, place.validation = (
            [replace(row, output=json.dumps({"colour": row.output})) for row in part]
            for part in (place.train, place.validation)
        )
    fit = PromptSearchArm().fit(place)
    assert len({option["value"] for option in fit.choices[0].options}) >= 2


def test_without_the_sentence_encoder_words_are_compared(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(self: ModelPool, name: str) -> Any:
        raise ModelError("no such model here.")

    monkeypatch.setattr(ModelPool, "encoder", none)
    fit = PromptSearchArm().fit(place_of(model, tmp_path))
    assert any("TF-IDF" in note for note in fit.notes)
    assert any("diverse" in one["examples"] for one in fit.extra["search"]["tried"])
    # and where not a word is to be compared
    bare = [example(f"{'!' * n}", COLOURS[n % 3]) for n in range(1, 40)]
    PromptSearchArm().fit(place_of(model, tmp_path / "b", train=bare, validation=bare[:3]))


def test_the_same_seed_gives_the_same_prompt(model: Path, tmp_path: Path) -> None:
    fits = [PromptSearchArm().fit(place_of(model, tmp_path / name)) for name in "ab"]
    assert fits[0].settings == fits[1].settings
    assert fits[0].extra == fits[1].extra


def test_a_question_that_nearly_fills_the_context_leaves_the_plain_prompt(
    tmp_path: Path, obedient: Any
) -> None:
    obedient(lambda before, question: "OPEN SESAME" in before)
    small = write_tiny_model(tmp_path / "model", context=512)
    long = example("y " * 225 + "item 0: red", "red")
    wish = {"rewrites": 0, "rows": 8, "instructions": ["OPEN SESAME and be careful. " * 8]}
    place = place_of(small, tmp_path / "a", prompt_search=wish)
    place.validation = (*place.validation, long)
    fit = PromptSearchArm().fit(place)
    # the wording that is obeyed does not fit beside that question
    assert len(fit.settings["prompt"]["instruction"]) < 100
    place = place_of(small, tmp_path / "b", prompt_search={"rewrites": 0, "rows": 8})
    place.train = (*place.train, example("z " * 350, "red"))  # longer than the context
    assert PromptSearchArm().fit(place).choices[0].chosen


def test_few_rows_to_search_on_are_training_rows_all_the_same(model: Path, tmp_path: Path) -> None:
    rows = divided(place_of(model, tmp_path, prompt_search={"rows": 4}))
    assert rows.where == "training" and len(rows.search) == 4


def test_it_runs_when_it_is_named(model: Path) -> None:
    wish = {"train": "rows.csv", "input": "{{ q }}", "output": "{{ k }}"}
    base: dict[str, Any] = {"name": "c", "kind": "classification", "data": wish}
    planned, left_out = choose_arms(Task.from_dict({**base, "arms": ["prompt-search"]}))
    assert [p.name for p in planned] == ["prompt-search"]
    _, left_out = choose_arms(Task.from_dict(base))
    assert "prompt-search" in {p.name for p in left_out}
    with pytest.raises(InputError, match=r"prompt_search.rewrite\b"):
        Task.from_dict({**base, "prompt_search": {"rewrite": 3}})


# ---- sets of examples ---------------------------------------------------------------------------


@settings(deadline=None, max_examples=25)
@given(count=st.integers(2, 30), size=st.integers(1, 12), seed=st.integers(0, 5))
def test_diverse_rows_are_distinct_and_known(count: int, size: int, seed: int) -> None:
    vectors = np.random.default_rng(seed).normal(size=(count, 5)).astype(np.float32)
    rows = diverse(vectors, min(size, count), seed=seed)
    assert rows == sorted(set(rows)) and all(0 <= row < count for row in rows)
    assert rows == diverse(vectors, min(size, count), seed=seed)


def test_diverse_rows_come_from_every_cluster() -> None:
    draw = np.random.default_rng(0)
    middles = np.eye(4, 8) * 10
    vectors = np.concatenate([m + draw.normal(scale=0.1, size=(9, 8)) for m in middles])
    assert [row // 9 for row in diverse(vectors, 4, seed=0)] == [0, 1, 2, 3]
    assert len(diverse(np.ones((6, 3)), 4, seed=0)) == 1  # all the same


def test_the_typical_one_of_a_label_lies_in_its_middle() -> None:
    pool = [example(str(n), "a" if n < 3 else "b") for n in range(6)]
    vectors = np.array([[1, 0], [0.8, 0.6], [0.6, 0.8], [-1, 0], [-0.8, 0.6], [0, 1]], dtype=float)
    found = sets_of(pool, vectors, ("a", "b", "c"), sizes=[3], nearest=[2], draws=1, seed=0)
    typical = next(one for one in found if "typical" in one.name)
    assert [e.id for e in typical.examples] == ["1", "4"]  # c has none
    assert [one.nearest for one in found if one.nearest] == [2]
    none = sets_of(pool, None, ("a", "b"), sizes=[3], nearest=[], draws=2, seed=0)
    assert {one.name.split(",")[0] for one in none} == {"3 examples"}
