"""Which languages the texts are in, and rows that are in another than the rest."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from luthier.data.examples import Example
from luthier.data.linting import LINTS, Finding, LintContext, number, percent, shortened, sources

#: Rows looked at; a text of 200 characters takes a quarter of a millisecond.
LOOKED_AT = 2_000
#: Letters below which a text says nothing about its language, and where more would say no more.
FEWEST_LETTERS, READ = 40, 1_000
#: What the identifier must be sure of, to count a text.
SURE = 0.95
#: The share of a second language above which the data are said to be mixed.
MIXED = 0.02
_NOISE = re.compile(r"https?://\S+|[<>{}\[\]|_#*=`\d]+")


@dataclass(frozen=True)
class Mix:
    """The languages of one side of the training rows.

    Attributes:
        part: "input" or "output".
        shares: ISO 639-1 code to its share of the texts that could be told, the most first.
        told: how many texts were long and clear enough.
        of: how many were looked at.
        examples: for each language, rows of it.
        said: see `Sample.said`.
    """

    part: str
    shares: dict[str, float]
    told: int
    of: int
    examples: dict[str, tuple[Example, ...]]
    said: str


@LINTS.register("languages")
def languages(context: LintContext) -> Iterator[Finding]:
    """Outputs, or inputs, in more than one language."""
    try:
        _identifier()
    except OSError as error:
        yield Finding(
            "languages",
            "note",
            0,
            (),
            f"What languages the rows are in could not be told: {error.strerror or error}.",
            "Make room where temporary files go.",
        )
        return
    for mix in mixes(context):
        others = dict(list(mix.shares.items())[1:])
        rows = [row for code in others for row in mix.examples[code]]
        if mix.told < 20 or sum(others.values()) <= MIXED:
            continue
        main = next(iter(mix.shares))
        first = rows[0]
        text = first.output if mix.part == "output" else first.input
        shares = ", ".join(f"{code} {share:.1%}" for code, share in list(mix.shares.items())[:6])
        yield Finding(
            "languages",
            "note",
            len(rows),
            sources(rows),
            f"{number(len(rows), f'training {mix.part}')} of {mix.told:,} that can be told "
            f"({percent(len(rows), mix.told)}{mix.said}) seem to be in another language than "
            f"{main}: {shares}; such as {shortened(text)!r} ({first.source}). A model learns to "
            "change languages as the rows do.",
            "Nothing, if that is what will be asked of it; else leave the others out.",
        )


def mixes(context: LintContext) -> tuple[Mix, ...]:
    """The languages of the training inputs and, where they are text, of the outputs."""
    return context.once("languages", lambda: tuple(_mixes(context)))


def _mixes(context: LintContext) -> Iterator[Mix]:
    drawn = context.sample("train", LOOKED_AT)
    if not drawn.examples:
        return
    parts = [("input", [e.input for e in drawn.examples])]
    if context.task.kind in ("summarization", "translation", "generation", "chat"):
        parts.append(("output", [e.output for e in drawn.examples]))
    for part, texts in parts:
        rows: dict[str, list[Example]] = {}
        for example, code in zip(drawn.examples, identify(texts), strict=True):
            if code:
                rows.setdefault(code, []).append(example)
        counts = Counter({code: len(of) for code, of in rows.items()})
        told = sum(counts.values())
        yield Mix(
            part,
            {code: n / told for code, n in sorted(counts.items(), key=lambda i: (-i[1], i[0]))},
            told,
            len(texts),
            {code: tuple(of) for code, of in rows.items()},
            drawn.said,
        )


def identify(texts: Sequence[str]) -> list[str | None]:
    """ISO 639-1 codes by py3langid; None for what is too short, or too close between languages."""
    try:
        classify = _identifier()
    except OSError:  # its model is unpacked into a temporary file
        return [None] * len(texts)
    codes: list[str | None] = []
    for text in texts:
        plain = " ".join(_NOISE.sub(" ", text[:READ]).split())
        # an ideograph says as much as several letters
        weight = sum(3 if c > "\u2e80" else 1 for c in plain if c.isalpha())
        if weight < FEWEST_LETTERS:
            codes.append(None)
            continue
        code, sure = classify(plain)
        codes.append(code if sure >= SURE else None)
    return codes


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True).classify
