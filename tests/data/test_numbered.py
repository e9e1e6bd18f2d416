"""Numbers and names of rows that no dictionary would hold."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.data import column, shares
from luthier.data.column import Column
from luthier.data.names import At, HashNames, Names
from luthier.data.numbered import Numbered, Numbering, Occurrences, coded
from luthier.data.shares import in_rank, rank, ranked


@given(st.lists(st.lists(st.integers(0, 40), max_size=30), max_size=20))
@settings(max_examples=100, deadline=None)
def test_keys_are_numbered_as_they_come(lots: list[list[int]]) -> None:
    numbered = Numbered()
    known: dict[int, int] = {}
    for lot in lots:
        expected = [known.setdefault(key, len(known)) for key in lot]
        assert numbered.of(np.array(lot, np.uint64)).tolist() == expected
    assert len(numbered) == len(known)
    assert numbered.keys().tolist() == list(known)


def test_many_keys() -> None:
    chance = np.random.default_rng(0)
    numbered = Numbered()
    keys = chance.integers(0, 1 << 63, 30_000, np.uint64)
    for first in range(0, len(keys), 700):
        numbered.of(keys[first : first + 700])
    assert numbered.of(keys).tolist() == list(range(len(keys)))
    assert (numbered.keys() == keys).all()


def test_texts_without_and_with_a_number() -> None:
    numbering = Numbering()
    chance = random.Random(0)
    texts = [chance.choice([None, "a", "b", *map(str, range(50))]) for _ in range(10_000)]
    for text in texts:
        numbering.add(text)
    expected = [-1 if t is None else texts.index(t) for t in texts]
    assert list(numbering.codes()) == expected
    assert list(Numbering().codes()) == []


@given(st.lists(st.lists(st.sampled_from("abcdefgh"), max_size=10), max_size=20))
def test_how_often_a_text_came(lots: list[list[str]]) -> None:
    seen, occurrences = Counter[str](), Occurrences()
    for lot in lots:
        expected = []
        for text in lot:
            seen[text] += 1
            expected.append(seen[text])
        assert occurrences.count(lot) == expected


def test_more_texts_than_were_foreseen() -> None:
    occurrences = Occurrences()
    for first in range(0, 5000, 100):
        assert occurrences.count([str(n) for n in range(first, first + 100)]) == [1] * 100
    assert occurrences.count(["0", "4999", "x"]) == [2, 2, 1]


@given(st.lists(st.text(max_size=5)))
def test_classes_are_in_the_order_of_their_names(texts: list[str]) -> None:
    column = coded(texts)
    assert list(column.names) == sorted(set(texts))
    assert [column.names[code] for code in column.codes.tolist()] == texts
    assert column.counts() == Counter(texts)


@given(st.lists(st.text(st.characters(), max_size=8), max_size=50))
@settings(deadline=None)
def test_names_are_kept_whatever_they_hold(texts: list[str]) -> None:
    names = Names()
    for text in texts:
        names.add(text)
    assert list(names) == texts
    assert [names[place] for place in range(len(texts))] == texts
    assert names[1:3] == texts[1:3]


def test_names_that_no_longer_fit_into_memory() -> None:
    texts = [f"{number:x}" * (number % 90) for number in range(40_000)]
    names = Names()
    for text in texts:
        names.add(text)
    assert list(names) == texts
    assert names[39_999] == texts[-1]
    assert list(At(names, np.array([7, 3]))) == [texts[7], texts[3]]


@given(st.lists(st.integers(0, 5), max_size=40))
def test_equal_hashes_are_told_apart_in_their_order(keys: list[int]) -> None:
    seen: Counter[int] = Counter()
    expected = []
    for key in keys:
        seen[key] += 1
        expected.append(f"{key:016x}" if seen[key] == 1 else f"{key:016x}-{seen[key]}")
    names = HashNames(Column(np.uint64, np.array(keys, np.uint64)))
    assert list(names) == expected
    assert [names[place] for place in range(len(keys))] == expected
    assert names.at(np.arange(len(keys))) == expected


@given(st.lists(st.text(max_size=3), max_size=60))
def test_an_order_is_that_of_the_whole_digests(texts: list[str]) -> None:
    expected = sorted(range(len(texts)), key=lambda place: rank("salt", texts[place]))
    assert ranked(texts, "salt").tolist() == expected
    names = Names()
    for text in texts:
        names.add(text)
    places = np.arange(len(texts))[::2]
    expected = sorted(places.tolist(), key=lambda place: rank("salt", texts[place]))
    found = in_rank(names, [(places, places)], "salt")
    assert [row for lot in found for row in lot.tolist()] == expected


def test_an_order_of_names_whose_first_bytes_are_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"name {number}" for number in range(60)]
    names = Names()
    for text in texts:
        names.add(text)
    alike = {
        text: bytes(7) + bytes([number % 3]) + text[::-1].encode()
        for number, text in enumerate(texts)
    }
    monkeypatch.setattr(shares, "rank", lambda salt, name: alike[name])
    monkeypatch.setattr(column, "RUN", 7)
    places = np.arange(60)
    found = [row for lot in in_rank(names, [(places, places)], "") for row in lot.tolist()]
    assert found == sorted(range(60), key=lambda place: alike[texts[place]])
