"""Outputs that begin by repeating the prompt."""

from __future__ import annotations

from collections.abc import Iterator

from luthier.data.folding import fold
from luthier.data.linting import LINTS, Finding, LintContext, number, percent, shortened, sources

#: Kinds whose outputs are written; an extracted or translated text may well equal its input.
KINDS = frozenset({"qa", "summarization", "generation", "chat"})
#: Characters that must be repeated before it is an echo.
LEAST = 20
#: The share of echoes above which the habit is learned.
MANY = 0.02


@LINTS.register("prompt_echo")
def prompt_echo(context: LintContext) -> Iterator[Finding]:
    """Outputs that equal their input, or begin with the whole of it."""
    if context.task.kind not in KINDS:
        return
    train = context.splits.train
    found = [e for e in train if e.messages and echoes(e.input, e.output)]
    if not found:
        return
    first = found[0]
    yield Finding(
        "prompt_echo",
        "warning" if len(found) > MANY * len(train) else "note",
        len(found),
        sources(found),
        f"{number(len(found), 'training output')} ({percent(len(found), len(train))}) "
        f"{'repeats' if len(found) == 1 else 'repeat'} the whole prompt at the start, such as "
        f"{shortened(first.output)!r} ({first.source}). A model learns to say the question again "
        "before, or instead of, an answer.",
        "Cut the repeated prompt off; some exports hold prompt and answer in one column.",
    )


def echoes(asked: str, output: str) -> bool:
    """Whether an output begins with the whole input, up to case, space and punctuation."""
    if len(asked) < LEAST or len(output) < LEAST or len(output) * 2 < len(asked):
        return False
    # most outputs begin with another word: no need to fold them
    head = asked.split(maxsplit=1)[0][:3].casefold()
    if head.isalpha() and not output.lstrip("\"'“‘*_ ").casefold().startswith(head):
        return False
    question = fold(asked)
    return len(question) >= LEAST and (fold(output) + " ").startswith(question + " ")
