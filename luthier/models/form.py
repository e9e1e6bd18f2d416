"""How a stage stores what it trained, when that is less than a whole model, and how it comes back.
One file in `forms/` is one form; a new one needs no edit elsewhere."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from luthier.registry import Registry

if TYPE_CHECKING:
    import torch

    from luthier.models.info import ModelInfo


class Form(ABC):
    """Recognises its own files in a folder, and puts what they hold onto the base model."""

    #: who is asked first where a folder could be of several forms: the lowest
    order: ClassVar[int] = 50
    #: why what is stored stays beside the base's weights instead of becoming part of them; empty
    #: where it becomes part of them
    beside: ClassVar[str] = ""

    @abstractmethod
    def here(self, folder: Path) -> bool:
        """Whether the folder holds this form. Called often: look at names, read little."""

    @abstractmethod
    def restore(self, model: Any, folder: Path, *, dtype: torch.dtype) -> Any:
        """Put what is stored onto the base model.

        Args:
            model: the base, in the precision that `base_precision` asks for; it is changed.
            folder: holds the form.
            dtype: what the result computes in.

        Returns:
            The model in evaluation mode, all its weights open to further training; none of them
            where `beside` says that the two stay apart.

        Raises:
            ModelError: the files are damaged, or belong to another model.
        """

    def base_precision(self, folder: Path) -> str | None:
        """The name of the only dtype that the base may be given in ("bfloat16"); None for any."""
        del folder
        return None

    def describe(self, info: ModelInfo, folder: Path) -> ModelInfo:
        """The facts about the model that `restore` makes of a base."""
        del folder
        return info


FORMS: Registry[type[Form]] = Registry("stored form", "luthier.models.forms")


def form_of(folder: Path) -> Form | None:
    """The form in which a folder holds part of a model; None for a whole model or no model."""
    for form in sorted((kind() for _, kind in FORMS), key=lambda form: form.order):
        if form.here(folder):
            return form
    return None
