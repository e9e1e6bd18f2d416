"""Rows longer than the model or the training takes."""

from __future__ import annotations

from collections.abc import Iterator

from luthier.data.linting import LINTS, Finding, LintContext, number, percent, sources


@LINTS.register("overlong")
def overlong(context: LintContext) -> Iterator[Finding]:
    """Rows whose prompt and answer take more tokens than the context or `training.max_tokens`."""
    count = context.count_tokens
    window = context.context_length
    training = context.task.training
    if count is None or (window is None and training.max_tokens is None):
        return
    for name, examples in context.splits.items():
        most = window
        key = "the model's context"
        if name != "test" and training.max_tokens and training.max_tokens < (window or 2**62):
            most, key = training.max_tokens, "`training.max_tokens`"
        if most is None:
            continue
        lengths = [(example, sum(count(example))) for example in examples]
        long = [(example, tokens) for example, tokens in lengths if tokens > most]
        if not long:
            continue
        longest, tokens = max(long, key=lambda item: item[1])
        head = (
            f"{number(len(long), f'{name} row')} ({percent(len(long), len(examples))}) "
            f"{'takes' if len(long) == 1 else 'take'} more than the {most:,} tokens of {key}; the "
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
            len(long),
            sources(example for example, _ in long),
            head + why,
            "Shorten or remove these rows, take a model with a longer context"
            + (", or raise `training.max_tokens`" if "max_tokens" in key else "")
            + (
                ", or set `training.overlong` to drop or cut."
                if name == "train"
                else ", or set `training.overlong: cut`."
            ),
        )
