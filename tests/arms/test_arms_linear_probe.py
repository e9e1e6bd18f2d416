"""The frozen encoder with a linear head, held to scikit-learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from arms_samples import COLOURS, colours, example, workplace
from run_samples import write_tiny_encoder
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from luthier.arms import linear_probe
from luthier.arms.base import Workplace
from luthier.arms.linear_probe import LinearProbe
from luthier.errors import InputError
from luthier.models.pool import ModelPool


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """A random two-layer BERT without a pooler."""
    return write_tiny_encoder(tmp_path_factory.mktemp("encoder"), tiny_model)


@pytest.fixture(autouse=True)
def _use_it(encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear_probe, "ENCODER", str(encoder))


def place_of(tiny_model: Path, folder: Path, labels: tuple[str, ...]) -> Workplace:
    return workplace(
        tiny_model,
        folder,
        train=colours(0, 24, labels),
        validation=colours(100, 9, labels),
        labels=labels,
    )


@pytest.mark.parametrize("labels", [("no", "yes"), COLOURS])
def test_answers_are_scikit_learns(
    tiny_model: Path, tmp_path: Path, encoder: Path, labels: tuple[str, ...]
) -> None:
    place = place_of(tiny_model, tmp_path, labels)
    arm = LinearProbe()
    fit = arm.fit(place)
    answerer = arm.open(place.task, labels, tmp_path, fit.settings, ModelPool())
    asked = colours(200, 40, labels)
    answers = answerer.answer([e.messages for e in asked])

    vectors, tokens, _ = place.pool.encoder(str(encoder)).encode(
        [e.input for e in (*place.train, *asked)]
    )
    strength = fit.choices[0].chosen
    head = LogisticRegression(C=strength, max_iter=2000)
    head.fit(vectors[:24], [e.output for e in place.train])
    assert [a.text for a in answers] == list(head.predict(vectors[24:]))
    shown = np.array([[a.extra["probabilities"][c] for c in head.classes_] for a in answers])
    assert shown == pytest.approx(head.predict_proba(vectors[24:]), abs=1e-4)
    assert [a.prompt_tokens for a in answers] == tokens[24:]
    assert fit.costs["trained_parameters"] == len(labels) * 33  # 32 weights and a bias a class
    assert not answerer.generates


def test_among_equals_the_best_probabilities_are_taken(
    tiny_model: Path, tmp_path: Path, encoder: Path
) -> None:
    place = place_of(tiny_model, tmp_path, COLOURS)
    (choice,) = LinearProbe().fit(place).choices
    vectors, *_ = place.pool.encoder(str(encoder)).encode(
        [e.input for e in (*place.train, *place.validation)]
    )
    goals = [e.output for e in place.validation]
    losses = {}
    for option in choice.options:
        head = LogisticRegression(C=option["value"], max_iter=2000)
        head.fit(vectors[:24], [e.output for e in place.train])
        losses[option["value"]] = log_loss(
            goals, head.predict_proba(vectors[24:]), labels=list(head.classes_)
        )
    assert len(choice.options) == 6
    best = max(option["score"] for option in choice.options)
    equals = [option["value"] for option in choice.options if option["score"] == best]
    assert choice.chosen == min(equals, key=losses.__getitem__)


def test_what_is_opened_again_answers_alike(tiny_model: Path, tmp_path: Path) -> None:
    place = place_of(tiny_model, tmp_path, COLOURS)
    fit = LinearProbe().fit(place)
    asked = [e.messages for e in colours(200, 12)]
    answers = [
        LinearProbe().open(place.task, COLOURS, tmp_path, fit.settings, pool).answer(asked)
        for pool in (place.pool, ModelPool())
    ]
    assert [a.text for a in answers[0]] == [a.text for a in answers[1]]
    assert [a.extra for a in answers[0]] == [a.extra for a in answers[1]]


def test_texts_that_were_cut_are_counted(tiny_model: Path, tmp_path: Path) -> None:
    place = place_of(tiny_model, tmp_path, COLOURS)
    place.train = (*place.train, example("x" * 100, "red"))
    assert "1 texts were longer" in " ".join(LinearProbe().fit(place).notes)


def test_one_label_alone(tiny_model: Path, tmp_path: Path) -> None:
    place = workplace(tiny_model, tmp_path, train=[example(str(i), "red") for i in range(5)])
    with pytest.raises(InputError, match="All training examples have the same label"):
        LinearProbe().fit(place)


def test_a_label_without_training_rows_is_never_answered(tiny_model: Path, tmp_path: Path) -> None:
    from luthier.evaluation.scoring import ScoringRows, metrics_for, score

    place = place_of(tiny_model, tmp_path, COLOURS)
    labels = (*COLOURS, "violet")
    place.labels = labels
    fit = LinearProbe().fit(place)
    asked = colours(200, 12)
    answerer = LinearProbe().open(place.task, labels, tmp_path, fit.settings, place.pool)
    answers = answerer.answer([e.messages for e in asked])
    rows = ScoringRows(
        kind="classification",
        inputs=[e.input for e in asked],
        references=[e.output for e in asked],
        predictions=[a.text for a in answers],
        labels=labels,
        probabilities=[a.extra["probabilities"] for a in answers],
    )
    for name in metrics_for("classification", rows):
        assert np.isfinite(score(name, rows).value)
