"""What task.yaml says of training: one stage, several after one another, several tasks at once."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import (
    ConfigDict,
    Field,
    field_serializer,
    field_validator,
    model_serializer,
    model_validator,
)

from luthier.task_sections import NAME, Data, Kind, Section


class Replay(Section):
    """Rows of something else mixed into training, so that it is not forgotten.

    Attributes:
        source: `from` in the file: the path of a task, or of rows (jsonl with `messages`, or with
            `instruction` and `output`); "general" for the prompts that come with the project; or
            "self" for the same prompts answered by the model itself before it is tuned.
        ratio: the share of all training examples that are replayed ones.
    """

    model_config = ConfigDict(populate_by_name=True)

    source: str = Field(default="general", alias="from", min_length=1)
    ratio: float = Field(default=0.1, gt=0, lt=1)

    @model_serializer
    def _as_in_the_file(self) -> dict[str, Any]:
        return {"from": self.source, "ratio": self.ratio}


class Training(Section):
    """What may be said about training; None leaves it to the default for the method and data.

    Attributes:
        objective: what is learned, a file of `training/objectives`: "sft" (the answers),
            "pretrain" (raw text), "sequence-classification" and "token-classification" (a head for
            labels). Left out: sft, or pretrain where the data are raw text.
        loss_on: "completion" trains on the answer, the last turn of a conversation; "assistant" on
            every turn of the assistant in it; "all" on every token.
        pooling: how a classification head makes one vector of a text.
        layer_decay: what the learning rate of a layer is multiplied by for every layer that lies
            above it (`layerwise.py`).
        unfreeze: "gradual" trains the last layer first and opens one more after another.
        overlong: what to do with rows longer than `max_tokens`: stop ("error"), leave them out
            ("drop"), or cut the start of the conversation ("cut"). Counted and named in each case.
        checkpoint_every: optimiser steps between checkpoints; 0 for none.
        keep_checkpoints: how many checkpoints are kept while training is under way.
        evaluate_every: optimiser steps between looks at the loss on the validation rows.
        patience: how many such looks may bring no better loss before training stops and the best
            weights are taken; left out, training goes on to the end.
        gradient_checkpointing: true saves memory and costs about a third more time.
        replay: rows of something else to mix in (`remedies/replay.py`).
        l2_sp: strength of the pull back to the weights training starts from (`remedies/l2_sp.py`).
        targets: last parts of the names of the layers that low-rank methods adapt ("q_proj"); all
            linear layers but the head when left out.
        layers: how many layers, counted from the last, method last-layers trains.
        virtual_tokens: how many positions a soft prompt puts before every row.
        wise_ft: how much of the change of the weights is kept, a share, or "auto" to choose it on
            validation rows (`remedies/wise_ft.py`).
        tune: how many settings each tuned arm of `luthier run` tries on validation
            (`training/search.py`); what this section gives stays as given.
        canaries: how many invented secrets are put among the training rows, to see whether they
            are learned by heart (`evaluation/memorisation`); they are trained for good.
    """

    learning_rate: float | None = Field(default=None, gt=0)
    epochs: float | None = Field(default=None, gt=0)
    batch_size: int | None = Field(default=None, ge=1)
    rank: int | None = Field(default=None, ge=1)
    alpha: float | None = Field(default=None, gt=0)
    targets: tuple[str, ...] | None = Field(default=None, min_length=1)
    layers: int | None = Field(default=None, ge=1)
    virtual_tokens: int | None = Field(default=None, ge=1)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    weight_decay: float = Field(default=0.0, ge=0)
    warmup: float = Field(default=0.1, ge=0, lt=1)
    max_grad_norm: float = Field(default=1.0, gt=0)
    objective: str | None = Field(default=None, min_length=1)
    loss_on: Literal["completion", "assistant", "all"] = "completion"
    pooling: Literal["mean", "first", "last", "pooler"] | None = None
    layer_decay: float = Field(default=1.0, gt=0, le=1)
    unfreeze: Literal["all", "gradual"] = "all"
    max_tokens: int | None = Field(default=None, ge=8)
    overlong: Literal["error", "drop", "cut"] = "error"
    checkpoint_every: int | None = Field(default=None, ge=0)
    keep_checkpoints: int | None = Field(default=None, ge=1)
    evaluate_every: int | None = Field(default=None, ge=1)
    patience: int | None = Field(default=None, ge=1)
    gradient_checkpointing: bool = False
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    replay: Replay | None = None
    l2_sp: float = Field(default=0.0, ge=0)
    wise_ft: float | Literal["auto"] | None = None
    tune: int | None = Field(default=None, ge=1, le=1000)
    canaries: int = Field(default=0, ge=0, le=1000)

    @field_validator("wise_ft", mode="before")
    @classmethod
    def _a_share_or_auto(cls, value: Any) -> Any:
        if value in (None, "auto"):
            return value
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
            raise ValueError("a share above 0 and at most 1, or auto, is expected")
        return float(value)


class Stage(Section):
    """One stage of tuning before, or as, the task itself.

    Attributes:
        name: what it is called in tables and folders.
        task: the file of another task; without it and without `data` the stage is this task.
        data, kind, labels, instruction: another task written here.
        training: keys that differ from the training section of the stage's task.
        method: a tuning method; that of `luthier train --method` when left out.
    """

    name: str = Field(min_length=1, pattern=NAME)
    task: str | None = Field(default=None, min_length=1)
    data: Data | None = None
    kind: Kind | None = None
    labels: tuple[str, ...] | None = None
    instruction: str | None = None
    training: Training | None = None
    method: str | None = None

    @model_validator(mode="after")
    def _one_task(self) -> Stage:
        if self.name == "base":
            raise ValueError("no stage may be called base: that is the untuned model")
        if self.task is not None and (self.data or self.kind or self.labels):
            raise ValueError("give `task` (a file), or `data` and its keys, not both")
        return self

    @field_serializer("training")
    def _only_what_was_said(self, training: Training | None) -> dict[str, Any] | None:
        # a default written out would override what the stage's own task says
        return training.model_dump(mode="json", exclude_unset=True) if training else None


class Member(Section):
    """One task of a mixture; without `task` the one that the file itself describes.

    Attributes:
        weight: its share of the draws, in proportion to the other weights.
        rows: the most of its training rows that are used, chosen by the seed.
    """

    task: str | None = Field(default=None, min_length=1)
    weight: float | None = Field(default=None, gt=0)
    rows: int | None = Field(default=None, ge=1)


class Mixture(Section):
    """Several tasks tuned at once.

    Attributes:
        tasks: the others, and this task itself where it is to have a weight.
        temperature: T of sampling in proportion to n^(1/T), n being a task's training rows. 1 is
            in proportion to the rows, more is closer to equal shares. 1 where neither it nor a
            weight is given.
        cap: the most rows a task counts for in those shares.
    """

    tasks: tuple[Member, ...]
    temperature: float | None = Field(default=None, gt=0)
    cap: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _weights_or_temperature(self) -> Mixture:
        weighted = any(member.weight is not None for member in self.tasks)
        if weighted and (self.temperature is not None or self.cap is not None):
            raise ValueError("give weights, or `temperature` and `cap`, not both")
        named = [member.task for member in self.tasks]
        if len(set(named)) < len(named):
            raise ValueError("a task is named twice")
        if set(named) <= {None}:
            raise ValueError("name another task: a mixture takes at least two")
        return self
