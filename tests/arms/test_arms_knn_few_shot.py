"""The nearest training examples in the prompt."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from arms_samples import COLOURS, example, workplace
from conftest import write_tiny_model
from retrieval_fakes import WordEncoder

import luthier
from luthier.arms.base import Workplace
from luthier.arms.knn_few_shot import KnnFewShot
from luthier.arms.planning import choose_arms
from luthier.data.examples import Example, Message
from luthier.errors import InputError, ModelError
from luthier.models.pool import ModelPool

ANIMALS = ("ant", "bee", "cow", "dog", "eel", "fox", "gnu", "hen", "ibis", "jay", "kite", "lark")


@pytest.fixture(autouse=True)
def encoder(monkeypatch: pytest.MonkeyPatch) -> Iterator[WordEncoder]:
    encoder = WordEncoder()
    monkeypatch.setattr(ModelPool, "encoder", lambda self, name: encoder)
    yield encoder


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("knn") / "model", context=2048)


def rows() -> list[Example]:
    return [
        example(f"the {animal} number {n}", COLOURS[at % 3])
        for at, animal in enumerate(ANIMALS)
        for n in range(3)
    ]


def place_of(model: Path, folder: Path, **changes: Any) -> Workplace:
    asked = [example(f"a {animal} here", COLOURS[at % 3]) for at, animal in enumerate(ANIMALS)]
    return workplace(model, folder, **{"train": rows(), "validation": asked[:4], **changes})


def read_by(answerer: Any, text: str) -> str:
    """What the model reads; the tiny tokenizer's tokens are bytes."""
    prompt = answerer.prompt
    return str(prompt.tokenizer.decode(prompt.ask((Message("user", text),))))


def test_the_nearest_are_shown_and_the_nearest_last(model: Path, tmp_path: Path) -> None:
    place = place_of(model, tmp_path)
    fit = KnnFewShot().fit(place)
    answerer = KnnFewShot().open(place.task, place.labels, tmp_path, fit.settings, place.pool)
    read = read_by(answerer, "is the gnu number 7")
    shown = [line for line in read.splitlines() if line.startswith("the ") and "number" in line]
    assert len(shown) == fit.settings["examples"]
    assert all("gnu" in line for line in shown[-3:])
    answer = answerer.answer([(Message("user", "is the gnu number 7"),)])[0]
    likeness = [one["likeness"] for one in answer.extra["shown"]]
    assert likeness == sorted(likeness) and len(likeness) == len(shown)
    assert {one["id"] for one in answer.extra["shown"]} <= {e.id for e in place.train}


def test_how_many_is_chosen_on_validation(model: Path, tmp_path: Path) -> None:
    fit = KnnFewShot().fit(place_of(model, tmp_path))
    size, reading = fit.choices
    assert [option["value"] for option in size.options] == [4, 8, 16]
    best = max(option["score"] for option in size.options)
    assert size.chosen == next(o["value"] for o in size.options if o["score"] == best)
    assert fit.settings["examples"] == size.chosen
    assert max(option["score"] for option in reading.options) == best
    assert "4 validation examples" in size.why


def test_a_question_never_sees_itself(model: Path, tmp_path: Path) -> None:
    place = place_of(model, tmp_path, validation=rows()[:6])
    fit = KnnFewShot().fit(place)
    answerer = KnnFewShot().open(place.task, place.labels, tmp_path, fit.settings, place.pool)
    asked = [*(e.input for e in place.train), "The ANT,  number 1!"]
    for text, answer in zip(
        asked, answerer.answer([(Message("user", text),) for text in asked]), strict=True
    ):
        shown = {one["id"] for one in answer.extra["shown"]}  # ids are the inputs
        assert shown and text not in shown
    assert "the ant number 1" not in read_by(answerer, "The ANT,  number 1!")


def test_the_folder_is_all_that_serving_needs(
    model: Path, tmp_path: Path, encoder: WordEncoder
) -> None:
    place = place_of(model, tmp_path / "here")
    fit = KnnFewShot().fit(place)
    asked = [e.messages for e in place.validation]
    first = KnnFewShot().open(place.task, place.labels, place.folder, fit.settings, place.pool)
    shutil.move(tmp_path / "here", tmp_path / "there")
    before = encoder.encoded
    again = KnnFewShot().open(
        place.task, place.labels, tmp_path / "there", fit.settings, place.pool
    )
    given, back = first.answer(asked), again.answer(asked)
    assert [(a.text, a.extra) for a in given] == [(a.text, a.extra) for a in back]
    assert encoder.encoded == before + 2 * len(asked)  # the training rows were not encoded again


def test_examples_that_do_not_fit_are_left_out_furthest_first(model: Path, tmp_path: Path) -> None:
    long = [example(f"{animal} {'x' * 240}", "blue") for animal in ANIMALS]
    place = place_of(model, tmp_path, train=long, validation=long[:1])
    fit = KnnFewShot().fit(place)
    settings = {**fit.settings, "examples": 8}
    answerer = KnnFewShot().open(place.task, place.labels, tmp_path, settings, place.pool)
    answer = answerer.answer([(Message("user", "what is an eel"),)])[0]
    assert 0 < len(answer.extra["shown"]) < 8
    assert answer.extra["shown"][-1]["id"].startswith("eel")
    assert answer.prompt_tokens <= 1024
    # a question that fills the half by itself is asked without examples
    alone = answerer.answer([(Message("user", "y" * 1500),)])[0]
    assert alone.extra["shown"] == []


@pytest.mark.parametrize("kind", ["qa", "translation", "extraction", "ner", "chat", "generation"])
def test_every_kind_of_task(model: Path, tmp_path: Path, kind: str) -> None:
    place = place_of(model, tmp_path, labels=None, kind=kind, generation={"max_new_tokens": 3})
    if kind == "extraction":  # whose answers are JSON
        place.train, place.validation = (
            [replace(row, output=json.dumps({"colour": row.output})) for row in part]
            for part in (place.train, place.validation)
        )
    fit = KnnFewShot().fit(place)
    assert {option["value"] for option in fit.choices[0].options} == {2, 4}
    answerer = KnnFewShot().open(place.task, None, tmp_path, fit.settings, place.pool)
    streamed = list(answerer.stream((Message("user", "the fox number 9"),)))
    whole = answerer.answer([(Message("user", "the fox number 9"),)])[0]
    assert streamed[-1].text == whole.text  # type: ignore[union-attr]


def test_rows_of_several_turns_are_asked_and_not_shown(model: Path, tmp_path: Path) -> None:
    talk = (Message("user", "a"), Message("assistant", "b"), Message("user", "the cow"))
    talks = [Example(str(i), talk, "d") for i in range(5)]
    how: dict[str, Any] = {"labels": None, "kind": "chat", "generation": {"max_new_tokens": 3}}
    with pytest.raises(InputError, match="single turn"):
        KnnFewShot().fit(place_of(model, tmp_path, train=talks, validation=(), **how))
    place = place_of(model, tmp_path, train=[*talks, *rows()], validation=talks[:2], **how)
    fit = KnnFewShot().fit(place)
    answerer = KnnFewShot().open(place.task, None, tmp_path, fit.settings, place.pool)
    shown = answerer.answer([talk])[0].extra["shown"]
    assert "cow" in shown[-1]["id"]


def test_without_the_encoder_words_decide_and_it_is_said(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(self: ModelPool, name: str) -> Any:
        raise ModelError(f"{name} is not in the cache.")

    monkeypatch.setattr(ModelPool, "encoder", missing)
    place = place_of(model, tmp_path)
    fit = KnnFewShot().fit(place)
    assert any("all-minilm-l6-v2 cannot be had" in note for note in fit.notes)
    answerer = KnnFewShot().open(place.task, place.labels, tmp_path, fit.settings, place.pool)
    shown = answerer.answer([(Message("user", "and the lark ?"),)])[0].extra["shown"]
    assert all("lark" in one["id"] for one in shown[-3:])


def test_no_time_is_said(model: Path, tmp_path: Path) -> None:
    train = [*rows(), *(example(f"more {n}", "red") for n in range(400))]
    fit = KnnFewShot().fit(place_of(model, tmp_path, train=train, minutes=1e-9))
    said = " ".join(fit.notes)
    assert "256 of 436 training examples" in said
    assert "8, 16 examples were not tried" in said


def test_it_is_named_not_automatic(model: Path, tmp_path: Path) -> None:
    place = place_of(model, tmp_path)
    planned, left_out = choose_arms(place.task)
    assert "knn-few-shot" not in [p.name for p in planned]
    assert "name it" in next(p.why for p in left_out if p.name == "knn-few-shot")


def test_in_a_comparison(model: Path, tmp_path: Path) -> None:
    lines = "".join(f"{e.input},{e.output}\n" for e in rows())
    (tmp_path / "rows.csv").write_text("q,k\n" + lines)
    (tmp_path / "task.yaml").write_text(
        f"name: animals\nkind: classification\nmodel: {model}\n"
        'data: {train: rows.csv, input: "{{ q }}", output: "{{ k }}"}\n'
        "arms: [majority, knn-few-shot]\nsuccess: {max_forgetting: null}\n"
    )
    run = luthier.run(tmp_path / "task.yaml", out=tmp_path / "run")
    assert [a["failed"] for a in run.verdict["arms"]] == [None, None]
    answer = run.arm("knn-few-shot").answer(["the bee number 8"])[0]
    assert answer.text in COLOURS and answer.extra["shown"]
