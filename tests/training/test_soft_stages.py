"""Stages that train soft prompts and bottleneck adapters, from examples to answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from soft_fakes import SOFT, N, base, made, ours, plain, stirred, stored
from tiny_models import make_tokenizer
from training_fakes import examples

from luthier.arms.base import ARMS
from luthier.arms.prompted import Reading
from luthier.arms.tuned import open_tuned
from luthier.errors import InputError, ModelError
from luthier.models.bottleneck import is_adapted
from luthier.models.heads import virtual_tokens
from luthier.models.pool import ModelPool
from luthier.models.tuned import check_tunable, describe_any, load_any, load_tuned
from luthier.progress import Reporter
from luthier.task_training import Training
from luthier.training.config import decide, refuse_ignored
from luthier.training.loop import fit
from luthier.training.method import METHODS
from luthier.training.stage import StageResult, train_stage

ALL = [*SOFT, "bottleneck"]
WISHES = Training(epochs=2, batch_size=4, precision="float32", virtual_tokens=N)


def stage(model: str | Path, folder: Path, method: str, **changes: Any) -> StageResult:
    values: dict[str, Any] = {
        "model_name": str(model),
        "base": None,
        "instruction": "Count the words.",
        "examples": examples(12),
        "wishes": WISHES,
        "method": method,
        "seed": 0,
        "folder": folder,
        "reporter": Reporter(),
    }
    return train_stage(**{**values, **changes})


class TestStage:
    def test_the_words_of_a_stage_are_its_instruction(
        self, tiny_model: Path, tmp_path: Path
    ) -> None:
        wishes = WISHES.model_copy(update={"learning_rate": 1e-5, "epochs": 1})
        stage(tiny_model, tmp_path, "prompt-tuning", wishes=wishes)
        tensors = load_file(tmp_path / "model" / "adapter_model.safetensors")
        words = make_tokenizer()("Count the words.", add_special_tokens=False)["input_ids"][:N]
        wanted = base(tiny_model).get_input_embeddings()(torch.tensor(words))
        torch.testing.assert_close(tensors["prompt_embeddings"], wanted, rtol=0, atol=1e-4)

    @pytest.mark.parametrize("method", ALL)
    def test_an_arm_learns_and_answers(self, tiny_model: Path, tmp_path: Path, method: str) -> None:
        assert ARMS.get(method).title == METHODS.get(method).title
        wishes = WISHES.model_copy(update={"epochs": 20, "learning_rate": 0.03})
        result = stage(tiny_model, tmp_path, method, wishes=wishes)
        losses = [loss for _, loss in result.curve]
        assert sum(losses[-3:]) < 0.9 * sum(losses[:3])
        assert 0 < result.trained_parameters < result.total_parameters
        arm = open_tuned(
            method,
            tmp_path / "model",
            Reading(max_new_tokens=8),
            task=None,
            labels=None,
            pool=ModelPool(),
        )
        taken = 0 if method == "bottleneck" else N
        assert arm.context_length == 512 - taken
        assert virtual_tokens(arm.generator.model) == taken
        asked = [one.messages for one in examples(4, seed=3)]
        together = arm.answer(asked)
        assert [arm.answer([one])[0].text for one in asked] == [a.text for a in together]
        assert all(answer.completion_tokens for answer in together)
        *pieces, whole = arm.stream(asked[0])
        assert "".join(map(str, pieces)) == together[0].text == whole.text  # type: ignore[union-attr]
        assert describe_any(str(tmp_path)).context_length == 512 - taken

    @pytest.mark.parametrize("method", ALL)
    def test_what_answers_is_what_was_trained(
        self, tiny_model: Path, tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        kept: list[Any] = []
        monkeypatch.setattr(
            "luthier.training.loop.fit",
            lambda model, *a, **k: kept.append(model) or fit(model, *a, **k),
        )
        stage(tiny_model, tmp_path, method)
        for loaded in (
            load_any(str(tmp_path), torch.float32),
            load_tuned(tmp_path / "model", str(tiny_model)),
        ):
            torch.testing.assert_close(
                ours(loaded.model), ours(kept[0].eval()), rtol=1e-5, atol=1e-5
            )
            assert is_adapted(loaded.model) == (method == "bottleneck")
            assert float((ours(loaded.model) - plain(base(tiny_model))).abs().max()) > 1e-3

    @pytest.mark.parametrize("method", ALL)
    def test_no_stage_starts_from_it(self, tiny_model: Path, tmp_path: Path, method: str) -> None:
        stage(tiny_model, tmp_path / "first", method)
        check_tunable(str(tiny_model))
        with pytest.raises(ModelError, match="cannot be tuned further") as error:
            stage(tmp_path / "first", tmp_path / "second", "lora")
        assert "Start from its base model" in error.value.fix

    @pytest.mark.parametrize("method", ["prefix-tuning", "bottleneck"])
    def test_it_may_start_from_a_merged_stage(
        self, tiny_model: Path, tmp_path: Path, method: str
    ) -> None:
        wishes = Training(epochs=2, learning_rate=1e-2, precision="float32")
        stage(tiny_model, tmp_path / "first", "lora", wishes=wishes)
        stage(tmp_path / "first", tmp_path / "second", method)
        tuned = load_any(str(tmp_path / "second"), torch.float32).model
        first = load_any(str(tmp_path / "first"), torch.float32).model
        assert float((ours(tuned) - plain(first)).abs().max()) > 1e-3
        with tuned.disable_adapter() if method != "bottleneck" else _without(tuned):
            torch.testing.assert_close(ours(tuned), plain(first))

    def test_it_trains_in_bfloat16(self, tiny_model: Path, tmp_path: Path) -> None:
        for method in ALL:
            wishes = WISHES.model_copy(
                update={"epochs": 20, "learning_rate": 0.03, "precision": "bfloat16"}
            )
            result = stage(tiny_model, tmp_path / method, method, wishes=wishes)
            losses = [loss for _, loss in result.curve]
            assert sum(losses[-3:]) < 0.9 * sum(losses[:3])


class TestSettings:
    def decided(self, method: str, **wishes: Any) -> Any:
        return decide(
            Training(**wishes),
            method=method,
            examples=100,
            hidden_size=32,
            context_length=64,
            bfloat16=False,
            seed=0,
        )

    def test_the_prompt_takes_its_positions_from_the_context(self) -> None:
        for method in SOFT:
            assert self.decided(method).max_tokens == 44
            config = self.decided(method, virtual_tokens=10)
            assert (config.max_tokens, config.virtual_tokens) == (54, 10)
            with pytest.raises(InputError, match="reads at most 54 tokens"):
                self.decided(method, virtual_tokens=10, max_tokens=60)
        assert self.decided("bottleneck").max_tokens == 64

    def test_what_learns_slowly_is_trained_for_longer(self) -> None:
        assert self.decided("prompt-tuning").epochs == 2 * self.decided("lora").epochs
        assert self.decided("prompt-tuning", epochs=1).epochs == 1
        assert self.decided("bottleneck").epochs == self.decided("lora").epochs

    def test_other_methods_do_not_read_the_length(self) -> None:
        wishes = Training(virtual_tokens=5)
        for method in SOFT:
            refuse_ignored(wishes, [method])
        with pytest.raises(InputError, match="virtual_tokens"):
            refuse_ignored(wishes, ["lora", "bottleneck"])

    @pytest.mark.parametrize("method", SOFT)
    def test_rows_that_fill_the_context_still_fit_at_its_end(
        self, tiny_model: Path, tmp_path: Path, method: str
    ) -> None:
        folder = stored(stirred(made(tiny_model, method)), tmp_path / "s")
        (folder / "prompt.json").write_text(json.dumps({"model": str(tiny_model)}))
        loaded = load_any(str(folder), torch.float32)
        assert loaded.context_length == 512 - N
        from luthier.generation.local import Generator
        from luthier.generation.options import Stopping

        prompt = [5] * (loaded.context_length - 4)
        answer = Generator(loaded.model, loaded.tokenizer).generate(
            [prompt], Stopping(frozenset(), (), 4)
        )[0]
        assert answer.completion_tokens == 4


def _without(model: Any) -> Any:
    from luthier.models.bottleneck import without_bottlenecks

    return without_bottlenecks(model)
