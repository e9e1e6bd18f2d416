"""What an arm is: one way of doing the task. One file in this folder is one arm.

An arm lives twice. In the comparison it is *fitted*: it sees training and validation examples,
never the test, makes its choices, and writes whatever it must remember into its folder. Then it is
*opened* from that folder and answers. Serving opens it in the same way, so what is served is what
was measured.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from luthier.data.examples import Conversation, Example
from luthier.generation.answers import Answer
from luthier.generation.options import AnswerOptions
from luthier.models.pool import ModelPool
from luthier.progress import Reporter
from luthier.registry import Registry
from luthier.task import Task

if TYPE_CHECKING:
    from luthier.generation.local import Generator

Progress = Callable[[int], None]


@dataclass(frozen=True)
class Choice:
    """Something chosen on validation, with what it was chosen from."""

    what: str
    options: list[dict[str, Any]]  # {"value", "score"}
    chosen: Any
    why: str

    def to_dict(self) -> dict[str, Any]:
        """For arm.json."""
        return {
            "what": self.what,
            "options": self.options,
            "chosen": self.chosen,
            "why": self.why,
        }


@dataclass
class Fit:
    """What fitting came to; written to arm.json.

    Attributes:
        settings: all that `open` needs besides the files in the arm's folder.
        costs: train_seconds, train_tokens_per_second, trained_parameters, total_parameters, ...
        curve: (step, loss) of training, if there was any.
        extra: what else arm.json should hold, under keys of its own.
    """

    settings: dict[str, Any] = field(default_factory=dict)
    choices: list[Choice] = field(default_factory=list)
    costs: dict[str, Any] = field(default_factory=dict)
    curve: list[tuple[int, float]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass
class Workplace:
    """What an arm may use while it is fitted.

    Attributes:
        folder: the arm's own folder.
        labels: of a classification, else None.
        minutes: what of the budget this arm may take.
        settled: keys of the training section that an earlier fit of this arm came to, where it is
            fitted again (`refits.py`); the task's training section holds them too, which is not
            what every arm trains by.
    """

    task: Task
    train: Sequence[Example]
    validation: Sequence[Example]
    labels: tuple[str, ...] | None
    folder: Path
    pool: ModelPool
    reporter: Reporter
    minutes: float
    settled: Mapping[str, Any] = field(default_factory=dict)


class Answerer(ABC):
    """An opened arm, or a bare model: something that answers conversations."""

    name: str = ""
    #: whether answers are written token by token, so that sampling options apply
    generates: bool = False
    context_length: int | None = None

    @abstractmethod
    def answer(
        self,
        conversations: Sequence[Conversation],
        options: AnswerOptions | None = None,
        progress: Progress | None = None,
    ) -> list[Answer]:
        """One answer for each conversation, in order."""

    def stream(
        self, conversation: Conversation, options: AnswerOptions | None = None
    ) -> Iterator[str | Answer]:
        """The answer in pieces, and at last the whole `Answer`."""
        answer = self.answer([conversation], options)[0]
        yield answer.text
        yield answer

    @property
    def own_generator(self) -> Generator | None:
        """The generator over this arm's own weights; None when it has none of its own."""
        return None

    def close(self) -> None:  # noqa: B027 - most hold nothing of their own
        """Free what this arm alone holds."""


class Arm(ABC):
    """One way of doing the task."""

    name: ClassVar[str]
    title: ClassVar[str]
    #: task kinds it suits; None for all
    kinds: ClassVar[frozenset[str] | None] = None
    #: part of `arms: auto`
    in_auto: ClassVar[bool] = True
    #: a floor to compare with, never recommended
    floor: ClassVar[bool] = False
    #: an upper bound to compare with, which nothing real can reach; never recommended
    ceiling: ClassVar[bool] = False
    #: whether what the model knew before can be forgotten
    changes_weights: ClassVar[bool] = False
    #: whether more training examples of the same kind make it better: what a learning curve is of
    learns: ClassVar[bool] = False
    #: why no learning curve is drawn of it though it is trained on the rows; None otherwise
    no_curve: ClassVar[str | None] = None
    #: whether the seed changes what it answers: training that starts or goes otherwise
    seeded: ClassVar[bool] = False
    #: where it comes in the order of a run: cheap arms first
    order: ClassVar[int] = 50

    def unsuited(self, task: Task) -> str | None:
        """Why this arm cannot do the task, or None."""
        if self.kinds is not None and task.kind not in self.kinds:
            return f"{self.name} is for {', '.join(sorted(self.kinds))}, not for {task.kind}"
        return None

    def least_seconds(self, place: Workplace, tests: int) -> float:
        """A rough guess at the least that fitting and answering will take, to plan with."""
        del place, tests
        return 5.0

    def asked(
        self, examples: Sequence[Example], task: Task, answerer: Answerer
    ) -> list[Conversation]:
        """What the arm is asked of the test; a ceiling may be shown more than the question."""
        del task, answerer
        return [example.messages for example in examples]

    @abstractmethod
    def fit(self, place: Workplace) -> Fit:
        """Learn from training, choose on validation, remember in the folder."""

    @abstractmethod
    def open(
        self,
        task: Task,
        labels: tuple[str, ...] | None,
        folder: Path,
        settings: dict[str, Any],
        pool: ModelPool,
    ) -> Answerer:
        """The fitted arm, ready to answer."""


ARMS: Registry[type[Arm]] = Registry("arm", "luthier.arms")
