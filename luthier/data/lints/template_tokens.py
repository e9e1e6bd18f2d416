"""Marks of chat templates inside the texts."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from luthier.data.linting import LINTS, Finding, LintContext, number, sources, texts_of

_TOKENS = re.compile(
    r"<\|[A-Za-z][A-Za-z0-9_]{1,40}\|>"  # ChatML, Llama 3, Phi, GPT
    r"|\[/?INST\]|<</?SYS>>"  # Llama 2, Mistral
    r"|</?(?:start|end)_of_turn>"  # Gemma
    r"|<(?:bos|eos)>"
    r"|^<s>|</s>$"  # at the ends only: in between, <s> is HTML
    r"|<｜[^｜>]{1,40}｜>"  # DeepSeek
)
# Role labels that the answer begins with, or that open a further turn inside it.
_ROLES = re.compile(
    r"^(?:assistant|ai|bot|### response):\s|\n(?:human|user|### instruction):\s", re.I
)


@LINTS.register("template_tokens")
def template_tokens(context: LintContext) -> Iterator[Finding]:
    """Special tokens and role labels written in inputs or outputs.

    The prompt adds these itself. In the text they are either read as the real thing, ending a
    turn early, or learned as something to write.
    """
    for part in ("input", "output"):
        found: Counter[str] = Counter()
        rows = {}
        for example, where, text in texts_of(context.everything):
            if where != part:
                continue
            marks = _TOKENS.findall(text.strip())
            if part == "output":
                marks += [mark.strip() for mark in _ROLES.findall(text.strip())]
            if marks:
                found.update(marks)
                rows[id(example)] = example
        if rows:
            shown = ", ".join(mark for mark, _ in found.most_common(5))
            yield Finding(
                "template_tokens",
                "warning",
                len(rows),
                sources(rows.values()),
                f"{number(len(rows), 'row')} {'has' if len(rows) == 1 else 'have'} marks of a "
                f"chat template in the {part}: {shown}. "
                + (
                    "The model would learn to write them."
                    if part == "output"
                    else "The prompt brings its own; these may end a turn where none ends."
                ),
                "Remove them; for whole conversations use `data.messages` with plain turns.",
            )
