"""LoRA's relatives, each against its definition or peft's own code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from methods_fakes import logits, move, prepared, stage
from safetensors.torch import load_file
from training_fakes import load

from luthier.errors import InputError, ModelError
from luthier.models import adapters
from luthier.models.dora import LEAST
from luthier.models.tuned import load_any

Q = "model.layers.0.self_attn.q_proj"


def layer(model: Any, name: str = Q) -> Any:
    return model.get_submodule(f"base_model.model.{name}")


def store(model: Any, method: str, weights: dict[str, torch.Tensor], folder: Path) -> Path:
    from luthier.training.method import METHODS

    folder.mkdir()
    METHODS.get(method)().store(model, weights, folder, None, base="a-name")
    return folder


class TestRankStabilised:
    def test_the_update_is_scaled_by_the_square_root(self, tiny_model: Path) -> None:
        model = prepared(load(tiny_model).model, "rslora", rank=4, alpha=8.0)
        weights = move(model)
        name = f"base_model.model.{Q}"
        a, b = (weights[f"{name}.lora_{x}.default.weight"] for x in "AB")
        x = torch.randn(3, 32)
        with torch.no_grad():
            added = layer(model)(x) - x @ layer(model).base_layer.weight.T
        torch.testing.assert_close(added, 8 / 4**0.5 * x @ a.T @ b.T, rtol=1e-4, atol=1e-5)

    def test_at_rank_16_it_begins_with_the_scale_of_lora(
        self, tiny_model: Path, tmp_path: Path
    ) -> None:
        results = [stage(tiny_model, tmp_path / m, m, rank=16) for m in ("lora", "rslora")]
        assert results[0].curve == results[1].curve
        results = [stage(tiny_model, tmp_path / f"{m}4", m, rank=4) for m in ("lora", "rslora")]
        assert results[0].curve != results[1].curve
        assert [r.config["alpha"] for r in results] == [8.0, 8.0]


class TestDora:
    def test_it_begins_as_the_base_and_follows_the_definition(self, tiny_model: Path) -> None:
        base = load(tiny_model).model
        before = logits(base)
        model = prepared(base, "dora", rank=4, alpha=8.0)
        torch.testing.assert_close(logits(model), before)
        weights = move(model)
        name = f"base_model.model.{Q}"
        a, b = (weights[f"{name}.lora_{x}.default.weight"] for x in "AB")
        m = weights[f"{name}.lora_magnitude_vector.default.weight"]
        rows = layer(model).base_layer.weight + 2 * b @ a
        wanted = m[:, None] * rows / rows.norm(dim=1, keepdim=True)  # equation 5
        x = torch.randn(3, 32)
        with torch.no_grad():
            torch.testing.assert_close(layer(model)(x), x @ wanted.T, rtol=1e-4, atol=1e-4)

    def test_where_nothing_is_zero_it_is_pefts(self, tiny_model: Path, tmp_path: Path) -> None:
        from peft import PeftModel

        model = prepared(load(tiny_model).model, "dora", rank=4, alpha=8.0)
        folder = store(model, "dora", move(model), tmp_path / "a")
        theirs = PeftModel.from_pretrained(load(tiny_model).model, str(folder))
        torch.testing.assert_close(logits(theirs), logits(model), rtol=1e-4, atol=1e-4)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_outputs_without_weights_are_numbers_and_learn(
        self, tiny_model: Path, tmp_path: Path, dtype: torch.dtype
    ) -> None:
        def pruned() -> Any:
            base = load(tiny_model, dtype).model
            with torch.no_grad():
                base.get_submodule(Q).weight[3:6] = 0
            return base

        base = pruned()
        before = logits(base)
        model = prepared(base, "dora", rank=4, alpha=8.0)
        lengths = layer(model).lora_magnitude_vector["default"].weight
        assert lengths.dtype == torch.float32
        torch.testing.assert_close(lengths[3:6], torch.full((3,), LEAST))
        torch.testing.assert_close(logits(model), before)
        out = layer(model)(torch.randn(4, 32, dtype=dtype))
        out[:, 3:6].float().sum().backward()
        gradient = layer(model).lora_B["default"].weight.grad
        assert gradient.isfinite().all()
        assert (gradient[3:6].abs().sum(dim=1) > 0).all()
        # one such output has learned nothing, so that there is still 0 / 0 when it is stored
        weights = move(model, scale=0.05)
        name = f"base_model.model.{Q}.lora_B.default.weight"
        weights[name][4] = 0
        with torch.no_grad():
            layer(model).lora_B["default"].weight[4] = 0
        folder = store(model, "dora", weights, tmp_path / "a")
        held = load_file(folder / "adapter_model.safetensors")
        assert all(value.isfinite().all() for value in held.values())
        merged = adapters.merge(pruned(), folder)
        assert all(p.isfinite().all() for p in merged.parameters())
        assert not merged.get_submodule(Q).weight[4].any()
        wanted = logits(model)
        close = {"rtol": 1e-4, "atol": 1e-4} if dtype == torch.float32 else {"rtol": 0.1, "atol": 1}
        torch.testing.assert_close(logits(merged), wanted, **close)


class TestPissa:
    def test_it_begins_as_the_base_with_its_principal_part(self, tiny_model: Path) -> None:
        base = load(tiny_model).model
        with torch.no_grad():  # random weights have no principal part; trained ones do
            u, s, v = torch.linalg.svd(base.get_submodule(Q).weight)
            s = s * 0.8 ** torch.arange(32)
            base.get_submodule(Q).weight.copy_(u @ torch.diag(s) @ v)
        before = logits(base)
        model = prepared(base, "pissa", rank=4, alpha=4.0)
        torch.testing.assert_close(logits(model), before, rtol=1e-4, atol=1e-4)
        a, b = layer(model).lora_A["default"].weight, layer(model).lora_B["default"].weight
        exact = u[:, :4] @ torch.diag(s[:4]) @ v[:4]
        torch.testing.assert_close((b @ a).detach(), exact, rtol=1e-3, atol=1e-3)
        # the rest has the other singular values
        rest = torch.linalg.svdvals(layer(model).base_layer.weight.detach())
        torch.testing.assert_close(rest[:-4], s[4:], rtol=1e-3, atol=1e-3)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_stored_it_is_a_plain_lora_of_twice_the_rank_on_the_original_base(
        self, tiny_model: Path, tmp_path: Path, dtype: torch.dtype
    ) -> None:
        from peft import PeftModel

        model = prepared(load(tiny_model, dtype).model, "pissa", rank=4, alpha=4.0)
        folder = store(model, "pissa", move(model), tmp_path / "a")
        held = json.loads((folder / "adapter_config.json").read_text())
        assert (held["r"], held["lora_alpha"], held["init_lora_weights"]) == (8, 8.0, True)
        theirs = PeftModel.from_pretrained(load(tiny_model, dtype).model, str(folder))
        ours = adapters.merge(load(tiny_model).model, folder)
        wanted = logits(model)
        exact = dtype == torch.float32
        close = {"rtol": 1e-4, "atol": 1e-4} if exact else {"rtol": 0.1, "atol": 0.3}
        torch.testing.assert_close(logits(theirs), wanted, **close)
        torch.testing.assert_close(logits(ours), wanted, **close)

    def test_the_conversion_is_pefts(self, tiny_model: Path, tmp_path: Path) -> None:
        """peft converts when it is given the adapter as it began."""
        model = prepared(load(tiny_model).model, "pissa", rank=4, alpha=4.0)
        model.peft_config["default"].init_lora_weights = True
        model.save_pretrained(str(tmp_path / "initial"), save_embedding_layers=False)
        weights = move(model)
        folder = store(model, "pissa", weights, tmp_path / "ours")
        model.save_pretrained(
            str(tmp_path / "theirs"),
            path_initial_model_for_weight_conversion=str(tmp_path / "initial"),
            save_embedding_layers=False,
        )
        ours = load_file(folder / "adapter_model.safetensors")
        theirs = load_file(tmp_path / "theirs" / "adapter_model.safetensors")
        assert ours.keys() == theirs.keys()
        for name in ours:
            torch.testing.assert_close(ours[name], theirs[name])

    def test_weights_that_are_stored_transposed(self, tmp_path: Path) -> None:
        from transformers import GPT2Config, GPT2LMHeadModel

        def gpt2() -> Any:
            torch.manual_seed(0)
            config = GPT2Config(
                vocab_size=80,
                n_embd=32,
                n_layer=2,
                n_head=4,
                n_positions=32,
                bos_token_id=0,
                eos_token_id=0,
            )
            return GPT2LMHeadModel(config).eval()

        for method in ("pissa", "dora", "rslora", "ia3"):
            base = gpt2()
            before = logits(base)
            model = prepared(base, method, rank=4, alpha=4.0)
            torch.testing.assert_close(logits(model), before, rtol=1e-4, atol=1e-4)
            folder = store(model, method, move(model, scale=0.05), tmp_path / method)
            wanted = logits(model)
            assert float((wanted - before).abs().max()) > 0.002
            found = logits(adapters.merge(gpt2(), folder))
            torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


class TestIa3:
    def test_keys_values_and_inner_activations_are_rescaled(self, tiny_model: Path) -> None:
        model = prepared(load(tiny_model, torch.bfloat16).model, "ia3")
        opened = {n: p for n, p in model.named_parameters() if p.requires_grad}
        sizes = {n.split(".")[-3]: p.numel() for n, p in opened.items()}
        assert sizes == {"k_proj": 16, "v_proj": 16, "down_proj": 64}
        assert adapters.counts(model)[0] == 2 * (16 + 16 + 64)
        for parameter in opened.values():
            assert parameter.dtype == torch.float32
            assert (parameter == 1).all()
        down = layer(model, "model.layers.1.mlp.down_proj")
        move(model)
        x = torch.randn(3, 64, dtype=torch.bfloat16)
        wanted = down.base_layer((x * down.ia3_l["default"].flatten()).bfloat16())
        torch.testing.assert_close(down(x), wanted)

    def test_weight_decay_is_refused(self, tiny_model: Path) -> None:
        with pytest.raises(InputError, match="switch the model's activations off"):
            prepared(load(tiny_model).model, "ia3", weight_decay=0.01)

    def test_an_architecture_nobody_knows_is_refused(self) -> None:
        from transformers import MambaConfig, MambaForCausalLM

        config = MambaConfig(vocab_size=50, hidden_size=16, num_hidden_layers=1, state_size=4)
        with pytest.raises(ModelError, match="MambaForCausalLM cannot be trained in this way"):
            prepared(MambaForCausalLM(config), "ia3")


class TestTargets:
    def test_only_the_named_layers_are_adapted(self, tiny_model: Path, tmp_path: Path) -> None:
        for method in ("lora", "rslora", "dora", "pissa", "qlora"):
            model = prepared(load(tiny_model).model, method, rank=2, targets=("q_proj", "v_proj"))
            parts = {n.split(".")[6] for n, p in model.named_parameters() if p.requires_grad}
            assert parts == {"q_proj", "v_proj"}
        result = stage(tiny_model, tmp_path, "lora", targets=["o_proj"], rank=2)
        assert result.trained_parameters == 2 * 2 * (32 + 32)
        assert result.config["targets"] == ["o_proj"]
        held = json.loads((tmp_path / "model" / "adapter_config.json").read_text())
        assert held["target_modules"] == ["o_proj"]
        load_any(str(tmp_path), torch.float32)

    def test_a_name_that_no_layer_has(self, tiny_model: Path) -> None:
        with pytest.raises(InputError, match=r"`training.targets` names 'q_pro'") as error:
            prepared(load(tiny_model).model, "lora", targets=("q_pro",))
        assert error.value.fix == "Did you mean 'q_proj'?"
        with pytest.raises(InputError, match="whose weights are also the embedding"):
            prepared(load(tiny_model).model, "lora", targets=("lm_head",))
