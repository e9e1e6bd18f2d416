"""The parameters that a freezing method trained, in place of the base's own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luthier.models.form import FORMS, Form

if TYPE_CHECKING:
    import torch

    from luthier.models.info import ModelInfo

#: Says what the tensors beside it are: {"format", "method", "base", "untied_head"}.
RECORD = "delta.json"
TENSORS = "delta.safetensors"


@FORMS.register("delta")
class Delta(Form):
    """delta.json and delta.safetensors: float32 values of the trained parameters, by name."""

    def here(self, folder: Path) -> bool:
        """By its record."""
        return (folder / RECORD).is_file()

    def restore(self, model: Any, folder: Path, *, dtype: torch.dtype) -> Any:
        """Replace the base's values."""
        from luthier.models.frozen import put_back

        return put_back(model.to(dtype), folder)

    def describe(self, info: ModelInfo, folder: Path) -> ModelInfo:
        """A head that was untied is a matrix of its own."""
        from luthier.files import read_json

        if info.tied and read_json(folder / RECORD).get("untied_head"):
            parameters = info.parameters + info.embedding_parameters
            return replace(info, parameters=parameters, tied=False)
        return info
