"""What the rendered rows look like as token ids: where they begin and where they end."""

from __future__ import annotations

from collections.abc import Iterator

from luthier.data.linting import LINTS, Finding, LintContext, number, percent, sources

#: Rows that are rendered. What is looked for is a fault of the template, so it is in most rows.
LOOKED_AT = 200


@LINTS.register("prompt_tokens")
def prompt_tokens(context: LintContext) -> Iterator[Finding]:
    """A beginning token that comes twice, and answers whose trained part has no end token.

    With two beginning tokens a row looks like none the model has seen; without a trained end
    token a model never learns to stop.
    """
    if context.render is None:
        return
    drawn = context.sample("train", LOOKED_AT)
    doubled, endless = [], []
    for example in drawn.examples:
        row = context.render(example)
        begins = [token in row.starts for token in row.ids[:2]]
        if begins == [True, True]:
            doubled.append(example)
        last = next((i for i in reversed(range(len(row.ids))) if row.trained[i]), None)
        if last is not None and row.ids[last] not in row.stops:
            endless.append(example)
    total = len(drawn.examples)
    if doubled:
        yield Finding(
            "prompt_tokens",
            "error",
            len(doubled),
            sources(doubled),
            f"{number(len(doubled), 'rendered row')} of {total:,} looked at "
            f"({percent(len(doubled), total)}) begin with two beginning-of-sequence tokens. The "
            "model has never seen that and answers worse.",
            "Take the token out of the model's chat template, or set add_bos_token to false in "
            "its tokenizer_config.json.",
        )
    if endless:
        yield Finding(
            "prompt_tokens",
            "error",
            len(endless),
            sources(endless),
            f"{number(len(endless), 'rendered row')} of {total:,} looked at "
            f"({percent(len(endless), total)}) have a trained part that does not end in a stop "
            "token. The model would never learn to stop.",
            "Set eos_token in the model's tokenizer_config.json, or mend its chat template.",
        )
