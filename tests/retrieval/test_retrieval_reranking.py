"""A second look at passages, by their sentences."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from retrieval_fakes import WordEncoder

from luthier.retrieval.chunks import sentences
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


@pytest.mark.parametrize(("question", "first"), [("opens at noon", "1"), ("has trees", "0")])
def test_the_nearest_sentence_decides(question: str, first: str) -> None:
    encoder = WordEncoder()
    found = Sentences(encoder).order(asked(encoder, question), passages())
    assert found[0].document == first
    assert sorted(one.document for one in found) == ["0", "1", "2"]
    text = found[0].text
    alone = encoder.encode([text[start:end] for start, end in sentences(text)])[0]
    assert found[0].score == pytest.approx(float((alone @ asked(encoder, question)).max()))


def test_a_passage_is_encoded_once_as_long_as_it_is_remembered() -> None:
    encoder = WordEncoder()
    look, question = Sentences(encoder, kept=3), asked(encoder, "opens at noon")
    first = look.order(question, passages())
    done = encoder.encoded
    assert look.order(question, passages()) == first
    assert encoder.encoded == done
    revised = [replace(passages()[2], text="The printer was thrown away. It opens at noon.")]
    assert look.order(question, revised)[0].score > 0.8
    assert encoder.encoded == done + 2
    look.order(question, [passages()[0]])  # looked at longest ago, forgotten for the revised one
    assert encoder.encoded == done + 5


def test_headings_count_and_what_has_no_sentence_comes_last() -> None:
    encoder = WordEncoder()
    look, question = Sentences(encoder), asked(encoder, "opens at noon")
    bare, headed = passages()[2], passages(("House", "Opens at noon"))[2]
    assert look.order(question, [bare, headed])[0].heading
    empty = replace(bare, text=" ")
    found = look.order(question, [empty, bare])
    assert found[0] == replace(bare, score=found[0].score)
    assert found[1].score == -1.0
    assert look.order(question, []) == []
