"""What a tuning method is: which numbers of a model are trained. One file in `methods/` is one
method, a value of `--method`, and an arm of the same name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from luthier.registry import Registry

if TYPE_CHECKING:
    import torch

    from luthier.task_training import Training
    from luthier.training.config import TrainingConfig


#: Positions of a soft prompt where the task does not say (Lester et al. 2021 find 20 enough, and
#: little gain beyond; figure 3a).
VIRTUAL_TOKENS = 20


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
    #: whether the hand-written layers (`fused/`) can run what `prepare` makes of a Llama
    fused: ClassVar[bool] = False
    #: the keys of the task's training section that this method reads and not every method does
    #: ("rank"); given where no chosen method reads them they are an error
    reads: ClassVar[frozenset[str]] = frozenset()
    #: how many times the usual passes over the data, where the task does not say how many
    passes: ClassVar[float] = 1.0
    #: token ids of the task's instruction, set before `prepare`: what learned words start from
    words: tuple[int, ...] = ()

    @abstractmethod
    def learning_rate(self, hidden_size: int) -> float:
        """A peak rate that short runs on small data want, for a model of this width."""

    def alpha(self, rank: int) -> float:
        """What scales a low-rank update of this rank, where the task does not say."""
        return 2.0 * rank

    def layers(self, count: int) -> int | None:
        """How many of a model's layers are trained, where the task does not say; None where the
        method does not choose among layers."""
        del count
        return None

    def positions(self, wishes: Training) -> int:
        """How many positions of the context the method takes for itself in every row."""
        del wishes
        return 0

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

    def store(
        self,
        model: Any,
        weights: Mapping[str, torch.Tensor],
        folder: Path,
        tokenizer: Any,
        *,
        base: str,
    ) -> None:
        """Store what was trained, in a form that `models/forms` knows or as a whole model.

        Args:
            model: what `prepare` returned, trained.
            weights: float32 values of the trained parameters, by name.
            folder: an existing, empty folder.
            tokenizer: stored with a whole model.
            base: the name the base model is found by again.
        """
        del base
        from luthier.models import adapters

        adapters.save(model, weights, folder, tokenizer)


METHODS: Registry[type[TuningMethod]] = Registry("method", "luthier.training.methods")
