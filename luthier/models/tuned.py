"""Models that a training stage stored: an adapter and its base, or a whole model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from luthier.models.loading import LoadedModel


def load_tuned(folder: Path, base_name: str, base: Path | None = None) -> LoadedModel:
    """Load what was trained, with its weights merged, in the precision that answers are given in.

    Args:
        folder: what a training stage stored: adapter files, or a whole model.
        base_name: the model an adapter belongs to.
        base: where a relative base name starts.

    Raises:
        ModelError: the base is not to be had, or the adapter does not fit it.
    """
    from luthier.models import adapters
    from luthier.models.loading import load_causal
    from luthier.models.pool import answering_dtype

    if not adapters.is_adapter(folder):
        return load_causal(str(folder.absolute()), answering_dtype())
    loaded = load_causal(base_name, answering_dtype(), base=base)
    return replace(loaded, model=adapters.merge(loaded.model, folder), path=folder)
