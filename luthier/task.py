"""The task: what is wanted, how it is measured, what it may cost.

A task is one YAML file, `task.yaml`. It is typed, unknown keys are errors that suggest the nearest
name, and paths in it are relative to the file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    field_validator,
    model_validator,
)

from luthier.errors import InputError
from luthier.task_errors import explain
from luthier.yaml_files import read_yaml

Kind = Literal[
    "classification",
    "extraction",
    "ner",
    "qa",
    "summarization",
    "translation",
    "generation",
    "chat",
]
KINDS: tuple[str, ...] = get_args(Kind)

#: The metric a task of each kind is decided by, when the task file names none.
DEFAULT_METRICS: dict[str, str] = {
    "classification": "accuracy",
    "extraction": "field_f1",
    "ner": "span_f1",
    "qa": "f1",
    "summarization": "rougeL",
    "translation": "chrf",
    "generation": "rougeL",
    "chat": "rougeL",
}


class Section(BaseModel):
    """A part of the task file: typed, frozen, closed to keys it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _not_true_or_false(cls, value: Any) -> Any:
        # no key takes a truth value, and pydantic would take one for the number 0 or 1
        given = value if isinstance(value, list | tuple) else [value]
        if any(isinstance(one, bool) for one in given):
            raise ValueError(
                "YAML reads yes, no, on, off, true and false as truth values; put quotes around "
                "the word if it is meant as text"
            )
        return value


class Limit(Section):
    """How many rows of each split to use; None means all."""

    train: int | None = Field(default=None, ge=1)
    validation: int | None = Field(default=None, ge=1)
    test: int | None = Field(default=None, ge=1)


class Data(Section):
    """Where the rows are and how one becomes an input and an output."""

    train: str
    validation: str | None = None
    test: str | None = None
    input: str | None = None
    output: str | None = None
    template: str | None = None
    messages: str | None = None
    limit: Limit = Limit()
    group: str | None = None

    @field_validator("*")
    @classmethod
    def _not_blank(cls, value: Any) -> Any:
        if isinstance(value, str) and not value.strip():
            raise ValueError("is blank; give it a value, or leave the key out")
        return value

    @model_validator(mode="after")
    def _one_way_to_read_a_row(self) -> Data:
        ways = [self.input is not None, self.template is not None, self.messages is not None]
        if sum(ways) != 1:
            raise ValueError(
                "give exactly one of `input` (a template, with `output`), `template` (a name from "
                "the library) or `messages` (the column that holds the conversation)"
            )
        if (self.input is None) != (self.output is None):
            raise ValueError("`input` and `output` belong together: give both")
        return self


class Success(Section):
    """What the winner must reach. All scores are fractions of 1.

    Attributes:
        at_least: the score below which nothing is worth deploying.
        margin: how much worse than the best an arm may be and still count as good as the best
            (the non-inferiority margin).
        max_forgetting: how much of its general ability (chance-corrected accuracy) may be lost.
        max_seconds_per_answer: on this machine.
    """

    at_least: float | None = Field(default=None, ge=0, le=1)
    margin: float = Field(default=0.02, ge=0, lt=1)
    max_forgetting: float | None = Field(default=0.05, ge=0, le=1)
    max_seconds_per_answer: float | None = Field(default=None, gt=0)


class Training(Section):
    """What may be said about training; None leaves it to the default for the method and data.

    Attributes:
        loss_on: "completion" trains on the answers, "all" on every token.
        overlong: what to do with rows longer than `max_tokens`: stop ("error"), leave them out
            ("drop"), or cut the start of the conversation ("cut"). Counted and named in each case.
        checkpoint_every: optimiser steps between checkpoints; 0 for none.
    """

    learning_rate: float | None = Field(default=None, gt=0)
    epochs: float | None = Field(default=None, gt=0)
    batch_size: int | None = Field(default=None, ge=1)
    rank: int | None = Field(default=None, ge=1)
    alpha: float | None = Field(default=None, gt=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    weight_decay: float = Field(default=0.0, ge=0)
    warmup: float = Field(default=0.1, ge=0, lt=1)
    max_grad_norm: float = Field(default=1.0, gt=0)
    loss_on: Literal["completion", "all"] = "completion"
    max_tokens: int | None = Field(default=None, ge=8)
    overlong: Literal["error", "drop", "cut"] = "error"
    checkpoint_every: int | None = Field(default=None, ge=0)
    precision: Literal["auto", "float32", "bfloat16"] = "auto"


class Generation(Section):
    """How answers are written. Greedy unless a temperature is given."""

    max_new_tokens: int | None = Field(default=None, ge=1)
    temperature: float = Field(default=0.0, ge=0)
    top_p: float = Field(default=1.0, gt=0, le=1)


class Budget(Section):
    """What the whole run may take."""

    minutes: float = Field(default=20, gt=0)


class Task(Section):
    """A task, loaded from task.yaml."""

    name: str = Field(min_length=1, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    goal: str = ""
    kind: Kind
    instruction: str = ""
    labels: tuple[str, ...] | None = None
    data: Data
    documents: str | None = None
    model: str = "smollm2-135m-instruct"
    metric: str | None = None
    arms: Literal["auto"] | tuple[str, ...] = "auto"
    success: Success = Success()
    wanted: tuple[str, ...] = ()
    training: Training = Training()
    generation: Generation = Generation()
    budget: Budget = Budget()
    seed: int = Field(default=0, ge=0, lt=2**31)

    _path: Path = PrivateAttr(default=Path("task.yaml"))

    @field_validator("instruction", "goal")
    @classmethod
    def _without_the_final_newline(cls, text: str) -> str:
        return text.strip()

    @field_validator("labels")
    @classmethod
    def _distinct_labels(cls, labels: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if labels is None:
            return None
        labels = tuple(label.strip() for label in labels)  # as outputs and answers are
        if any(not label for label in labels):
            raise ValueError("a label is empty")
        twice = sorted({label for label in labels if labels.count(label) > 1})
        if twice:
            raise ValueError(f"{', '.join(twice)} listed twice")
        if len(labels) < 2:
            raise ValueError("a classification needs at least two labels")
        return labels

    @model_validator(mode="after")
    def _labels_belong_to_classification(self) -> Task:
        if self.labels is not None and self.kind != "classification":
            raise ValueError(f"`labels` belong to kind: classification, not {self.kind}")
        if self.arms != "auto" and not self.arms:
            raise ValueError("`arms` is empty: name at least one, or write `arms: auto`")
        return self

    @classmethod
    def load(cls, path: str | Path) -> Task:
        """Read and check a task file (or the task.yaml of a folder).

        Raises:
            InputError: missing, not YAML, an unknown key, a value of the wrong type. The message
                names the file and the key.
        """
        path = Path(path)
        if path.is_dir():
            path = path / "task.yaml"
        values = read_yaml(path, missing="`luthier init DIR` makes a task folder with an example.")
        return cls.from_dict(values, path=path)

    @classmethod
    def from_dict(cls, values: Any, *, path: str | Path = "task.yaml") -> Task:
        """Check a task given as a dictionary; `path` anchors its relative paths.

        Raises:
            InputError: as for `load`.
        """
        if not isinstance(values, dict):
            raise InputError(f"{path} holds no task: expected keys such as name, kind and data.")
        try:
            task = cls.model_validate(values)
        except ValidationError as error:
            raise InputError(f"{path}: {explain(error, cls)}") from None
        except RecursionError:
            raise InputError(f"{path} is nested too deeply.") from None
        task._path = Path(path).absolute()
        return task

    def changed(self, **values: Any) -> Task:
        """A copy with other values, checked like a file's, that keeps its place on disk."""
        if not values:
            return self
        return Task.from_dict({**self.to_dict(), **_plain(values)}, path=self._path)

    @property
    def path(self) -> Path:
        """Where the task was read from."""
        return self._path

    @property
    def folder(self) -> Path:
        """The folder that the task's relative paths start from."""
        return self._path.parent

    @property
    def scored_by(self) -> str:
        """The name of the metric that decides: the task's own, else the default of its kind."""
        return self.metric or DEFAULT_METRICS[self.kind]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, every default written out; what the run folder's task.yaml holds."""
        return self.model_dump(mode="json")


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    return {
        key: value.model_dump(mode="json") if isinstance(value, BaseModel) else value
        for key, value in values.items()
    }
