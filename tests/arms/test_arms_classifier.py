"""An encoder fine-tuned with a head, and the settings it is tried with."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from arms_samples import COLOURS, colours, workplace
from run_samples import write_tiny_encoder

from luthier.arms import classifier
from luthier.arms.base import Fit, Workplace
from luthier.arms.classifier import ClassifierArm
from luthier.data.examples import Conversation
from luthier.models.pool import ModelPool
from luthier.progress import Reporter


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    return write_tiny_encoder(tmp_path_factory.mktemp("encoder"), tiny_model)


@pytest.fixture(autouse=True)
def _use_it(encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classifier, "ENCODER", str(encoder))


def place_of(tiny_model: Path, folder: Path, **training: Any) -> Workplace:
    folder.mkdir(parents=True, exist_ok=True)
    return workplace(tiny_model, folder, training={"precision": "float32", **training})


def asked(place: Workplace, fit: Fit) -> list[str]:
    answerer = ClassifierArm().open(
        place.task, place.labels, place.folder, fit.settings, ModelPool()
    )
    try:
        return [one.text for one in answerer.answer([e.messages for e in colours(200, 30)])]
    finally:
        answerer.close()


def test_it_learns_what_the_words_say(encoder: Path, tmp_path: Path) -> None:
    place = place_of(encoder, tmp_path, learning_rate=5e-3, epochs=20, overlong="cut")
    answers = asked(place, ClassifierArm().fit(place))
    right = sum(a == e.output for a, e in zip(answers, colours(200, 30), strict=True))
    assert right >= 24  # by chance: 10


def test_the_encoder_has_values_of_its_own(tiny_model: Path, tmp_path: Path) -> None:
    place = place_of(tiny_model, tmp_path, learning_rate=1e-9, epochs=1, warmup=0.1)
    fit = ClassifierArm().fit(place)
    # the task's rate and epochs are for the model that writes
    assert fit.settings["training"]["learning_rate"] > 1e-6
    assert fit.settings["training"]["warmup"] == 0.1
    (note,) = [one for one in fit.notes if "meant for the task's model" in one]
    assert "training.epochs" in note
    assert "training.learning_rate" in note


class TestTuning:
    @pytest.fixture(scope="class")
    def found(
        self, tiny_model: Path, encoder: Path, tmp_path_factory: pytest.TempPathFactory
    ) -> tuple[Workplace, Fit, set[str]]:
        """A fit that tried four settings, and all questions that were asked meanwhile."""
        place = place_of(tiny_model, tmp_path_factory.mktemp("tuned"), tune=4)
        heard: set[str] = set()
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(classifier, "ENCODER", str(encoder))
            real = classifier.open_headed

            def listening(*given: Any) -> Any:
                answerer = real(*given)
                answer = answerer.answer

                def heeding(conversations: Sequence[Conversation], *rest: Any) -> Any:
                    heard.update(one[-1].content for one in conversations)
                    return answer(conversations, *rest)

                patched.setattr(answerer, "answer", heeding, raising=False)
                return answerer

            patched.setattr(classifier, "open_headed", listening)
            return place, ClassifierArm().fit(place), heard

    def test_the_best_of_all_that_were_tried_is_kept(
        self, found: tuple[Workplace, Fit, set[str]]
    ) -> None:
        place, fit, _ = found
        (choice,) = fit.choices
        assert choice.what == "settings of training"
        assert [option["trial"] for option in choice.options] == [0, 1, 2, 3]
        assert choice.options[0]["value"].endswith("(the default)")
        best = next(o for o in choice.options if o["value"] == choice.chosen)
        assert best["score"] == max(o["score"] for o in choice.options if o["score"] is not None)
        assert set(best["settings"]) == {"learning_rate", "epochs", "batch_size"}
        for key, value in best["settings"].items():
            assert fit.settings["training"][key] == value
        assert not any("tune" in note for note in fit.notes)
        # the model that is opened is the one that was measured
        answerer = ClassifierArm().open(
            place.task, place.labels, place.folder, fit.settings, ModelPool()
        )
        answers = answerer.answer([e.messages for e in place.validation])
        answerer.close()
        right = [a.text == e.output for a, e in zip(answers, place.validation, strict=True)]
        assert sum(right) / len(right) == pytest.approx(best["score"])

    def test_only_validation_rows_decide(self, found: tuple[Workplace, Fit, set[str]]) -> None:
        place, _, heard = found
        assert heard == {e.messages[-1].content for e in place.validation}

    def test_an_interrupted_search_comes_to_the_same(
        self, found: tuple[Workplace, Fit, set[str]], tiny_model: Path, tmp_path: Path
    ) -> None:
        class Killing(Reporter):
            def event(self, kind: str, **values: object) -> None:
                if kind == "step" and values.get("trial") == 2:
                    raise KeyboardInterrupt

        place = place_of(tiny_model, tmp_path, tune=4)
        place.reporter = Killing()
        with pytest.raises(KeyboardInterrupt):
            ClassifierArm().fit(place)
        place.reporter = Reporter()
        fit = ClassifierArm().fit(place)
        whole = found[1]
        assert fit.settings == whole.settings
        seen = [
            [(o["value"], o["score"], o["state"]) for o in one.choices[0].options]
            for one in (fit, whole)
        ]
        assert seen[0] == seen[1]
        assert asked(place, fit) == asked(found[0], whole)
        journal = json.loads((tmp_path / "tune" / "choice.json").read_text())
        assert len(journal["options"]) == 4


def test_an_encoder_as_the_tasks_model_keeps_what_the_task_gives(
    encoder: Path, tmp_path: Path
) -> None:
    place = place_of(encoder, tmp_path, tune=2, epochs=2, batch_size=4, overlong="cut")
    fit = ClassifierArm().fit(place)
    (choice,) = fit.choices
    assert all(set(o["settings"]) == {"learning_rate"} for o in choice.options)
    assert fit.settings["training"]["epochs"] == 2
    assert set(asked(place, fit)) <= set(COLOURS)
