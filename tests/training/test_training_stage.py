"""One stage from examples to a stored model, and a second one on top of it."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from training_fakes import examples

from luthier.data.examples import Example, Message
from luthier.errors import InputError, ModelError
from luthier.models import adapters
from luthier.models.tuned import (
    describe_any,
    lineage,
    load_any,
    load_any_tokenizer,
    load_tuned,
    stage_folder,
)
from luthier.progress import Reporter
from luthier.prompts.prompt import Prompt
from luthier.task_training import Training
from luthier.training.config import TrainingConfig
from luthier.training.rows import cut_to_fit, teach_all
from luthier.training.stage import StageResult, stored_prompt, train_stage

WISHES = Training(learning_rate=1e-2, epochs=2, batch_size=4, rank=4, precision="float32")


class Events(Reporter):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []

    def event(self, kind: str, **values: object) -> None:
        self.events.append((kind, values))


def stage(model: str | Path, folder: Path, **changes: Any) -> StageResult:
    values: dict[str, Any] = {
        "model_name": str(model),
        "base": None,
        "instruction": "Count the words.",
        "examples": examples(12),
        "wishes": WISHES,
        "method": "lora",
        "seed": 0,
        "folder": folder,
        "reporter": Reporter(),
    }
    return train_stage(**{**values, **changes})


def logits(model: Any, ids: list[int]) -> torch.Tensor:
    with torch.no_grad():
        out: torch.Tensor = model(input_ids=torch.tensor([ids])).logits
    return out


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The models that stages stored, as they were in memory at that moment."""
    models: list[Any] = []
    save = adapters.save

    def keep(model: Any, *args: Any) -> None:
        models.append(model)
        save(model, *args)

    monkeypatch.setattr(adapters, "save", keep)
    return models


IDS = [10, 20, 30, 40, 50, 60]


class TestOneStage:
    @pytest.mark.parametrize("method", ["lora", "full"])
    def test_what_is_stored_is_what_was_trained(
        self, tiny_model: Path, tmp_path: Path, kept: list[Any], method: str
    ) -> None:
        reporter = Events()
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # nothing that a user would have to wonder about
            result = stage(tiny_model, tmp_path / "one", method=method, reporter=reporter)
        (trained,) = kept
        folder = tmp_path / "one" / "model"
        left = sorted(p.name for p in (tmp_path / "one").iterdir())  # checkpoints are gone
        assert left == ["model", "samples.json"]
        stored = {p.name for p in folder.iterdir()}
        if method == "lora":
            assert stored == {"adapter_config.json", "adapter_model.safetensors", "prompt.json"}
            held = json.loads((folder / "adapter_config.json").read_text())
            assert held["base_model_name_or_path"] == str(tiny_model)
            assert result.trained_parameters < result.total_parameters / 2
        else:
            assert {"config.json", "model.safetensors", "tokenizer.json", "prompt.json"} <= stored
            assert result.trained_parameters == result.total_parameters
        loaded = load_tuned(folder, str(tiny_model))
        assert not loaded.model.training
        torch.testing.assert_close(
            logits(loaded.model, IDS), logits(trained, IDS), rtol=1e-4, atol=1e-4
        )
        base = load_any(str(tiny_model), torch.float32)
        change = (logits(loaded.model, IDS) - logits(base.model, IDS)).abs().max()
        assert float(change) > 0.1

        assert stored_prompt(folder)["model"] == str(tiny_model)
        prompt = Prompt.from_dict(stored_prompt(folder), loaded.tokenizer)
        assert prompt.instruction == "Count the words."

        assert (result.method, result.objective, result.examples) == (method, "sft", 12)
        assert result.steps == len(result.curve) == 6
        assert [step for step, _ in result.curve] == [1, 2, 3, 4, 5, 6]
        assert result.curve[-1][1] == result.final_loss < result.curve[0][1]
        assert result.tokens_per_second == pytest.approx(result.tokens / result.seconds)
        assert result.peak_memory_bytes > 0
        assert json.loads(json.dumps(result.to_dict()))["config"]["learning_rate"] == 1e-2
        steps = [values for kind, values in reporter.events if kind == "step"]
        assert [s["loss"] for s in steps] == [loss for _, loss in result.curve]

    def test_it_is_the_same_every_time(self, tiny_model: Path, tmp_path: Path) -> None:
        one, two = stage(tiny_model, tmp_path / "1"), stage(tiny_model, tmp_path / "2")
        assert one.curve == two.curve
        file = "model/adapter_model.safetensors"
        assert (tmp_path / "1" / file).read_bytes() == (tmp_path / "2" / file).read_bytes()
        other = stage(tiny_model, tmp_path / "3", seed=1)
        assert other.curve != one.curve

    @pytest.mark.parametrize("method", ["lora", "full"])
    def test_an_interrupted_stage_continues_to_the_same_file(
        self, tiny_model: Path, tmp_path: Path, method: str
    ) -> None:
        class Kill(Reporter):
            def event(self, kind: str, **values: object) -> None:
                if values.get("step") == 5:
                    raise KeyboardInterrupt

        wishes = WISHES.model_copy(update={"checkpoint_every": 2, "dropout": 0.1})
        whole = stage(tiny_model, tmp_path / "whole", method=method, wishes=wishes)
        with pytest.raises(KeyboardInterrupt):
            stage(tiny_model, tmp_path / "x", method=method, wishes=wishes, reporter=Kill())
        assert not (tmp_path / "x" / "model").exists()
        again = stage(tiny_model, tmp_path / "x", method=method, wishes=wishes)
        assert "Continued after step 4 of 6." in again.notes
        assert again.curve == whole.curve
        file = "adapter_model.safetensors" if method == "lora" else "model.safetensors"
        assert (tmp_path / "x" / "model" / file).read_bytes() == (
            tmp_path / "whole" / "model" / file
        ).read_bytes()
        assert not (tmp_path / "x" / "checkpoints").exists()

    def test_a_checkpoint_of_other_examples_is_not_used(
        self, tiny_model: Path, tmp_path: Path
    ) -> None:
        class Kill(Reporter):
            def event(self, kind: str, **values: object) -> None:
                if values.get("step") == 3:
                    raise KeyboardInterrupt

        wishes = WISHES.model_copy(update={"checkpoint_every": 1})
        with pytest.raises(KeyboardInterrupt):
            stage(tiny_model, tmp_path, wishes=wishes, reporter=Kill())
        other = stage(tiny_model, tmp_path, wishes=wishes, examples=examples(12, seed=5))
        assert any("belong to other data" in note for note in other.notes)
        assert not any("Continued" in note for note in other.notes)

    def test_bfloat16_is_stored_and_answers_in_float32(
        self, tiny_model: Path, tmp_path: Path, kept: list[Any]
    ) -> None:
        wishes = WISHES.model_copy(update={"precision": "bfloat16"})
        stage(tiny_model, tmp_path, wishes=wishes)
        loaded = load_tuned(tmp_path / "model", str(tiny_model))
        assert loaded.model.dtype == torch.float32
        assert kept[0].dtype == torch.bfloat16
        exact = logits(loaded.model, IDS)
        difference = exact - logits(kept[0], IDS).float()
        # a few roundings to eight bits on the way
        assert float(difference.norm()) < 2**-5 * float(exact.norm())


class TestOverlong:
    LONG = Example(
        "x", (Message("user", "start " + 50 * "word " + "end"),), "51 words", source="x.csv row 9"
    )

    def config(self, prompt: Prompt, overlong: str, more: int = 60) -> TrainingConfig:
        least = len(prompt.teach((Message("user", ""),), "51 words", loss_on="completion").ids)
        return TrainingConfig(
            learning_rate=1,
            epochs=1,
            max_tokens=least + more,
            overlong=overlong,  # type: ignore[arg-type]
        )

    @pytest.fixture
    def prompt(self, tiny_model: Path) -> Prompt:
        return Prompt(load_any_tokenizer(str(tiny_model)), instruction="Count.")

    def test_error_names_the_rows(self, prompt: Prompt) -> None:
        rows = [*examples(3), self.LONG]
        with pytest.raises(InputError, match=r"1 training examples.*x\.csv row 9 \(\d+ tokens"):
            teach_all(prompt, rows, self.config(prompt, "error"))
        assert len(teach_all(prompt, rows, self.config(prompt, "error", 500))[0]) == 4

    def test_drop_leaves_them_out_and_says_so(self, prompt: Prompt) -> None:
        taught, notes = teach_all(prompt, [*examples(3), self.LONG], self.config(prompt, "drop"))
        assert len(taught) == 3
        assert "left out: x.csv row 9" in notes[0]
        with pytest.raises(InputError, match="All training examples"):
            teach_all(prompt, [self.LONG], self.config(prompt, "drop"))

    def test_cut_keeps_the_end_of_the_question_and_the_whole_answer(self, prompt: Prompt) -> None:
        config = self.config(prompt, "cut")
        taught, notes = teach_all(prompt, [*examples(3), self.LONG], config)
        assert "cut at the start of the question: x.csv row 9" in notes[0]
        assert len(taught) == 4
        # one token a byte: nothing is wasted
        assert len(taught[3].ids) == config.max_tokens
        text = prompt.tokenizer.decode(taught[3].ids)
        assert "word end<|im_end|>" in text
        assert "user\nstart" not in text
        assert text.endswith("51 words<|im_end|>")

    def test_an_instruction_that_does_not_fit_is_refused(self, prompt: Prompt) -> None:
        with pytest.raises(InputError, match="instruction and the earlier turns alone"):
            cut_to_fit(prompt, self.LONG.messages, 20)

    def test_a_conversation_that_fits_is_left_whole(self, prompt: Prompt) -> None:
        assert cut_to_fit(prompt, self.LONG.messages, 500) == self.LONG.messages


class TestStagesOnStages:
    @pytest.mark.parametrize("second", ["lora", "full"])
    def test_a_second_stage_starts_where_the_first_one_ended(
        self, tiny_model: Path, tmp_path: Path, kept: list[Any], second: str
    ) -> None:
        stage(tiny_model, tmp_path / "first")
        first = str(tmp_path / "first")
        result = stage(first, tmp_path / "second", method=second, examples=examples(12, seed=9))
        if second == "full":
            assert result.trained_parameters == result.total_parameters
        folder = tmp_path / "second" / "model"
        assert stored_prompt(folder)["model"] == first
        loaded = load_any(str(tmp_path / "second"), torch.float32)
        torch.testing.assert_close(
            logits(loaded.model, IDS), logits(kept[1], IDS), rtol=1e-4, atol=1e-4
        )
        # and it is not the base that was tuned anew
        alone = stage(tiny_model, tmp_path / "alone", method=second, examples=examples(12, seed=9))
        assert alone.curve[0] != result.curve[0]
        assert result.curve[0][1] < alone.curve[0][1]
        # a third stage follows the whole line
        third = stage(tmp_path / "second" / "model", tmp_path / "third")
        wanted = 3 if second == "lora" else 1
        assert len(lineage(str(tmp_path / "third")).adapters) == wanted
        assert third.curve[0][1] < alone.curve[0][1]

    def test_it_is_described_by_its_base(self, tiny_model: Path, tmp_path: Path) -> None:
        stage(tiny_model, tmp_path / "s")
        base, info = describe_any(str(tiny_model)), describe_any(str(tmp_path / "s"))
        assert info.name == str(tmp_path / "s")
        assert info.path == tmp_path / "s" / "model"
        assert (info.parameters, info.hidden_size) == (base.parameters, base.hidden_size)
        tokenizer = load_any_tokenizer(str(tmp_path / "s"))
        assert tokenizer.get_vocab() == load_any_tokenizer(str(tiny_model)).get_vocab()

    def test_a_relative_base_is_found_again_from_anywhere(
        self, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        task = tmp_path / "task"
        shutil.copytree(tiny_model, task / "models" / "mine")
        stage("models/mine", tmp_path / "s", base=task)
        held = json.loads((tmp_path / "s" / "model" / "adapter_config.json").read_text())
        assert held["base_model_name_or_path"] == "models/mine"
        monkeypatch.chdir(tmp_path)
        assert load_any("s", torch.float32).path == tmp_path / "s" / "model"
        # when the whole folder has moved, the name relative to the task still serves
        task.rename(tmp_path / "moved")
        with pytest.raises(ModelError, match="models/mine"):
            load_any("s", torch.float32)
        load_any(str(tmp_path / "s"), torch.float32, base=tmp_path / "moved")

    def test_stages_in_a_circle_are_refused(self, tiny_model: Path, tmp_path: Path) -> None:
        stage(tiny_model, tmp_path)
        path = tmp_path / "model" / "prompt.json"
        held = json.loads(path.read_text())
        held["model_folder"] = str(path.parent)
        path.write_text(json.dumps(held))
        with pytest.raises(ModelError, match="names itself"):
            load_any(str(tmp_path), torch.float32)
        del held["model_folder"], held["model"]
        path.write_text(json.dumps(held))
        with pytest.raises(ModelError, match="does not name the base model"):
            load_any(str(tmp_path), torch.float32)

    def test_names_that_are_no_stage(self, tiny_model: Path, tmp_path: Path) -> None:
        assert stage_folder(tiny_model) is None
        assert stage_folder("smollm2-135m-instruct") is None
        assert stage_folder(tmp_path / "nowhere") is None
        assert lineage("smollm2-135m-instruct").name == "smollm2-135m-instruct"
        assert describe_any("smollm2-135m-instruct").layers == 30
