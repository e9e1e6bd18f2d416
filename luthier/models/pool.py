"""Models in memory, each loaded once and shared by everyone who asks for the same."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from luthier.models.allocator import give_back_memory

if TYPE_CHECKING:
    import torch

    from luthier.generation.local import Generator
    from luthier.models.loading import LoadedModel


class ModelPool:
    """Loads models on first use.

    Args:
        base: the folder that relative model paths start from.
    """

    def __init__(self, base: Path | None = None) -> None:
        self._base = base
        self._held: dict[tuple[str, str, str], Any] = {}

    def causal(self, name: str, dtype: torch.dtype | None = None) -> LoadedModel:
        """A causal LM that answers: float32 on a CPU, bfloat16 on a GPU, unless told."""
        from luthier.models.tuned import load_any

        dtype = dtype or answering_dtype()
        key = ("causal", name, str(dtype))
        if key not in self._held:
            self._held[key] = load_any(name, dtype, base=self._base)
        return self._held[key]  # type: ignore[no-any-return]

    def generator(self, name: str) -> Generator:
        """A `Generator` over the shared model."""
        from luthier.generation.local import Generator

        key = ("generator", name, "")
        if key not in self._held:
            loaded = self.causal(name)
            self._held[key] = Generator(loaded.model, loaded.tokenizer)
        return self._held[key]  # type: ignore[no-any-return]

    def encoder(self, name: str) -> Any:
        """A sentence encoder."""
        from luthier.models.encoder import Encoder

        key = ("encoder", name, "")
        if key not in self._held:
            self._held[key] = Encoder.load(name, base=self._base)
        return self._held[key]

    def release(self) -> None:
        """Free them all, and give the memory back to the system."""
        self._held.clear()
        give_back_memory()


def answering_dtype() -> torch.dtype:
    """float32 on a CPU, so that an answer does not depend on who else is in the batch; bfloat16
    on a GPU, where float32 would be far slower."""
    import torch

    return torch.bfloat16 if torch.cuda.is_available() else torch.float32
