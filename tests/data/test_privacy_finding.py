"""Finding in any text: exact places, overlaps, types, texts searched together, hostile input."""

from __future__ import annotations

import itertools
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.data.privacy import find, find_many, hide, kinds, masked
from luthier.data.privacy.finding import BLOCK, apart
from luthier.data.privacy.spans import Span
from luthier.errors import InputError

#: (kind, value): unmistakable wherever they stand as words of their own.
PLANTED = [
    ("EMAIL", "anna.lind@firma.se"),
    ("IBAN", "DE89370400440532013000"),
    ("CREDIT_CARD", "4539 1488 0343 6467"),
    ("PHONE", "+46 70 174 06 58"),
    ("US_SSN", "536-90-4399"),
    ("MAC_ADDRESS", "3c:22:fb:9a:01:7e"),
    ("CRYPTO_WALLET", "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa"),
    ("IP_ADDRESS", "84.23.101.7"),
]
#: Words that are of no kind, of several scripts, and what stands between them.
WORDS = st.lists(
    st.one_of(
        st.sampled_from(
            ["wohin", "gehen", "naïve", "東京", "книга", "😀", "\n", "\t", "ß", "e\u0301"]
        ),
        st.text(alphabet="abcdefghijklmnoprstuv", min_size=1, max_size=8),
    ),
    max_size=12,
)


@settings(deadline=None, max_examples=200)
@given(WORDS, st.lists(st.sampled_from(PLANTED), min_size=1, max_size=4, unique=True), WORDS)
def test_planted_values_are_found_at_their_place(
    before: list[str], planted: list[tuple[str, str]], after: list[str]
) -> None:
    text = " ".join(before)
    places = []
    for kind, value in planted:
        text += " ; "
        places.append((len(text), len(text) + len(value), kind))
        text += value
    text += " ; " + " ".join(after)
    spans = find(text, least=0.7)
    assert all(text[s.start : s.end] == s.text for s in spans)
    assert [(s.start, s.end, s.type) for s in spans if s.type in dict(PLANTED)] == places


@settings(deadline=None, max_examples=300)
@given(st.text(alphabet=st.characters(), max_size=300))
def test_any_text_is_searched(text: str) -> None:
    spans = find(text, least=0)
    assert all(0 <= s.start < s.end <= len(text) for s in spans)
    assert all(text[s.start : s.end] == s.text and s.type in kinds() for s in spans)
    assert all(one.end <= other.start for one, other in itertools.pairwise(spans))
    hide(text)


#: Texts of signs and beginnings that patterns stumble over.
PIECES = st.lists(
    st.sampled_from(
        ["password", "=", "://", "@", "a.", "1-", "(", "+4", "-----BEGIN PRIVATE KEY-----", "eyJ",
         "ß", "İ", "\0", "\ud800", "Mr.", "Anna", " ", "\n", "0x", "::", "bc1", "12 ", "Street",
         "born ", "passport ", "SSN ", "www.", "[", "AKIA", "IBAN DE", ", ", "d", "7"]
    ),
    max_size=40,
).map("".join)  # fmt: skip


@settings(deadline=None, max_examples=300)
@given(PIECES)
def test_pieces_of_values_are_searched(text: str) -> None:
    spans = find(text, least=0)
    assert all(text[s.start : s.end] == s.text for s in spans)
    for span in spans:
        shown = masked(span)
        assert len(shown) <= len(span.text) + 7
        assert span.text not in shown or len(span.text) < 3


#: Texts whose first and last lines say what stands in them.
BLOCKS = [
    "Zorvin Qualm\nNordvik Inc\n27 President St\nMobile: 041-412-293",
    "Jakobine, can you help?",
    "lives in Quarnt",
    "call me at",
    "0701740658",
    "born on",
    "12 March 1987",
    "Mr.",
    "Quarnt",
    "12 Main Street,",
    "Boston",
    "password:",
    "Summer2024!",
    "passport",
    "C01X00T47",
]


@settings(deadline=None, max_examples=150)
@given(
    st.lists(
        st.one_of(PIECES, st.sampled_from([*BLOCKS, *(value for _, value in PLANTED)])), max_size=8
    )
)
def test_texts_searched_together_are_as_alone(texts: list[str]) -> None:
    texts = [text.replace("\0", "") for text in texts]
    together = list(find_many(texts))
    assert together == [find(text) for text in texts]


def test_many_texts_are_answered_in_order_and_in_blocks() -> None:
    def endless() -> object:
        for n in range(10**9):
            yield f"row {n}: anna{n}@firma.se" + " x" * 500

    answers = find_many(endless())  # type: ignore[arg-type]
    for n in range(2 * BLOCK // 1000):
        (span,) = [s for s in next(answers) if s.type == "EMAIL"]
        assert span.text == f"anna{n}@firma.se"


def test_the_more_confident_span_stays_then_the_longer_one() -> None:
    def span(start: int, end: int, confidence: float) -> Span:
        return Span(start, end, "EMAIL", "x" * (end - start), confidence, "")

    sure, long, short, beside = (
        span(5, 8, 0.9), span(0, 20, 0.6), span(10, 14, 0.6), span(8, 10, 0.5)
    )  # fmt: skip
    assert apart([long, short, beside, sure]) == [sure, beside, short]
    assert apart([short, long]) == [long]


def test_a_url_with_a_password_is_one_secret() -> None:
    (span,) = find("at postgres://app:kV9x2Lq8@db.firma.se/x now")
    assert (span.type, span.text) == ("CONNECTION_STRING", "postgres://app:kV9x2Lq8@db.firma.se/x")


def test_types_and_levels() -> None:
    text = "Anna Lind, anna.lind@firma.se, Berlin"
    assert {s.type for s in find(text)} == {"PERSON", "EMAIL", "LOCATION"}
    assert {s.type for s in find(text, types=["identifier"])} == {"EMAIL"}
    assert {s.type for s in find(text, types=["person", "detail"])} == {"PERSON", "LOCATION"}
    assert find(text, types=["secret"]) == []
    with pytest.raises(InputError, match="'emial'") as error:
        find(text, types=["emial"])
    assert error.value.fix == "Did you mean 'EMAIL'?"


def test_hidden_is_what_is_secret() -> None:
    text = "mail anna.lind@firma.se; password: Summer2024!"
    assert hide(text) == "mail anna.lind@firma.se; password: S..."


HOSTILE = [
    "1 ", "1-", "a.", "a@", "a:b@", "://", "Aa ", "A. ", "(1", "+1 ", "0", "a1", "http://a:", "\n",
    "1.1.1.1.", "::", "a:", "password=", "password is ", "-----BEGIN PRIVATE KEY-----", "Mr. ",
    "DE89 ", "DE89", "1 Main ", "1 Main St, ", "born 1", "passport ", "www.a.", "eyJaaaaaaaaaa.",
    "Anna, ", "d\u0307", "İ", "12 rue de la ", "0x", "ssn ", "Anna and ", "id 1", "bearer ", "12/",
    "xox", "Lindenstraße 1", "Smith, ", "University of ", "A-", "\u00e9'", "located in A ", "sk-a",
    "A", "a", "9 9-", "my name is a ", "card ", "in 1990 ", "Apt 1", " ", "1,", "call 1",
]  # fmt: skip


@pytest.mark.parametrize("piece", HOSTILE)
def test_the_time_grows_with_the_text_and_no_faster(piece: str) -> None:
    def seconds(size: int) -> float:
        text = piece * (size // len(piece))
        began = time.process_time()
        find(text, least=0)
        return time.process_time() - began

    find("warm Anna 1")
    for _ in range(5):  # a busy machine slows one try, a quadratic pattern all of them
        small, large = seconds(4_000), seconds(32_000)
        # eight times the text; a quadratic pattern would take 64 times as long
        if large < max(0.25, 24 * small):
            return
    pytest.fail(f"{small:.3f} s, then {large:.3f} s")
