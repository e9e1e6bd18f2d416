"""What is added to a model to train it, and how it is stored and put back.

Adapters are peft's, in peft's file format, so that other engines load them.
"""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from luthier.errors import ModelError
from luthier.models.gguf_files import quiet

_FIX = "Load it on the base model it was trained on."


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
    )
    modules = [name for name, _ in model.named_modules()]
    with _quiet():
        adapted = get_peft_model(model, config, autocast_adapter_dtype=False)
    held = adapted.peft_config["default"]
    # peft would put the folder the weights were read from
    held.base_model_name_or_path = base
    held.target_modules = _short(held.target_modules, modules)
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
        state = get_peft_model_state_dict(
            # "auto" would ask a model hub whether the vocabulary was changed
            model,
            state_dict=dict(weights),
            save_embedding_layers=False,
        )
        config = copy.copy(model.peft_config["default"])
        # a set has no order, and a file should be the same every time
        config.target_modules = sorted(config.target_modules)
        config.inference_mode = True
        config.save_pretrained(str(folder))
        save_file(
            {name: value.contiguous() for name, value in state.items()},
            folder / "adapter_model.safetensors",
            metadata={"format": "pt"},
        )
    else:
        with quiet():
            model.save_pretrained(str(folder))
        tokenizer.save_pretrained(str(folder))


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter rather than a whole model."""
    return (folder / "adapter_config.json").is_file()


@torch.no_grad()
def merge(model: Any, folder: Path) -> Any:
    """The base model with the adapter's update added to its weights, in the base's precision.

    Args:
        model: the base; it is changed.
        folder: holds the adapter.

    Returns:
        The model in evaluation mode, all its weights open to further training.

    Raises:
        ModelError: the adapter is damaged, or it is not one of this model's.
    """
    from peft import PeftModel, get_peft_model_state_dict
    from safetensors import SafetensorError, safe_open

    path = folder / "adapter_model.safetensors"
    try:
        with safe_open(path, framework="pt") as stored:
            wanted = set(stored.keys())
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path} is missing, damaged or cut off: {error}.") from None
    try:
        with _quiet():
            adapted = PeftModel.from_pretrained(model, str(folder), autocast_adapter_dtype=False)
    except Exception as error:  # whatever peft and torch make of an adapter of another model
        line = str(error).strip().splitlines()
        raise ModelError(
            f"{folder}: the adapter does not fit the base model: {' '.join(line[:2])[:300]}",
            fix=_FIX,
        ) from error
    present = set(get_peft_model_state_dict(adapted, save_embedding_layers=False))
    strange = wanted ^ present
    if strange or not wanted:
        raise ModelError(
            f"{folder}: {len(strange)} tensors of the adapter have no counterpart in the base "
            f"model, or the other way round (such as {min(strange, default='none at all')}).",
            fix=_FIX,
        )
    merged = adapted.merge_and_unload()
    # what peft leaves behind would make it believe that the model still has an adapter
    for name in ("peft_config", "_hf_peft_config_loaded"):
        if name in vars(merged):
            delattr(merged, name)
    return merged.requires_grad_(True).eval()


def _short(targets: Iterable[str], modules: Sequence[str]) -> set[str]:
    """The last parts of the names (`q_proj`), where those mean the same modules: that is what
    other engines expect, and it shows when a base has layers that the adapter knows nothing of."""
    full = set(targets)
    last = {name.rsplit(".", 1)[-1] for name in full}
    return last if {m for m in modules if m.rsplit(".", 1)[-1] in last} == full else full


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without two warnings that tell a user nothing: peft asks a model for an attribute that
    transformers has renamed, and it warns of tensors that `merge` refuses with an error."""
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="Found missing adapter keys", category=UserWarning
        )
        warnings.filterwarnings(
            "ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning
        )
        yield
