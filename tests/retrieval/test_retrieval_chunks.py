"""Documents to passages."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from luthier.errors import InputError
from luthier.retrieval.chunks import Chunking, chunks_of, sentences
from luthier.retrieval.documents import Document

WORDS = st.lists(
    st.sampled_from(["word", "Dr.", "end.", "Why?", "\n\n", "e.g.", "x" * 140, "3.5", "U.S."]),
    max_size=120,
)


@settings(suppress_health_check=[HealthCheck.too_slow])  # on a busy machine
@given(WORDS, st.integers(100, 400), st.data())
def test_every_word_is_in_a_passage(words: list[str], size: int, data: st.DataObject) -> None:
    text = " ".join(words)
    at = sorted(data.draw(st.sets(st.integers(0, max(0, len(text) - 1)), max_size=3)))
    headings = tuple((place, 1, f"h{place}") for place in at)
    overlap = data.draw(st.integers(0, size // 2))
    found = list(chunks_of(Document("d", text, headings=headings), Chunking(size, overlap)))
    covered = set()
    for chunk in found:
        assert chunk.start < chunk.end
        assert chunk.end - chunk.start <= size
        piece = text[chunk.start : chunk.end]
        assert piece == piece.strip()
        covered |= set(range(chunk.start, chunk.end))
        # no passage goes across a heading
        assert not any(chunk.start < place < chunk.end for place in at)
        before = [place for place in at if place <= chunk.start]
        assert chunk.heading == ((f"h{before[-1]}",) if before else ())
    assert all(i in covered for i, char in enumerate(text) if not char.isspace())
    assert [c.start for c in found] == sorted(c.start for c in found)


def test_sentences_do_not_end_at_abbreviations() -> None:
    text = (
        "Dr. Smith of the U.S. Navy, e.g. the fleet, paid 3.5 million. It ended! Did it? (Yes.) "
        "J. B. left."
    )
    assert [text[a:b] for a, b in sentences(text)] == [
        "Dr. Smith of the U.S. Navy, e.g. the fleet, paid 3.5 million.",
        "It ended!",
        "Did it?",
        "(Yes.)",
        "J. B. left.",
    ]


def test_passages_share_whole_sentences() -> None:
    text = " ".join(f"This is sentence number {n} of them." for n in range(20))
    found = list(chunks_of(Document("d", text), Chunking(150, 60)))
    for one, two in pairwise(found):
        shared = text[two.start : one.end]
        assert shared.startswith("This is") and shared.endswith("them.") and len(shared) <= 60


def test_headings_stack() -> None:
    text = "A\na\nB\nb\nC\nc\nD\nd"
    headings = ((0, 1, "A"), (4, 2, "B"), (8, 3, "C"), (12, 2, "D"))
    found = chunks_of(Document("d", text, headings=headings), Chunking())
    assert [c.heading for c in found] == [("A",), ("A", "B"), ("A", "B", "C"), ("A", "D")]


@pytest.mark.parametrize(("size", "overlap"), [(50, 0), (200, 150), (200, -1)])
def test_sizes_that_make_no_sense(size: int, overlap: int) -> None:
    with pytest.raises(InputError):
        Chunking(size, overlap)


def test_a_heading_with_nothing_below_it_begins_the_passage_of_the_next() -> None:
    text = "# Leave\n## Holidays\n28 days.\n## Illness\n\n# Pay\n# End\n## Last\n"
    levels, at = [], 0
    for line in text.splitlines(keepends=True):
        if line.startswith("#"):
            levels.append((at, line.count("#"), line.strip("# \n")))
        at += len(line)
    found = list(chunks_of(Document("d", text, headings=tuple(levels)), Chunking()))
    assert [(text[c.start : c.end], c.heading) for c in found] == [
        ("# Leave\n## Holidays\n28 days.", ("Leave", "Holidays")),
        # only a smaller heading says more of the same: these stand alone
        ("## Illness", ("Leave", "Illness")),
        ("# Pay", ("Pay",)),
        ("# End\n## Last", ("End", "Last")),
    ]
