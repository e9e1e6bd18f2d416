"""The task: what is wanted, how it is measured, what it may cost.

A task is one YAML file, `task.yaml`. It is typed, unknown keys are errors that suggest the nearest
name, and paths in it are relative to the file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import Field, PrivateAttr, ValidationError, field_validator, model_validator

from luthier.errors import InputError
from luthier.task_errors import explain
from luthier.task_sections import (
    NAME,
    Budget,
    Data,
    Forgetting,
    Generation,
    Judge,
    Kind,
    Prices,
    PromptSearch,
    Retrieval,
    Section,
    Success,
)
from luthier.task_training import Mixture, Stage, Training
from luthier.yaml_files import read_yaml

KINDS: tuple[str, ...] = get_args(Kind)

#: What can be replayed without naming a file.
REPLAY_SOURCES = ("general", "self")

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


class Task(Section):
    """A task, loaded from task.yaml."""

    name: str = Field(min_length=1, pattern=NAME)
    goal: str = ""
    kind: Kind
    instruction: str = ""
    labels: tuple[str, ...] | None = None
    #: `schema` in the file: the JSON schema of an extraction's answers, or the file that holds it
    answer_schema: str | dict[str, Any] | None = Field(default=None, alias="schema")
    data: Data
    documents: str | None = None
    retrieval: Retrieval = Retrieval()
    model: str = "smollm2-135m-instruct"
    metric: str | None = None
    judge: Judge | None = None
    arms: Literal["auto"] | tuple[str, ...] = "auto"
    success: Success = Success()
    forgetting: Forgetting = Forgetting()
    #: whether it is looked for what a tuned model learned by heart (a minute or two an arm); left
    #: out, where `training.canaries` are planted
    memorisation: bool | None = None
    wanted: tuple[str, ...] = ()
    training: Training = Training()
    stages: tuple[Stage, ...] = ()
    mixture: Mixture | None = None
    generation: Generation = Generation()
    prompt_search: PromptSearch = PromptSearch()
    budget: Budget = Budget()
    prices: Prices = Prices()
    seed: int = Field(default=0, ge=0, lt=2**31)
    #: with how many seeds (seed, seed + 1, ...) arms that depend on one are fitted; their score is
    #: the mean, and the first fit is the one that is kept and served
    seeds: int = Field(default=1, ge=1, le=20)
    #: whether pilot fits on parts of the training rows show what more data would bring; "auto":
    #: where the budget has room for them
    learning_curve: bool | Literal["auto"] = "auto"

    _path: Path = PrivateAttr(default=Path("task.yaml"))

    @model_validator(mode="before")
    @classmethod
    def _raw_text_is_generation(cls, values: Any) -> Any:
        # raw text is no task with a kind; text is what a model trained on it writes
        data = values.get("data") if isinstance(values, dict) else None
        text = data.get("text") if isinstance(data, dict) else getattr(data, "text", None)
        return {**values, "kind": "generation"} if text and "kind" not in values else values

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

    @field_validator("answer_schema", mode="before")
    @classmethod
    def _a_file_or_a_schema(cls, value: Any) -> Any:
        if value is None or isinstance(value, dict) or (isinstance(value, str) and value.strip()):
            return value
        raise ValueError("a JSON schema, or the file that holds one, is expected")

    @model_validator(mode="after")
    def _schema_belongs_to_extraction(self) -> Task:
        if self.answer_schema is not None and self.kind != "extraction":
            raise ValueError(f"`schema` belongs to kind: extraction, not {self.kind}")
        return self

    @model_validator(mode="after")
    def _labels_belong_to_classification(self) -> Task:
        if self.labels is not None and self.kind != "classification":
            raise ValueError(f"`labels` belong to kind: classification, not {self.kind}")
        if self.arms != "auto" and not self.arms:
            raise ValueError("`arms` is empty: name at least one, or write `arms: auto`")
        return self

    @model_validator(mode="after")
    def _judge_of_texts(self) -> Task:
        if self.judge is not None and self.kind not in ("chat", "generation"):
            raise ValueError(f"`judge` belongs to kind: chat or generation, not {self.kind}")
        if self.metric == "win_rate" and self.judge is None:
            raise ValueError("`metric: win_rate` needs a `judge`: its model and labelled pairs")
        return self

    @model_validator(mode="after")
    def _stages_or_mixture(self) -> Task:
        names = [stage.name for stage in self.stages]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two `stages` are called {', '.join(twice)}")
        if self.stages and self.mixture:
            raise ValueError(
                "give `stages` or `mixture`, not both; a stage may name a task with a mixture"
            )
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
    def wishes(self) -> Training:
        """The training section with its paths made absolute, and the objective of raw text."""
        replay = self.training.replay
        changes: dict[str, Any] = {}
        if self.data.text is not None and self.training.objective is None:
            changes["objective"] = "pretrain"
        if replay is not None:
            source = self.replay_path(replay.source)
            changes["replay"] = replay.model_copy(update={"source": source})
        return self.training.model_copy(update=changes) if changes else self.training

    def replay_path(self, source: str) -> str:
        """Where replayed rows come from: an absolute path, or the name of a source as it is."""
        if source in REPLAY_SOURCES or source.startswith("hub:"):
            return source
        return str((self.folder / Path(source).expanduser()).absolute())

    @property
    def scored_by(self) -> str:
        """The name of the metric that decides: the task's own, else the default of its kind."""
        return self.metric or DEFAULT_METRICS[self.kind]

    @property
    def chosen_by(self) -> str:
        """The name of the metric that choices on validation are made by: the one that decides, or
        the default of the kind where that is a judge, who is asked about the test alone."""
        return DEFAULT_METRICS[self.kind] if self.scored_by == "win_rate" else self.scored_by

    def to_dict(self) -> dict[str, Any]:
        """Plain values, every default written out; what the run folder's task.yaml holds."""
        return self.model_dump(mode="json", by_alias=True)


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    return {
        key: value.model_dump(mode="json") if isinstance(value, Section) else value
        for key, value in values.items()
    }
