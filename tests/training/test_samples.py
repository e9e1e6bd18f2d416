"""What is answered before and after training, and how far the weights moved."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from run_samples import luthier, write_task
from training_fakes import config, examples, items, load

from luthier.data.examples import Example, Message
from luthier.generation.answers import Answer
from luthier.models.adapters import add_lora
from luthier.progress import Reporter
from luthier.prompts.prompt import Prompt
from luthier.task_training import Training
from luthier.training.loop import fit, trainable
from luthier.training.movement import Movement
from luthier.training.objectives.sft import Sft
from luthier.training.samples import NOT_ASKED, QUESTIONS, Samples
from luthier.training.samples_file import in_words
from luthier.training.stage import train_stage


def weights(model: Any) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in trainable(model).items()}


class TestMovement:
    def test_of_an_adapter_it_is_the_norm_of_the_update_of_the_weights(
        self, tiny_model: Path
    ) -> None:
        model = add_lora(load(tiny_model).model, rank=3, alpha=12, dropout=0.0, base="tiny")
        before = Movement(model)
        with torch.no_grad():
            for parameter in trainable(model).values():
                parameter.add_(torch.randn_like(parameter))
        found = before.measure(weights(model))
        update = held = 0.0
        shares = {}
        for name, module in model.named_modules():
            if hasattr(module, "get_delta_weight") and "default" in getattr(module, "scaling", {}):
                delta = module.get_delta_weight("default")
                weight = module.get_base_layer().weight
                short = name.removeprefix("base_model.model.")
                shares[f"{short}.weight"] = float((delta.norm() / weight.norm()).detach())
                update += float(delta.norm()) ** 2
                held += float(weight.norm()) ** 2
        assert found["relative"] == pytest.approx((update / held) ** 0.5, rel=1e-4)
        largest = sorted(shares.items(), key=lambda item: -item[1])[:5]
        assert [
            (one["tensor"], pytest.approx(one["relative"], rel=1e-4)) for one in found["largest"]
        ] == largest

    def test_an_adapter_that_begins_elsewhere_has_not_moved_there(self, tiny_model: Path) -> None:
        model = add_lora(load(tiny_model).model, rank=3, alpha=12, dropout=0.0, base="tiny")
        with torch.no_grad():
            for parameter in trainable(model).values():
                parameter.normal_()
        assert Movement(model).measure(weights(model))["relative"] == pytest.approx(0, abs=2e-2)

    def test_of_whole_weights_it_is_their_own(self, tiny_model: Path) -> None:
        model = load(tiny_model).model.requires_grad_(True)
        start, before = weights(model), Movement(model)
        moved = {name: value * 1.01 for name, value in start.items()}
        name = "model.layers.0.mlp.up_proj.weight"
        moved[name] = start[name] * 1.5
        found = before.measure(moved)
        assert found["largest"][0]["tensor"] == name
        assert found["largest"][0]["relative"] == pytest.approx(0.5, rel=1e-4)
        assert found["largest"][1]["relative"] == pytest.approx(0.01, rel=1e-3)
        update = sum(float((moved[n] - start[n]).norm()) ** 2 for n in start)
        held = sum(float(value.norm()) ** 2 for value in start.values())
        assert found["relative"] == pytest.approx((update / held) ** 0.5, rel=1e-3)

    def test_a_large_tensor_is_estimated(self) -> None:
        model = torch.nn.Linear(400, 300, bias=False)
        start, before = weights(model), Movement(model)
        moved = {"weight": start["weight"] + 0.1 * start["weight"].norm() * _unit(300, 400)}
        assert before.measure(moved)["relative"] == pytest.approx(0.1, rel=0.05)

    def test_what_began_at_zero_has_no_share(self) -> None:
        model = torch.nn.Linear(4, 3, bias=False)
        torch.nn.init.zeros_(model.weight)
        found = Movement(model).measure({"weight": torch.ones(3, 4)})
        assert found == {"relative": None, "largest": []}


def _unit(rows: int, columns: int) -> torch.Tensor:
    noise = torch.randn(rows, columns, generator=torch.Generator().manual_seed(1))
    return noise / noise.norm()


class TestSamples:
    def made(self, model: Path, validation: list[Example], train: list[Example]) -> Samples:
        return Samples(Prompt(load(model).tokenizer, instruction=""), validation, train, 512)

    def test_validation_rows_before_training_rows(self, tiny_model: Path) -> None:
        held, taught = examples(9, seed=1), examples(20)
        made = self.made(tiny_model, held, taught)
        assert made.split == "validation"
        assert len(made.examples) == QUESTIONS
        assert set(map(id, made.examples)) <= set(map(id, held))
        assert self.made(tiny_model, [], taught).split == "training"

    def test_questions_are_taken_from_all_over(self, tiny_model: Path) -> None:
        rows = examples(50)
        chosen = [rows.index(one) for one in self.made(tiny_model, rows, []).examples]
        assert chosen == [0, 10, 20, 30, 40]

    def test_questions_that_do_not_fit_are_passed_over(self, tiny_model: Path) -> None:
        long = Example("x", (Message("user", "a" * 600),), "b", source="row x")
        short = examples(2)
        made = self.made(tiny_model, [long, *short], [])
        assert made.examples == short
        none = self.made(tiny_model, [long], [])
        assert none.ask(None, None) == []
        assert "short enough" in none.compared([], [], {})["note"]

    def test_a_model_that_cannot_be_asked_costs_no_training(self, tiny_model: Path) -> None:
        class Broken:
            def eval(self) -> Broken:
                raise RuntimeError("no such layer\nmore")

        made = self.made(tiny_model, examples(5), [])
        assert made.ask(Broken(), None) == []
        held = made.compared([], [], {"relative": 0.1, "largest": []})
        assert held["rows"] == []
        assert "could not be asked: no such layer" in held["note"]
        assert "more" not in held["note"]

    def test_the_prompt_is_the_one_that_is_trained_and_the_answer_is_greedy(
        self, tiny_model: Path
    ) -> None:
        loaded = load(tiny_model)
        made = self.made(tiny_model, examples(5), [])
        (first, *_) = made.ask(loaded.model, loaded.tokenizer)
        ids = made.prompt.ask(made.examples[0].messages)
        wanted = loaded.model.generate(
            torch.tensor([ids]), do_sample=False, max_new_tokens=first.completion_tokens
        )
        text = loaded.tokenizer.decode(wanted[0, len(ids) :], skip_special_tokens=True)
        assert first.text == text.strip()

    def test_what_is_written_and_when_it_warns(self, tiny_model: Path) -> None:
        made = self.made(tiny_model, examples(3), [])
        moved = {"relative": 1e-6, "largest": []}

        def answers(*texts: str) -> list[Answer]:
            return [Answer(one, seconds=0.0, finish_reason="length") for one in texts]

        held = made.compared(answers("a", "b", "c"), answers("a", "x", "c"), moved)
        assert [row["changed"] for row in held["rows"]] == [False, True, False]
        assert (held["changed"], held["share_changed"]) == (1, pytest.approx(1 / 3))
        assert held["warning"] == ""
        assert "changed 1 of 3 answers" in in_words(held)
        assert held["rows"][0]["reference"] == made.examples[0].output
        same = made.compared(answers("a", "b", "c"), answers("a", "b", "c"), moved)
        assert "changed none of 3" in same["warning"]
        assert "1e-06" in same["warning"]
        right = answers(*(one.output for one in made.examples))
        assert made.compared(right, right, moved)["warning"] == ""  # nothing was to be learned


WISHES = Training(epochs=3, batch_size=4, rank=4, precision="float32")


class TestStage:
    def stage(self, model: Path, folder: Path, rate: float, **changes: Any) -> Any:
        notices: list[str] = []

        class Heard(Reporter):
            def event(self, kind: str, **values: object) -> None:
                if kind == "warning":
                    notices.append(str(values["text"]))

        values: dict[str, Any] = {
            "model_name": str(model),
            "base": None,
            "instruction": "Count the words.",
            "examples": examples(12),
            "wishes": WISHES.model_copy(update={"learning_rate": rate}),
            "method": "lora",
            "seed": 0,
            "folder": folder,
            "reporter": Heard(),
            "validation": examples(6, seed=3),
        }
        return train_stage(**{**values, **changes}), notices

    def test_training_that_did_something(self, tiny_model: Path, tmp_path: Path) -> None:
        result, warned = self.stage(tiny_model, tmp_path, 3e-2)
        held = json.loads((tmp_path / "samples.json").read_text())
        assert held["split"] == "validation"
        assert held["changed"] >= 4
        assert not warned
        assert not any("none of" in note for note in result.notes)
        assert 0.001 < held["weights"]["relative"] < 10
        assert held["weights"]["largest"][0]["tensor"].endswith("_proj.weight")

    def test_training_that_did_nothing_is_told_at_once(
        self, tiny_model: Path, tmp_path: Path
    ) -> None:
        result, warned = self.stage(tiny_model, tmp_path, 1e-9)
        held = json.loads((tmp_path / "samples.json").read_text())
        assert held["changed"] == 0
        assert held["weights"]["relative"] < 1e-5
        assert warned == [held["warning"]]
        assert held["warning"] in result.notes
        assert "Raise training.learning_rate" in held["warning"]

    def test_looking_changes_nothing_that_is_trained(
        self, tiny_model: Path, tmp_path: Path
    ) -> None:
        wishes = WISHES.model_copy(update={"learning_rate": 1e-2, "dropout": 0.1})
        one, _ = self.stage(tiny_model, tmp_path / "1", 0, wishes=wishes)
        two, _ = self.stage(tiny_model, tmp_path / "2", 0, wishes=wishes, samples=False)
        assert one.curve == two.curve
        assert not (tmp_path / "2" / "samples.json").exists()
        file = "model/adapter_model.safetensors"
        assert (tmp_path / "1" / file).read_bytes() == (tmp_path / "2" / file).read_bytes()

    def test_an_objective_that_writes_no_text_asks_nothing(
        self, tiny_model: Path, tmp_path: Path
    ) -> None:
        wishes = WISHES.model_copy(update={"objective": "pretrain", "learning_rate": 1e-2})
        result, warned = self.stage(tiny_model, tmp_path, 0, wishes=wishes)
        assert not (tmp_path / "samples.json").exists()
        assert NOT_ASKED in result.notes
        assert not warned

    def test_rates_are_those_of_the_schedule(self, tiny_model: Path, tmp_path: Path) -> None:
        seen: dict[int, float] = {}

        class Steps(Reporter):
            def event(self, kind: str, **values: Any) -> None:
                if kind == "step":
                    seen[values["step"]] = values["learning_rate"]

        result, _ = self.stage(tiny_model, tmp_path, 1e-2, reporter=Steps())
        assert dict(result.rates) == pytest.approx(seen)

    def test_the_command_prints_the_answers(
        self, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        task = write_task(tmp_path, tiny_model)
        code, said, _ = luthier(capsys, "train", task, "--out", tmp_path / "o")
        assert code == 0
        assert "before" in said
        assert "answers to validation questions" in said
        assert "of their norm" in said


def test_the_words_of_a_step(tiny_model: Path) -> None:
    loaded = load(tiny_model)
    said: list[str] = []
    fit(
        loaded.model,
        Sft(),
        items(loaded.tokenizer, 4),
        config(learning_rate=1e-3),
        report=lambda step: said.append(step.words),
    )
    (only,) = said
    assert [part.split()[0] for part in only.split(" | ")[:3]] == ["loss", "rate", "gradient"]
    assert only.endswith("tokens/s")
