"""Adapters in peft's file format that can be merged into the weights of their base."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from luthier.models.form import FORMS, Form

if TYPE_CHECKING:
    import torch


@FORMS.register("peft-adapter")
class PeftAdapter(Form):
    """adapter_config.json and adapter_model.safetensors, which other engines read too; beside them
    quantization.json where the base was in 4 bits while it was trained."""

    def here(self, folder: Path) -> bool:
        """By the name that peft gives it."""
        return (folder / "adapter_config.json").is_file()

    def base_precision(self, folder: Path) -> str | None:
        """That of the weights which were rounded to 4 bits: rounding others gives other weights."""
        from luthier.models.quantized import recorded

        return recorded(folder)

    def restore(self, model: Any, folder: Path, *, dtype: torch.dtype) -> Any:
        """Merge the adapter; into the very weights it was trained on, those of 4 bits included."""
        from luthier.models import adapters, quantized

        if quantized.recorded(folder):
            quantized.round_weights(model)
        return adapters.merge_peft(model.to(dtype), folder)
