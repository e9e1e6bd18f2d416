"""What a training objective is: what is learned from the examples. One file in `objectives/` is one
objective and a value of the task's `training.objective`.

The loop knows two things of an objective (`Objective`): how large its items are and what they cost.
A stage asks for more (`StageObjective`), in this order:

1. `load` the model (a causal LM unless it says otherwise), and `begin` with it;
2. `material`: turn examples into items;
3. `consult` the untouched model, for what it says before it is trained (a reference's
   log-probabilities, a teacher's distributions), computed once and kept in the items;
4. `measure` the model on the held-out items;
5. `prepare` it: the tuning method opens what is trained, and the objective adds its own modules;
6. `loss`, called by the loop, and `taken`, what else a step came to (a reward margin, a KL);
7. `measure` again, `store` what was trained, and `record` what is needed to use it.

Every step but 2 and 6 has a default that suits an objective of a text-writing model. So a pairwise
preference objective overrides `material` (items that hold two sequences), `consult` and `loss`; a
reward model overrides `prepare` and `store` as well; a distillation loads its teacher in `consult`.
`tests/training/test_objective_protocol.py` has small ones of each kind.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from luthier.errors import InputError
from luthier.registry import Registry

if TYPE_CHECKING:
    import torch

    from luthier.data.examples import Example
    from luthier.models.info import ModelInfo
    from luthier.models.loading import LoadedModel
    from luthier.prompts.prompt import Prompt
    from luthier.task_training import Training
    from luthier.training.config import TrainingConfig
    from luthier.training.method import TuningMethod


class TrainingItem(Protocol):
    """Whatever an objective trains on: one sequence, or several; the loop needs two numbers."""

    @property
    def length(self) -> int:
        """Tokens that are read, of all its sequences, padding not counted."""

    @property
    def weight(self) -> float:
        """What it adds to the divisor of the step's loss: trained tokens, or 1 for a pair."""


class Objective(Protocol):
    """What the loop needs: items to a summed loss, which it divides by the step's weight."""

    def sizes(self, items: Sequence[Any]) -> list[int]:
        """How many tokens each item adds to what a micro-batch computes."""

    def loss(self, model: Any, items: Sequence[Any]) -> torch.Tensor:
        """The sum of the losses of the items, a float32 scalar; with a gradient where one is wanted
        (an evaluation calls it without)."""


@dataclass
class Material:
    """What a stage trains on.

    Attributes:
        items: to train on; their fields are JSON-able, because a checkpoint is known by them.
        kept: for each item the index of the example it is made of. An example may become no item
            (it was left out, and a note says so), one, or several.
        held_out: items that are only looked at.
        notes: what was cut, left out or done differently, one sentence each.
    """

    items: list[Any]
    kept: list[int]
    held_out: list[Any] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class StageObjective(ABC):
    """What a stage needs of its objective; see the module for the order of the calls."""

    name: ClassVar[str]
    title: ClassVar[str]
    #: keys of the training section that this objective reads and not every objective does
    reads: ClassVar[frozenset[str]] = frozenset()
    #: tuning methods it can be used with; None for all
    methods: ClassVar[frozenset[str] | None] = None
    #: whether the examples are raw text (`data.text`) instead of questions and answers
    raw_text: ClassVar[bool] = False
    #: whether the result answers the examples' questions in text, asked by `prompt`: only then can
    #: rows be replayed, tasks be mixed, and a few questions be asked before and after
    writes: ClassVar[bool] = True

    #: whether its loss runs the hand-written layers (`fused/`) where they can
    fused: ClassVar[bool] = False

    #: how the model is asked; set by `begin`, None where there is no such thing
    prompt: Prompt | None = None
    tokenizer: Any = None

    def defaults(self, *, examples: int, info: ModelInfo, method: str) -> dict[str, Any]:
        """Values of the training section where the task leaves them open and the usual ones do not
        suit.

        Args:
            examples: how many there are to learn from.
            info: the model.
            method: the name of the tuning method.
        """
        del examples, info, method
        return {}

    def describe(self, name: str, base: Path | None) -> ModelInfo:
        """The facts about the model called `name`.

        Raises:
            ModelError: it cannot be found, or nothing can be trained on top of it.
        """
        from luthier.models.tuned import check_tunable, describe_any

        check_tunable(name, base)
        return describe_any(name, base=base)

    def load(self, name: str, dtype: torch.dtype, **options: Any) -> LoadedModel:
        """The model to be trained; `options` are those of `models.tuned.load_any`.

        Raises:
            ModelError: it cannot be loaded, or is of a kind that this objective cannot use.
        """
        from luthier.models.tuned import load_any

        return load_any(name, dtype, **options)

    def begin(self, loaded: LoadedModel, instruction: str) -> None:
        """Take the tokenizer and make the prompt, before anything is rendered."""
        from luthier.models.heads import stop_ids
        from luthier.prompts.prompt import Prompt

        self.tokenizer = loaded.tokenizer
        self.prompt = Prompt(
            loaded.tokenizer, instruction=instruction, stop_ids=stop_ids(loaded.model)
        )

    @abstractmethod
    def material(
        self,
        examples: Sequence[Example],
        validation: Sequence[Example],
        config: TrainingConfig,
    ) -> Material:
        """Turn examples into items.

        Raises:
            InputError: rows that cannot be learned from; the message names them.
        """

    def consult(
        self, model: Any, items: list[Any], config: TrainingConfig, info: ModelInfo
    ) -> list[Any]:
        """The items with what a model says of them before training (without gradients).

        Args:
            model: as loaded, before the method changes it; the reference of a preference objective.
            items: of `material`, training and held-out ones in two calls.
            config: the stage's settings.
            info: the model's description.
        """
        del model, config, info
        return items

    def measure(self, model: Any, held_out: Sequence[Any]) -> dict[str, float]:
        """What train.json reports of the model before and after training; nothing by default."""
        del model, held_out
        return {}

    def prepare(self, model: Any, tuning: TuningMethod, config: TrainingConfig, base: str) -> Any:
        """The model to train, `requires_grad` on what is trained. Modules of the objective's own
        are added here: every parameter of the result that requires a gradient is trained.

        Raises:
            ModelError: the method does not suit the model.
        """
        return tuning.prepare(model, config, base=base)

    def sizes(self, items: Sequence[Any]) -> list[int]:
        """See `Objective.sizes`."""
        return [item.length for item in items]

    @abstractmethod
    def loss(self, model: Any, items: Sequence[Any]) -> torch.Tensor:
        """See `Objective.loss`."""

    def taken(self) -> dict[str, float]:
        """What else was measured while computing losses since this was last asked, for the log
        (events.jsonl, and `metrics` in train.json); nothing by default."""
        return {}

    def store(
        self,
        model: Any,
        weights: Mapping[str, torch.Tensor],
        folder: Path,
        tuning: TuningMethod,
        *,
        base: str,
    ) -> None:
        """Store what was trained in an existing, empty folder, without pickles.

        Args:
            model: what `prepare` returned, trained.
            weights: float32 values of the trained parameters, by name.
            folder: where.
            tuning: the method, which knows how what it opened is stored.
            base: the name the base model is found by again.
        """
        tuning.store(model, weights, folder, self.tokenizer, base=base)

    def record(self) -> dict[str, Any]:
        """What prompt.json holds, besides the name of the base model, for using the result."""
        return self.prompt.to_dict() if self.prompt else {}


OBJECTIVES: Registry[type[StageObjective]] = Registry("objective", "luthier.training.objectives")

#: What a stage learns where the task does not say.
DEFAULT = "sft"
#: What a stage learns from raw text.
RAW_TEXT = "pretrain"


def objective_of(wishes: Training, *, raw_text: bool = False) -> type[StageObjective]:
    """The objective a task asks for.

    Args:
        wishes: the task's training section.
        raw_text: whether its data are raw text.

    Raises:
        InputError: no such objective; one that does not learn from this kind of data; or a key of
            the training section that only other objectives read.
    """
    kind = OBJECTIVES.get(wishes.objective or (RAW_TEXT if raw_text else DEFAULT))
    if kind.raw_text != raw_text:
        raise InputError(
            f"`training.objective: {kind.name}` learns from "
            + (
                "raw text, and the task's data are questions and answers."
                if kind.raw_text
                else "questions and answers, and `data.text` is raw text."
            ),
            fix="Give `data.text` (a template such as '{{ text }}') in the place of `data.input`."
            if kind.raw_text
            else f"Leave `training.objective` out, or set it to {RAW_TEXT}.",
        )
    _refuse_unread(wishes, kind)
    return kind


def check_method(kind: type[StageObjective], method: str) -> None:
    """Refuse a tuning method that an objective cannot use.

    Raises:
        InputError: as said.
    """
    if kind.methods is not None and method not in kind.methods:
        raise InputError(
            f"`training.objective: {kind.name}` cannot be trained with --method {method}.",
            fix=f"Choose one of: {', '.join(sorted(kind.methods))}.",
        )


def _refuse_unread(wishes: Training, kind: type[StageObjective]) -> None:
    readers: dict[str, list[str]] = {}
    for name, other in OBJECTIVES:
        for key in other.reads:
            readers.setdefault(key, []).append(name)
    for key, names in sorted(readers.items()):
        given = getattr(wishes, key) != type(wishes).model_fields[key].default
        if given and key not in kind.reads:
            raise InputError(
                f"`training.{key}` is read by objective {', '.join(names)}, and not by "
                f"{kind.name}.",
                fix="Take it out, or choose an objective that reads it.",
            )
