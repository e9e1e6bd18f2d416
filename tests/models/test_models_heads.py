"""Hidden states and head together are the whole model, for families that differ between them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from luthier.models.adapters import add_lora
from luthier.models.heads import body, keeps_state, logits, stop_ids

SMALL = {
    "vocab_size": 61,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "Llama": {},
    "Qwen2": {},
    "Qwen3": {},
    "Mistral": {},
    "Gemma": {},
    "Gemma2": {"final_logit_softcapping": 0.7},
    "Gemma3": {},
    "Cohere": {"logit_scale": 0.3},
    "Granite": {"logits_scaling": 6.0, "embedding_multiplier": 3.0, "residual_multiplier": 0.5},
    "Phi3": {},
    "Olmo2": {},
    "GPT2": {},
    "GPTNeoX": {},
    "OPT": {},
}


def tiny(family: str) -> Any:
    import transformers

    values = {**SMALL, **FAMILIES[family]}
    if family == "GPT2":
        values = {"vocab_size": 61, "n_embd": 16, "n_layer": 2, "n_head": 2}
    if family == "OPT":
        values = {**values, "ffn_dim": 24, "word_embed_proj_dim": 8}
    if family == "GPTNeoX":
        del values["num_key_value_heads"], values["head_dim"]
    config = getattr(transformers, f"{family}{'Text' * (family == 'Gemma3')}Config")(**values)
    head = "LMHeadModel" if family == "GPT2" else "ForCausalLM"
    torch.manual_seed(0)
    model = getattr(transformers, family + head)(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # large enough for a soft cap to matter
            parameter.mul_(3.0)
    return model


@pytest.mark.parametrize("family", FAMILIES)
def test_body_and_head_are_the_model(family: str) -> None:
    model = tiny(family)
    ids = torch.tensor([[5, 9, 33, 60, 7]])
    with torch.no_grad():
        wanted = model(input_ids=ids).logits
        hidden = body(model)(input_ids=ids).last_hidden_state
        found = logits(model, hidden)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, wanted.float())
    assert not keeps_state(model)


def test_with_an_adapter_too() -> None:
    model = add_lora(tiny("Llama"), rank=2, alpha=4, dropout=0.0, base="x")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
        ids = torch.tensor([[5, 9, 33]])
        wanted = model(input_ids=ids).logits
        with model.disable_adapter():
            without = model(input_ids=ids).logits
        found = logits(model, body(model)(input_ids=ids).last_hidden_state)
    torch.testing.assert_close(found, wanted)
    assert not torch.allclose(found, without)


def test_models_with_a_state_of_their_own_are_recognised() -> None:
    from transformers import MambaConfig, MambaForCausalLM

    mamba = MambaForCausalLM(
        MambaConfig(vocab_size=61, hidden_size=16, num_hidden_layers=1, state_size=4)
    )
    assert keeps_state(mamba)
    hybrid = SimpleNamespace(layer_types=["full_attention", "linear_attention"])
    model = SimpleNamespace(config=SimpleNamespace(get_text_config=lambda: hybrid))
    assert keeps_state(model)


@pytest.mark.parametrize(("given", "found"), [(None, ()), (2, (2,)), ([2, 7], (2, 7))])
def test_stop_ids(given: Any, found: tuple[int, ...]) -> None:
    model = SimpleNamespace(generation_config=SimpleNamespace(eos_token_id=given))
    assert stop_ids(model) == found
