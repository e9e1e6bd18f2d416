"""The sections of task.yaml, each typed and closed to keys it does not know (`task.py`)."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

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

#: What the names of tasks and stages look like; they become folders.
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"


class Section(BaseModel):
    """A part of the task file: typed, frozen, closed to keys it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _not_true_or_false(cls, value: Any, info: ValidationInfo) -> Any:
        # where a key takes no truth value, pydantic would take one for the number 0 or 1
        truth: tuple[Any, ...] = (bool, bool | None, bool | Literal["auto"])
        if info.field_name and cls.model_fields[info.field_name].annotation in truth:
            return value
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


class Split(Section):
    """How validation and test are cut from the training rows, where they are not given.

    Attributes:
        test, validation: a share of the rows (below 1) or a number of them; left out, see
            `data/splits.py`.
        stratify: the column whose values every split has its share of, instead of the labels of a
            classification; a list in it is several labels of one row.
        time: the column with the time of a row; the newest rows become the test, the newest of
            the rest validation.
        near_duplicates: whether rows that differ in about one word in ten are kept on one side;
            left out, they are where that leaves enough to cut.
        lock: a file that remembers which rows were cut, so that they stay the test and validation
            when rows are added; written when it is not there.
    """

    test: float | None = Field(default=None, gt=0)
    validation: float | None = Field(default=None, gt=0)
    stratify: str | None = Field(default=None, min_length=1)
    time: str | None = Field(default=None, min_length=1)
    near_duplicates: bool | None = None
    lock: str | None = Field(default=None, min_length=1)

    @field_validator("test", "validation")
    @classmethod
    def _share_or_number(cls, value: float | None) -> float | None:
        if value is not None and value >= 1 and value != int(value):
            raise ValueError("is a share below 1 or a whole number of rows")
        return value

    @model_validator(mode="after")
    def _one_order(self) -> Split:
        if self.stratify is not None and self.time is not None:
            raise ValueError("rows are cut by `time` or by `stratify`, not by both")
        return self


class Data(Section):
    """Where the rows are and how one becomes an input and an output; or, with `text`, a document of
    raw text, for continued pre-training.

    Attributes:
        format: what the files are, a file of `data/formats` ("squad", "slack:Ada"), or "auto" for
            what they look like; rows then are those of the format. It may tell how a row becomes
            an input and an output, which need not be said then. Left out, rows are as in the file.
        refused: what happens when a row cannot be used (broken, a column missing, a blank answer):
            "stop" ends the work with its place and reason, "skip" goes on without it. What was left
            out is counted, and listed by `luthier check TASK --refused`.
    """

    format: str | None = None
    train: str
    validation: str | None = None
    test: str | None = None
    input: str | None = None
    output: str | None = None
    template: str | None = None
    messages: str | None = None
    text: str | None = None
    fields: dict[str, str] | None = None  # a template's field: the column that is it
    phrasing: int | str | None = None  # of a template: "all" mixes them in training rows
    evaluation_phrasing: int | str | None = None  # of validation and test rows; one fixed, or "all"
    limit: Limit = Limit()
    group: str | None = None
    split: Split = Split()
    refused: Literal["stop", "skip"] = "stop"
    benchmarks: tuple[str, ...] = ()  # files whose items training rows are searched for

    @field_validator("*")
    @classmethod
    def _not_blank(cls, value: Any) -> Any:
        if isinstance(value, str) and not value.strip():
            raise ValueError("is blank; give it a value, or leave the key out")
        return value

    @model_validator(mode="after")
    def _one_way_to_read_a_row(self) -> Data:
        ways = (self.input, self.template, self.messages, self.text)
        given = sum(way is not None for way in ways)
        if given > 1 or not (given or self.format):
            raise ValueError(
                "give exactly one of `input` (a template, with `output`), `template` (a name from "
                "the library), `messages` (the column that holds the conversation) or `text` (a "
                "template of raw text); or none, with `format: auto`, where the rows tell"
            )
        if self.text is not None and (self.test is not None or self.group is not None):
            raise ValueError(
                "raw text (`text`) has no `test` and no `group`; name held-out documents as "
                "`validation`, or leave them to be cut"
            )
        if (self.input is None) != (self.output is None):
            raise ValueError("`input` and `output` belong together: give both")
        said = [k for k in ("fields", "phrasing", "evaluation_phrasing") if getattr(self, k)]
        if said and self.template is None:
            raise ValueError(f"`{said[0]}` belongs to `template`, a name from the library")
        return self

    @property
    def tells(self) -> bool:
        """Whether it says how a row becomes an example; else its `format` does."""
        return any((self.input, self.template, self.messages, self.text))


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


class Forgetting(Section):
    """By what it is measured what a model forgot.

    Attributes:
        probes: where they come from (`evaluation/probe_sources.py`): "general" for those that come
            with the project, files or folders of rows, "lm-eval:NAME".
        limit: the most items of one file or task.
    """

    probes: tuple[str, ...] = Field(default=("general",), min_length=1)
    limit: int | None = Field(default=None, ge=1)


class Generation(Section):
    """How answers are written. Greedy unless a temperature is given."""

    max_new_tokens: int | None = Field(default=None, ge=1)
    temperature: float = Field(default=0.0, ge=0)
    top_p: float = Field(default=1.0, gt=0, le=1)


class PromptSearch(Section):
    """What the arm `prompt-search` tries (`arms/prompt_search.py`).

    Attributes:
        instructions: wordings of the instruction to try besides those it makes itself.
        writer: the model that rewrites the instruction, a catalogue name, a folder or a hub id;
            the task's own when left out, "none" for rewriting by rules alone.
        rewrites: how many instructions are asked of it.
        rows: on how many training rows, which no prompt shows, prompts are tried.
        minutes: the search may take; two fifths of what the budget leaves to the arm when left
            out.
    """

    instructions: tuple[str, ...] = ()
    writer: str | None = Field(default=None, min_length=1)
    rewrites: int = Field(default=6, ge=0, le=100)
    rows: int | None = Field(default=None, ge=4)
    minutes: float | None = Field(default=None, gt=0)


class Judge(Section):
    """A model that says which of two answers is better, where no reference can (`court.py`).

    Attributes:
        model: a catalogue name, a folder or a hub id; or the name the endpoint knows it by.
        endpoint: base URL of an OpenAI-compatible server.
        labelled: a file of pairs that people labelled (`evaluation/human_pairs.py`), at least 50.
        least_agreement: what the lower end of its kappa with them must reach for it to decide.
        key_env: the environment variable that holds the endpoint's key.
    """

    model: str = Field(min_length=1)
    endpoint: str | None = Field(default=None, min_length=1)
    labelled: str = Field(min_length=1)
    least_agreement: float = Field(default=0.4, ge=0, le=1)
    key_env: str = Field(default="OPENAI_API_KEY", min_length=1)


class Prices(Section):
    """What the user pays, in any one currency; what is not given costs nothing.

    Attributes:
        per_hour: of this machine, training and answering.
        per_million_prompt_tokens, per_million_completion_tokens: read and written to answer.
    """

    per_hour: float | None = Field(default=None, ge=0)
    per_million_prompt_tokens: float | None = Field(default=None, ge=0)
    per_million_completion_tokens: float | None = Field(default=None, ge=0)


class Retrieval(Section):
    """How the task's `documents` are searched; what is left out is chosen on validation.

    Attributes:
        k: passages shown to the model.
        mode: how they are found.
        rerank: whether the first of them are put in order again by their nearest sentence.
        size, overlap: of passages, in characters.
        gold: the column that names the document with the answer, or holds the passage itself; for
            the upper bound (`oracle`), for measuring the search, and for training `lora+rag`.
        groups: the access groups that the task's users are in.
        labels: a file that says who may read what (`luthier index build --labels`).
        index: where the index lies, a folder or an address such as s3://bucket/path, in place of
            the run's folder; made there where there is none, and else read as it is.
        quarantine: leave out passages that read like instructions to a model.
        least_support: the least share of an answer's content words that passages must hold.
    """

    k: int | None = Field(default=None, ge=1, le=50)
    mode: Literal["hybrid", "rrf", "bm25", "vectors"] | None = None
    rerank: bool | None = None
    size: int = Field(default=1000, ge=100)
    overlap: int = Field(default=150, ge=0)
    gold: str | None = Field(default=None, min_length=1)
    groups: tuple[str, ...] = ()
    labels: str | None = Field(default=None, min_length=1)
    index: str | None = Field(default=None, min_length=1)
    quarantine: bool = False
    least_support: float | None = Field(default=None, ge=0, le=1)


class Budget(Section):
    """What the whole run may take."""

    minutes: float = Field(default=20, gt=0)
