"""The sentence of some passages that is nearest to a question."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from luthier.retrieval.grounding import Citation, content_words, said_in
from luthier.retrieval.hostile import suspicions
from luthier.retrieval.passages import Passage

#: What the share of the question's words counts for; the cosine counts for the rest.
_WORDS = 0.4


def nearest_sentence(
    encoder: Any, question: str, passages: Sequence[Passage]
) -> tuple[float, Citation] | None:
    """(how near it is, the sentence); None where there is no sentence.

    How near is 0.4 times the share of the question's content words that the sentence and the
    headings above it hold, and 0.6 times their cosine. Sentences that read like an instruction to a
    model are left out.

    Args:
        encoder: the one of the index.
        question: one.
        passages: that were found for it.
    """
    wanted = set(content_words(question))
    held: list[Citation] = []
    texts: list[str] = []
    for passage in passages:
        above = " / ".join(passage.heading[-1:])
        for start, end in said_in(passage):
            said = passage.text[start:end]
            if suspicions(said):  # what speaks to a model is not repeated to people
                continue
            at = passage.start + start
            held.append(Citation(passage.document, at, at + len(said), said))
            texts.append(f"{above}: {said}" if above else said)
    if not held:
        return None
    vectors = encoder.encode([question, *texts])[0]
    near = vectors[1:] @ vectors[0]
    shares = [len(wanted & set(content_words(text))) / max(1, len(wanted)) for text in texts]
    scores = (1 - _WORDS) * near + _WORDS * np.array(shares)
    best = int(np.argmax(scores))
    return float(scores[best]), held[best]
