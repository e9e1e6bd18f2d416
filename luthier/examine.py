"""Looking at a task before time is spent on it: data findings, token counts, an estimate, and what
exactly the model will see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from luthier.data.examples import Example
from luthier.data.linting import Finding, LintContext, lint
from luthier.data.prepare import Prepared
from luthier.errors import InputError
from luthier.progress import Reporter
from luthier.prompts.prompt import Prompt
from luthier.task import Task


@dataclass(frozen=True)
class Examined:
    """What a look at a task found.

    Attributes:
        findings: data findings, the serious ones first.
        tokens: for each split: rows, total, median and longest (prompt + answer).
        estimate: seconds and peak_memory_bytes of training and answering.
        sample: (text, trained) spans of the first training example, as the model will see it.
    """

    findings: tuple[Finding, ...]
    tokens: dict[str, dict[str, int]]
    estimate: dict[str, float]
    sample: tuple[tuple[str, bool], ...]

    @property
    def ok(self) -> bool:
        """Whether nothing forbids going on."""
        return all(finding.severity != "error" for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """What lint.json holds and `luthier check --json` prints."""
        return {
            "ok": self.ok,
            "findings": [finding.to_dict() for finding in self.findings],
            "tokens": self.tokens,
            "estimate": self.estimate,
        }


def examine(task: Task, prepared: Prepared, reporter: Reporter | None = None) -> Examined:
    """Look at a task's data with the model's own tokenizer.

    Raises:
        InputError: the instruction alone is longer than the model's context; or another task, or
            rows to replay, that the task names cannot be used.
        ModelError: the model is not to be had.
    """
    from luthier.models.tuned import describe_any, load_any_tokenizer
    from luthier.staged.plan import check_elsewhere

    check_elsewhere(task)
    tokenizer = load_any_tokenizer(task.model, base=task.folder, reporter=reporter)
    info = describe_any(task.model, base=task.folder)
    prompt = Prompt(tokenizer, instruction=task.instruction)
    instruction = len(tokenizer(task.instruction, add_special_tokens=False)["input_ids"])
    if instruction >= info.context_length:
        raise InputError(
            f"{task.path}: `instruction` has {instruction} tokens, and {task.model} reads at "
            f"most {info.context_length}.",
            fix="Shorten it, or choose a model with a longer context.",
        )
    counted: dict[str, tuple[int, int]] = {}

    def count_tokens(example: Example) -> tuple[int, int]:
        if example.source not in counted:
            asked = len(prompt.ask(example.messages))
            counted[example.source] = (asked, len(prompt.answer_ids(example.output)))
        return counted[example.source]

    findings = lint(
        LintContext(
            task=task,
            splits=prepared.splits,
            labels=prepared.labels,
            count_tokens=count_tokens,
            context_length=info.context_length,
        )
    )
    tokens = {
        name: _sizes([sum(count_tokens(example)) for example in examples])
        for name, examples in prepared.splits.items()
    }
    return Examined(
        findings=tuple(findings),
        tokens=tokens,
        estimate=_estimate(task, prepared, info, tokens),
        sample=_sample(task, prompt, prepared.splits.train),
    )


def _sizes(lengths: Sequence[int]) -> dict[str, int]:
    ordered = sorted(lengths)
    if not ordered:
        return {"rows": 0, "total": 0, "median": 0, "longest": 0}
    return {
        "rows": len(ordered),
        "total": sum(ordered),
        "median": ordered[len(ordered) // 2],
        "longest": ordered[-1],
    }


def _estimate(
    task: Task, prepared: Prepared, info: Any, tokens: dict[str, dict[str, int]]
) -> dict[str, float]:
    """Seconds and peak memory of fine-tuning with LoRA, the longest part of a usual run."""
    from luthier.models.estimate import estimate
    from luthier.training.config import default_epochs

    lora = estimate(info, "lora")
    epochs = task.training.epochs or default_epochs(len(prepared.splits.train))
    return {
        "seconds": round(epochs * tokens["train"]["total"] / lora.tokens_per_second, 1),
        "peak_memory_bytes": lora.peak_memory_bytes,
    }


def _sample(task: Task, prompt: Prompt, train: Sequence[Example]) -> tuple[tuple[str, bool], ...]:
    """The first training example as text, in spans that are trained or only read."""
    if not train:
        return ()
    first = train[0]
    taught = prompt.teach(
        first.messages, first.output, loss_on=task.training.loss_on, weight=first.weight
    )
    spans: list[tuple[list[int], bool]] = []
    for token, trained in zip(taught.ids, taught.trained, strict=True):
        if not spans or spans[-1][1] != trained:
            spans.append(([], trained))
        spans[-1][0].append(token)
    return tuple((str(prompt.tokenizer.decode(ids)), trained) for ids, trained in spans)
