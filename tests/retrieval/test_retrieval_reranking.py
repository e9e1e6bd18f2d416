"""A second look at passages, by their sentences."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from retrieval_fakes import WordEncoder

from luthier.retrieval.chunks import sentences
from luthier.retrieval.fusion import with_sentences
from luthier.retrieval.passages import Passage
from luthier.retrieval.reranking import Sentences

TEXTS = (
    "The yard is wide. It has trees. Bikes stand in it.",
    "The canteen is old. Its tables are round. It opens at noon.",
    "The printer stands on floor three.",
)


def passages(heading: tuple[str, ...] = ()) -> list[Passage]:
    blank = Passage(document="", start=0, end=0, text="", heading=heading, source="", score=0.0)
    return [replace(blank, document=str(n), text=text) for n, text in enumerate(TEXTS)]


def asked(encoder: WordEncoder, question: str) -> np.ndarray:
    return encoder.encode([question])[0][0]


@pytest.mark.parametrize(("question", "first"), [("opens at noon", 1), ("has trees", 0)])
def test_the_nearest_sentence_is_found(question: str, first: int) -> None:
    encoder = WordEncoder()
    found = Sentences(encoder).nearest(asked(encoder, question), passages())
    assert int(np.argmax(found)) == first
    for nearness, text in zip(found, TEXTS, strict=True):
        alone = encoder.encode([text[start:end] for start, end in sentences(text)])[0]
        assert nearness == pytest.approx(float((alone @ asked(encoder, question)).max()))


def test_a_passage_is_encoded_once_as_long_as_it_is_remembered() -> None:
    encoder = WordEncoder()
    look, question = Sentences(encoder, kept=3), asked(encoder, "opens at noon")
    first = look.nearest(question, passages())
    done = encoder.encoded
    assert look.nearest(question, passages()) == first
    assert encoder.encoded == done
    revised = [replace(passages()[2], text="The printer was thrown away. It opens at noon.")]
    assert look.nearest(question, revised)[0] > first[2]
    assert encoder.encoded == done + 2
    look.nearest(question, [passages()[0]])  # the longest unseen, forgotten for the revised one
    assert encoder.encoded == done + 5


def test_headings_count_and_what_has_no_sentence_is_far_from_everything() -> None:
    encoder = WordEncoder()
    look, question = Sentences(encoder), asked(encoder, "opens at noon")
    bare, headed = passages()[2], passages(("House", "Opens at noon"))[2]
    empty = replace(bare, text=" ")
    found = look.nearest(question, [bare, headed, empty])
    assert found[1] > found[0] > found[2] == -1.0
    assert look.nearest(question, []) == []


@pytest.mark.parametrize(("divided", "order"), [(False, ["0", "2", "1"]), (True, ["2", "0", "1"])])
def test_own_scores_and_sentences_are_added(divided: bool, order: list[str]) -> None:
    scored = [replace(p, score=s) for p, s in zip(passages(), (2.0, 1.0, 1.6), strict=True)]
    found = with_sentences(scored, [0.1, 0.0, 0.7], divided=divided)
    assert [one.document for one in found] == order
    if divided:
        assert [one.score for one in found] == pytest.approx([0.8 + 0.35, 1.0 + 0.05, 0.5])
    assert with_sentences([], [], divided=True) == []
