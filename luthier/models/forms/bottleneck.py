"""Bottleneck adapters, which peft has no format for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from luthier.models.form import FORMS, Form

if TYPE_CHECKING:
    import torch

#: {"format", "width", "places", "activation", "layers", "hidden_size", "base"}
RECORD = "bottleneck.json"
#: float32; layers.{number}.{place}.{down|up}.{weight|bias}
TENSORS = "bottleneck.safetensors"


@FORMS.register("bottleneck")
class BottleneckAdapters(Form):
    """bottleneck.json and bottleneck.safetensors."""

    beside = "bottleneck adapters are not linear; they cannot be merged into weights"

    def here(self, folder: Path) -> bool:
        """By its record."""
        return (folder / RECORD).is_file()

    def restore(self, model: Any, folder: Path, *, dtype: torch.dtype) -> Any:
        """The base with the adapters in its layers; nothing of it can be trained further."""
        from luthier.models.bottleneck import restore

        return restore(model.to(dtype), folder)
