"""Soft prompts in peft's file format: prompt tuning, p-tuning, prefix tuning."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luthier.errors import InputError, ModelError
from luthier.files import read_json
from luthier.models.form import FORMS, Form

if TYPE_CHECKING:
    import torch

    from luthier.models.info import ModelInfo

_CONFIG = "adapter_config.json"
_TYPES = frozenset({"PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING"})


@FORMS.register("soft-prompt")
class SoftPrompt(Form):
    """adapter_config.json and adapter_model.safetensors, as peft writes them for its prompt
    methods."""

    order = 40  # before the form of all of peft's adapters
    beside = "a soft prompt stands before every row; it cannot be merged into weights"

    def here(self, folder: Path) -> bool:
        """By the kind that peft's config names."""
        return (folder / _CONFIG).is_file() and _config(folder).get("peft_type") in _TYPES

    def restore(self, model: Any, folder: Path, *, dtype: torch.dtype) -> Any:
        """The base in peft's model, with a body that starts every row with the soft prompt; nothing
        of it can be trained further."""
        from luthier.models.soft_prompts import restore

        return restore(model.to(dtype), folder)

    def describe(self, info: ModelInfo, folder: Path) -> ModelInfo:
        """The soft prompt takes its positions from the context."""
        length = _config(folder).get("num_virtual_tokens")
        if not isinstance(length, int) or length < 1:
            raise ModelError(f"{folder / _CONFIG} does not say how long the soft prompt is.")
        return replace(info, context_length=info.context_length - length)


def _config(folder: Path) -> dict[str, Any]:
    try:
        held = read_json(folder / _CONFIG)
    except InputError:
        return {}  # damaged: peft's own form says so
    return held if isinstance(held, dict) else {}
