"""Test texts that training has read inside longer ones."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lint_samples import Pair, looked_at, run

from luthier.data.folding import fold
from luthier.data.linting import LintContext
from luthier.data.lints.ngram_leakage import COVERED, WINDOW, _covered

WORDS = [f"{a}{b}{c}" for a in "bdfgklmn" for b in "aeiou" for c in "lnrst"]


def sentences(count: int, words: int, seed: int) -> list[str]:
    chance = random.Random(seed)
    return [" ".join(chance.choices(WORDS, k=words)) for _ in range(count)]


def rows(texts: list[str]) -> list[Pair]:
    return [(text, f"answer {n}") for n, text in enumerate(texts)]


def context(train: list[str], test: list[str]) -> LintContext:
    return looked_at(rows(train), test=rows(test))


def test_a_text_inside_a_longer_one() -> None:
    train, test = sentences(200, 60, 1), sentences(100, 20, 2)
    train[7] = f"{train[7]} {test[4].upper()}, {train[8]}"
    (finding,) = run("ngram_leakage", context(train, test))
    assert (finding.severity, finding.count, finding.rows) == ("note", 1, ("test.csv row 5",))
    assert "test.csv row 5" in finding.message and "train.csv row 8" in finding.message
    assert "`data.group`" in finding.fix


def test_an_answer_of_training_may_hold_it_too() -> None:
    train, test = sentences(200, 60, 1), sentences(100, 20, 2)
    made = looked_at([*rows(train), ("tell me", f"It reads: {test[0]}")], test=rows(test))
    (finding,) = run("ngram_leakage", made)
    assert finding.rows == ("test.csv row 1",) and "train.csv row 201" in finding.message


def test_one_passage_asked_about_on_both_sides_is_a_warning() -> None:
    passages, asked = sentences(50, 140, 3), sentences(210, 32, 4)
    train = [f"{passages[n % 50]} {asked[n]}?" for n in range(150)]
    test = [f"{passages[n % 50]} {asked[150 + n]}?" for n in range(60)]
    (finding,) = run("ngram_leakage", context(train, test))
    assert (finding.severity, finding.count) == ("warning", 60)


def test_what_other_lints_name_is_left_out() -> None:
    train, test = sentences(200, 60, 1), sentences(100, 30, 2)
    train[3], train[4] = test[0], test[1].replace(test[1].split()[5], "changed", 1)
    assert run("ngram_leakage", context(train, test)) == []
    assert {finding.lint for finding in run("leakage", context(train, test))} == {
        "leakage", "near_leakage",
    }  # fmt: skip


def test_new_texts_short_ones_and_no_test_are_quiet() -> None:
    train = sentences(200, 60, 1)
    assert run("ngram_leakage", context(train, sentences(100, 40, 2))) == []
    short = [" ".join(text.split()[:10]) for text in train[:50]]
    assert run("ngram_leakage", context(train, short)) == []
    assert run("ngram_leakage", context(train, [])) == []
    assert run("ngram_leakage", context([], short)) == []


def test_what_a_template_writes_is_no_leak() -> None:
    heads = [" ".join(text.split()) for text in sentences(4, 30, 9)]
    train = [f"{heads[n % 4]} {text}" for n, text in enumerate(sentences(300, 12, 1))]
    test = [f"{heads[n % 4]} {text}" for n, text in enumerate(sentences(100, 12, 2))]
    assert run("ngram_leakage", context(train, test)) == []


@pytest.mark.parametrize("shared", [WINDOW - 1, WINDOW, 31, 32, 40])
def test_four_fifths_of_the_words_in_windows(shared: int) -> None:
    (text,) = sentences(1, 40, 5)
    own = " ".join(text.split()[:shared])
    train = looked_at(rows([*sentences(30, 40, 6), f"x {own} y"])).splits.train
    shares, first = _covered([text], train)
    assert shares[0] == pytest.approx(shared / 40 if shared >= WINDOW else 0)
    assert first[0] == (30 if shared >= WINDOW else -1)
    assert (shares[0] >= COVERED) == (shared >= 32)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from("abc"), max_size=40), max_size=6),
    st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=40), min_size=1, max_size=3),
)
def test_shares_are_those_of_the_definition(test: list[list[str]], train: list[list[str]]) -> None:
    texts = [" ".join(words) for words in test]
    examples = looked_at([(" ".join(words), "0") for words in train]).splits.train
    read = [fold(f"{' '.join(words)}\n0").split() for words in train]
    held = {tuple(words[n : n + WINDOW]) for words in read for n in range(len(words) - WINDOW + 1)}
    shares, first = _covered(texts, examples)
    for words, share, row in zip(test, shares, first, strict=True):
        inside = {
            place
            for n in range(len(words) - WINDOW + 1)
            if tuple(words[n : n + WINDOW]) in held
            for place in range(n, n + WINDOW)
        }
        assert share == pytest.approx(len(inside) / max(1, len(words)))
        assert (row >= 0) == bool(inside)
