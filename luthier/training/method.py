"""What a tuning method is: which numbers of a model are trained. One file in `methods/` is one
method, a value of `--method`, and an arm of the same name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from luthier.registry import Registry

if TYPE_CHECKING:
    from luthier.training.config import TrainingConfig


class TuningMethod(ABC):
    """Chooses what is trained; the loop, the loss and the optimiser know nothing of it."""

    name: ClassVar[str]
    title: ClassVar[str]
    #: whether `arms: auto` runs it
    in_auto: ClassVar[bool] = False
    #: where its arm comes in the order of a run: cheap ones first
    order: ClassVar[int] = 60
    #: whose memory and time `models/estimate.py` takes as its own: "lora" for few trained weights
    like: ClassVar[Literal["lora", "full"]] = "lora"

    @abstractmethod
    def learning_rate(self, hidden_size: int) -> float:
        """A peak rate that short runs on small data want, for a model of this width."""

    @abstractmethod
    def prepare(self, model: Any, config: TrainingConfig, *, base: str) -> Any:
        """Freeze what stays and add what is trained.

        Args:
            model: a causal LM or an encoder with a head; it is changed.
            config: the stage's settings.
            base: the name the base model is found by again.

        Returns:
            The model to train; `requires_grad` marks what is trained.

        Raises:
            ModelError: the method does not suit this model.
        """


METHODS: Registry[type[TuningMethod]] = Registry("method", "luthier.training.methods")
