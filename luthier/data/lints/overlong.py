"""Rows longer than the model or the training takes, and answers longer than may be written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from luthier.data.examples import Example
from luthier.data.linting import LINTS, SAMPLE, Finding, LintContext, number, percent, sources


@dataclass(frozen=True)
class Overlong:
    """The rows of a split that are too long.

    Attributes:
        most: tokens a row may take.
        key: what says so.
        rows: those that take more, with their tokens; of the sample where there is one.
        count: how many there are in the split, estimated where only a sample was counted.
        of: rows of the split.
        said: " in a sample of ..." or nothing.
    """

    most: int
    key: str
    rows: tuple[tuple[Example, int], ...]
    count: int
    of: int
    said: str


@LINTS.register("overlong")
def overlong(context: LintContext) -> Iterator[Finding]:
    """Rows whose prompt and answer take more tokens than the context or `training.max_tokens`."""
    training = context.task.training
    for name, found in measure(context).items():
        if not found.rows:
            continue
        longest, tokens = max(found.rows, key=lambda item: item[1])
        about = "About " if found.said else ""
        head = (
            f"{about}{number(found.count, f'{name} row')} ({percent(found.count, found.of)}) "
            f"{'takes' if found.count == 1 else 'take'} more than the {found.most:,} tokens of "
            f"{found.key}{', counted' * bool(found.said)}{found.said}; the "
            f"longest takes {tokens:,} ({longest.source}). "
        )
        cut = training.overlong == "cut"
        stops = not cut if name != "train" else training.overlong == "error"
        if name != "train" and cut:
            why = "The start of their question will be cut off, as `training.overlong: cut` asks."
        elif name != "train":
            why = "The model cannot take the whole of them, so they cannot be answered fairly."
        elif training.overlong == "error":
            why = "Training stops at them, as `training.overlong: error` asks."
        else:
            done = "left out of training" if training.overlong == "drop" else "cut at the start"
            why = f"They will be {done}, as `training.overlong: {training.overlong}` asks."
        yield Finding(
            "overlong",
            "error" if stops else "warning",
            found.count,
            sources(example for example, _ in found.rows),
            head + why,
            "Shorten or remove these rows, take a model with a longer context"
            + (", or raise `training.max_tokens`" if "max_tokens" in found.key else "")
            + (
                ", or set `training.overlong` to drop or cut."
                if name == "train"
                else ", or set `training.overlong: cut`."
            ),
        )
    yield from _answers(context)


def _answers(context: LintContext) -> Iterator[Finding]:
    """Answers of the test that are longer than `generation.max_new_tokens` lets the model write."""
    most, count = context.task.generation.max_new_tokens, context.count_tokens
    if most is None or count is None or context.labels is not None:
        return
    drawn = context.sample("test")
    long = [
        example
        for example in drawn.examples
        if all(count(one)[1] > most for one in _as_asked(example, context.task.kind))
    ]
    if long:
        total = len(drawn.examples)
        yield Finding(
            "overlong",
            "warning",
            len(long),
            sources(long),
            f"{number(len(long), 'test answer')} ({percent(len(long), total)}{drawn.said}) "
            f"{'is' if len(long) == 1 else 'are'} longer than the {most:,} tokens of "
            "`generation.max_new_tokens`, so no arm can write the whole of "
            f"{'it' if len(long) == 1 else 'them'}.",
            "Raise `generation.max_new_tokens`, or leave it out.",
        )


def _as_asked(example: Example, kind: str) -> list[Example]:
    """An example with each of the answers that are right by themselves."""
    if kind != "qa":
        return [example]
    from luthier.evaluation.metrics.squad import told_answers

    return [replace(example, output=answer) for answer in told_answers(example.output)]


def measure(context: LintContext) -> dict[str, Overlong]:
    """For each split with a limit, the rows beyond it; nothing without a tokenizer.

    A token takes at least one byte, so rows with fewer bytes than the limit has tokens are not
    tokenised. Of the others at most 20,000 are, and the rest is estimated from those.
    """
    return context.once("overlong", lambda: _measure(context))


def _measure(context: LintContext) -> dict[str, Overlong]:
    count, window = context.count_tokens, context.context_length
    training = context.task.training
    if count is None or (window is None and training.max_tokens is None):
        return {}
    found = {}
    for name, examples in context.splits.items():
        most, key = window, "the model's context"
        if name != "test" and training.max_tokens and training.max_tokens < (window or 2**62):
            most, key = training.max_tokens, "`training.max_tokens`"
        if most is None or not examples:
            continue
        # what the template and the instruction add, measured on a few rows; twice that, to be safe
        added = 2 * max(
            sum(count(example)) / (1 + len(example.messages)) for example in examples[:5]
        )
        doubtful = [e for e in examples if _bytes(e) + added * (1 + len(e.messages)) > most]
        looked = _evenly(doubtful, SAMPLE)
        rows = tuple((e, tokens) for e in looked if (tokens := sum(count(e))) > most)
        sampled = len(looked) < len(doubtful)
        share = len(doubtful) / len(looked) if sampled else 1.0
        found[name] = Overlong(
            most,
            key,
            rows,
            round(share * len(rows)),
            len(examples),
            f" in a sample of {len(looked):,} rows" if sampled else "",
        )
    return found


def _bytes(example: Example) -> int:
    """At least as many as the texts have tokens."""
    texts = [message.content for message in example.messages] + [example.output]
    return sum(len(t) if t.isascii() else len(t.encode("utf-8", "replace")) for t in texts)


def _evenly(examples: Sequence[Example], most: int) -> Sequence[Example]:
    """At most `most` of the examples, at even distances."""
    if len(examples) <= most:
        return examples
    return [examples[index * len(examples) // most] for index in range(most)]
