"""What is added to a model to train it, and how it is stored and put back.

Adapters are peft's, in peft's file format, so that other engines load them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from luthier.errors import ModelError


def add_lora(model: Any, *, rank: int, alpha: float, dropout: float, base: str) -> Any:
    """LoRA (Hu et al. 2021, arXiv 2106.09685) on all linear layers but the head.

    The adapter computes in the model's precision; the optimiser keeps float32 masters of it.

    Args:
        model: a causal LM; its own weights are frozen.
        rank: r, the inner width.
        alpha: the update is scaled by alpha / r.
        dropout: on the adapter's input.
        base: the name the base model is found by again.
    """
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
        base_model_name_or_path=base,
    )
    adapted = get_peft_model(model, config, autocast_adapter_dtype=False)
    adapted.peft_config["default"].base_model_name_or_path = base
    for name, parameter in adapted.named_parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(model.dtype)
        elif "lora_" in name:
            raise ModelError(f"{name} of the adapter is frozen.")
    return adapted


def counts(model: torch.nn.Module) -> tuple[int, int]:
    """(trained, total) parameters, tied ones counted once."""
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return trained, sum(p.numel() for p in model.parameters())


@torch.no_grad()
def save(model: Any, weights: Mapping[str, torch.Tensor], folder: Path, tokenizer: Any) -> None:
    """Store what was trained: the adapter alone, or the whole model with its tokenizer.

    Args:
        model: what was trained.
        weights: float32 values of the trained parameters, by name.
        folder: an existing, empty folder.
        tokenizer: stored with a whole model.
    """
    from peft import PeftModel, get_peft_model_state_dict
    from safetensors.torch import save_file

    if isinstance(model, PeftModel):
        full = {**{name: value for name, value in weights.items()}}
        state = get_peft_model_state_dict(model, state_dict=full)
        model.peft_config["default"].save_pretrained(str(folder))
        save_file(
            {name: value.contiguous() for name, value in state.items()},
            folder / "adapter_model.safetensors",
            metadata={"format": "pt"},
        )
    else:
        model.save_pretrained(str(folder), safe_serialization=True)
        tokenizer.save_pretrained(str(folder))


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter rather than a whole model."""
    return (folder / "adapter_config.json").is_file()


@torch.no_grad()
def merge(model: Any, folder: Path) -> Any:
    """The base model with the adapter's update added to its weights, in the base's precision.

    Raises:
        ModelError: the adapter fits no layer of this model.
    """
    from peft import PeftModel
    from safetensors import safe_open

    with safe_open(folder / "adapter_model.safetensors", framework="pt") as stored:
        wanted = set(stored.keys())
    adapted = PeftModel.from_pretrained(model, str(folder), autocast_adapter_dtype=False)
    present = {
        name.replace(".default.", ".") for name, _ in adapted.named_parameters() if "lora_" in name
    }
    if not wanted or wanted - present:
        raise ModelError(
            f"{folder}: {len(wanted - present)} of the adapter's {len(wanted)} tensors fit no "
            "layer of the base model.",
            fix="Load it on the base model it was trained on.",
        )
    return adapted.merge_and_unload()
