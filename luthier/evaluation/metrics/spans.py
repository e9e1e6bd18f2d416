"""Strict span precision, recall and F1 of named entities: type and boundaries must be right.

References and answers are text: one entity a line as `type: surface`, or `none`. Entities are
found again in the input's white-space tokens; the numbers are those of seqeval (mode strict,
IOB2) over the tags that result. Longer surfaces are placed first, each at the leftmost place whose
tokens no other entity has claimed.

- A surface that differs from the tokens only by punctuation at their edges ("Paris" in "Paris.")
  is placed there.
- An entity that cannot be placed is right only when the reference holds the same unplaceable
  one; otherwise it is a false positive (in the reference: a false negative).
- A line that is not an entity is a false positive, too.
"""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Hashable, Sequence

from luthier.evaluation.metrics.f1 import Counted, f1, precision, recall
from luthier.evaluation.scoring import ScoringRows, invalid_for, offer

_PUNCTUATION = string.punctuation + "“”‘’«»…"


def parse_entities(text: str) -> tuple[list[tuple[str, str]], int]:
    """Read `type: surface` lines.

    Returns:
        The entities, types in lower case, and how many lines are not entities. An empty text is
        one such line: saying nothing is not saying `none`.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if len(lines) == 1 and lines[0].rstrip(".").casefold() == "none":
        return [], 0
    entities, broken = [], 0
    for line in lines:
        kind, colon, surface = line.partition(":")
        if colon and kind.strip() and surface.strip():
            entities.append((kind.strip().casefold(), " ".join(surface.split())))
        else:
            broken += 1
    return entities, broken if lines else 1


def place_entities(
    tokens: Sequence[str], entities: Sequence[tuple[str, str]]
) -> list[tuple[Hashable, ...]]:
    """Where each entity stands: (type, first token, tokens), or (type, surface) if nowhere."""
    bare = [token.strip(_PUNCTUATION) or token for token in tokens]
    claimed = [False] * len(tokens)
    placed: list[tuple[Hashable, ...]] = []
    for kind, surface in sorted(entities, key=lambda entity: -len(entity[1].split())):
        words = surface.split()
        bare_words = [word.strip(_PUNCTUATION) or word for word in words]
        start = _leftmost(tokens, words, claimed)
        if start is None:
            start = _leftmost(bare, bare_words, claimed)
        if start is None:
            placed.append((kind, surface))
        else:
            claimed[start : start + len(words)] = [True] * len(words)
            placed.append((kind, start, len(words)))
    return placed


def _leftmost(tokens: Sequence[str], words: Sequence[str], claimed: Sequence[bool]) -> int | None:
    size = len(words)
    for start in range(len(tokens) - size + 1):
        if list(tokens[start : start + size]) == list(words) and not any(
            claimed[start : start + size]
        ):
            return start
    return None


@invalid_for("ner")
def _not_entity_lines(rows: ScoringRows) -> Sequence[bool]:
    return [parse_entities(prediction)[1] > 0 for prediction in rows.predictions]


class Spans(Counted):
    """Counts of entities with the right type at the right place."""

    kinds = frozenset({"ner"})

    def counts(self, rows: ScoringRows) -> list[tuple[int, int, int]]:
        """(right, spurious, missed) entities of each row."""
        counted = []
        for text, reference, prediction in zip(
            rows.inputs, rows.references, rows.predictions, strict=True
        ):
            tokens = text.split()
            wanted = Counter(place_entities(tokens, parse_entities(reference)[0]))
            entities, broken = parse_entities(prediction)
            given = Counter(place_entities(tokens, entities))
            # an empty answer names nothing: it misses, it invents nothing
            extra = broken if prediction.strip() else 0
            right = (wanted & given).total()
            counted.append((right, given.total() - right + extra, wanted.total() - right))
        return counted


offer(
    Spans("span_f1", "span F1", f1),
    Spans("span_precision", "span precision", precision),
    Spans("span_recall", "span recall", recall),
)
