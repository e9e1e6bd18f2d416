"""Near-duplicates: the definition, what is found of it, and the distance behind it."""

from __future__ import annotations

import json
import random
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.data import near_keys, words
from luthier.data.near_duplicates import NEAR, Nearness, clusters, find_twins, pieces
from luthier.data.word_distance import within
from luthier.data.words import Words, folded_words, hash_words

DATA = Path(__file__).parents[3] / "shared" / "data"


def distance(a: list[str], b: list[str]) -> int:
    """Levenshtein's distance, as it stands in every textbook."""
    line = list(range(len(b) + 1))
    for i, word in enumerate(a, 1):
        last, line[0] = line[0], i
        for j, other in enumerate(b, 1):
            last, line[j] = line[j], min(line[j] + 1, line[j - 1] + 1, last + (word != other))
    return line[-1]


def same(texts: list[str], one: int, other: int) -> bool:
    found = clusters(texts)
    return bool(found[one] == found[other])


LONG = "the quick brown fox jumps over the lazy dog near an old stone bridge today"


def test_one_word_in_ten() -> None:
    texts = [LONG, LONG.replace("stone", "wooden"), LONG.replace("stone ", ""), "another text"]
    found = clusters(texts)
    assert found[0] == found[1] == found[2] != found[3]
    three = LONG.replace("stone", "wooden").replace("quick", "slow").replace("lazy", "angry")
    assert not same([LONG, three], 0, 1)


def test_case_space_and_marks_are_no_words() -> None:
    twins = find_twins([LONG, f"  {LONG.upper()}!", LONG.replace("fox", "Fox,")])
    assert len(set(twins.equal.tolist())) == 1


def test_numbers_alone_are_another_question() -> None:
    one = "please send order 4711 to the new address in the north of the town"
    assert not same([one, one.replace("4711", "4712")], 0, 1)
    assert same([one, one.replace("new", "old")], 0, 1)
    assert same([one, one.replace("4711", "once")], 0, 1)
    shifted = one.replace("order 4711", "order no 4712")
    assert not same([one, shifted.replace("no ", "17 ")], 0, 1)


def test_a_pattern_that_is_filled_in_is_no_repeat() -> None:
    cities = ["rome", "paris", "oslo", "cairo", "lima"]
    asked = [f"what is the weather in {city}" for city in cities]
    assert len(set(clusters(asked).tolist())) == len(asked)
    assert same(asked[:2], 0, 1)
    numbered = [f"row {n} says {word}" for n, word in enumerate(["ab", "cd", "ef", "gh"] * 5)]
    assert len(set(clusters(numbered).tolist())) == len(numbered)


def test_short_texts_are_compared_whole() -> None:
    assert not same(["very good film", "very bad film"], 0, 1)
    assert same(["very good film", "Very good film!"], 0, 1)


def test_what_all_texts_begin_with_does_not_count() -> None:
    head = "Read this review of a film and say whether the writer liked it or not, in one word: "
    bodies = ["a fine film", "a dull film", "no", "why", "what a joy", "slow", "loud", "sad"]
    texts = [head + body for body in (*bodies, "long but good", "short and bad")]
    assert len(set(clusters(texts).tolist())) == len(texts)


def test_scripts_without_spaces() -> None:
    assert folded_words("我喜欢 music。") == "我 喜 欢 music"
    one = "我昨天在北京的一家小书店里买了三本书"
    assert same([one, one.replace("小", "大"), "今天下雨"], 0, 1)
    assert not same([one, "他明天去上海看望自己的老朋友们吧"], 0, 1)


def test_words_of_one_hyphen_are_one() -> None:
    assert folded_words("A well-known U.S. firm and/or 3-4 others") == (
        "a wellknown us firm andor 3-4 others"
    )


def test_hashes_tell_words_apart() -> None:
    hashes, lengths = hash_words(["a b2 a", "", "ä"])
    assert lengths.tolist() == [3, 0, 1]
    assert hashes[0] == hashes[2]
    assert [int(h) & 1 for h in hashes] == [0, 1, 0, 0]
    assert len(set(hashes.tolist())) == 3


def test_sides_know_their_nearest() -> None:
    train = ["something else altogether", LONG, LONG.replace("fox", "cat")]
    test = [LONG.replace("dog", "cow"), LONG, "nothing like any of them", LONG]
    across = find_twins([*train, *test], sides=(3, 4)).across
    assert across == {(1, 0): {3: (1, False), 4: (1, True), 6: (1, True)}}


def test_nothing_and_one() -> None:
    assert clusters([]).tolist() == []
    assert len(clusters([""])) == 1
    assert len(set(clusters(["", "", "a"]).tolist())) == 2


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from("abcdef"), max_size=14), min_size=2, max_size=8),
    st.integers(0, 4),
)
def test_distances_are_those_of_the_textbook(texts: list[list[str]], allowed: int) -> None:
    words = Words(" ".join(text) for text in texts)
    distinct = [folded_words(" ".join(texts[int(row)])).split() for row in words.row_of]
    pairs = list(combinations(range(len(distinct)), 2))
    if not pairs:
        return
    left, right = (np.array(side, np.int64) for side in zip(*pairs, strict=True))
    found = within(words, left, right, np.full(len(left), allowed, np.int64))
    expected = [distance(distinct[a], distinct[b]) <= allowed for a, b in pairs]
    assert found.tolist() == expected


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(10, 60), st.integers(2, 12))
def test_changed_words_are_always_found(seed: int, length: int, copies: int) -> None:
    chance = random.Random(seed)
    vocabulary = [f"w{chr(97 + n % 26)}{chr(97 + n // 26)}" for n in range(400)]
    texts = [chance.choices(vocabulary, k=length) for _ in range(copies)]
    planted = []
    for text in texts:
        new = list(text)
        for place in chance.sample(range(length), NEAR.guaranteed(length)):
            new[place] = chance.choice(vocabulary)
        planted.append(new)
    found = clusters([" ".join(t) for t in (*texts, *planted)])
    for place in range(copies):
        assert found[place] == found[copies + place]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.sampled_from("abcdefghij"), min_size=10, max_size=14), max_size=12))
def test_links_are_real_and_the_order_does_not_matter(rows: list[list[str]]) -> None:
    texts = [" ".join(row) for row in rows]
    found = find_twins(texts)
    back = find_twins(texts[::-1]).cluster[::-1]
    # rebuild the groups from the definition (long texts: no pattern rule, no numbers)
    parent = list(range(len(texts)))
    words = Words(texts)
    words.without_common_ends()

    def root(one: int) -> int:
        while parent[one] != one:
            one = parent[one]
        return one

    trimmed = [rows[int(words.row_of[int(text)])] for text in words.text_of]
    for a, b in combinations(range(len(texts)), 2):
        longest = max(int(words.lengths[words.text_of[a]]), int(words.lengths[words.text_of[b]]))
        near = longest >= NEAR.least_words and distance(trimmed[a], trimmed[b]) <= NEAR.allowed(
            longest
        )
        if near or texts[a] == texts[b]:
            parent[root(a)] = root(b)
        assert (found.cluster[a] == found.cluster[b]) == (back[a] == back[b])
    for a, b in combinations(range(len(texts)), 2):
        if found.cluster[a] == found.cluster[b]:
            assert root(a) == root(b)


@given(st.integers(5, 400))
def test_pieces_are_apart_and_as_many_as_words_may_differ(words: int) -> None:
    cut = pieces(words, NEAR)
    assert all(start >= 0 and start + length <= words for start, length in cut)
    count = NEAR.guaranteed(words)
    own = [(s, n) for s, n in cut if n == (words if count == 1 else words // count)]
    assert len(own) >= min(count, 6)
    if count > 1:
        ends = sorted((s, s + n) for s, n in own)
        size = words // count
        mine = [pair for pair in ends if pair[1] - pair[0] == size]
        assert sum(1 for one, two in pairwise(mine) if one[1] <= two[0]) >= (min(count, 6) - 1)


def test_other_shares() -> None:
    assert [NEAR.allowed(n) for n in (5, 10, 11, 20, 27, 100)] == [1, 1, 2, 3, 4, 15]
    loose = Nearness(share=0.3, least_words=3)
    assert same(["one two three four five six seven", LONG], 0, 1) is False
    found = clusters(["aa bb cc dd ee ff", "aa bb cc dd xx yy", "zz"], loose)
    assert found[0] == found[1] != found[2]


@pytest.mark.skipif(not DATA.is_dir(), reason="the public data sets are not here")
def test_planted_in_real_texts() -> None:
    chance = random.Random(3)
    lines = (DATA / "sst2" / "train.jsonl").read_text("utf-8").splitlines()
    texts = list(dict.fromkeys(json.loads(line)["sentence"] for line in lines))
    texts += (DATA / "multi30k" / "train.en").read_text("utf-8").splitlines()
    vocabulary = [w for text in texts for w in text.split() if w.isalpha()]
    chance.shuffle(texts)
    train, test = texts[: len(texts) // 2], texts[len(texts) // 2 :]
    planted = []
    for text in chance.sample([t for t in train if len(t.split()) >= 8], 300):
        words = text.split()
        for start in range(0, len(words), 10):
            words[min(start + chance.randrange(10), len(words) - 1)] = chance.choice(vocabulary)
        planted.append(" ".join(words))
    found = find_twins([*train, *test, *planted], sides=(len(train), len(test) + len(planted)))
    hits = found.across[1, 0]
    edge = len(train) + len(test)
    right = sum(row >= edge for row in hits)
    assert right / len(planted) >= 0.95
    assert right / len(hits) >= 0.95


def test_the_same_is_found_in_lots_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(5)
    texts = [" ".join(chance.choices("abcdefghijklmnop", k=12)) for _ in range(150)]
    texts += [text.replace(text.split()[5], "z", 1) for text in texts[:60]]
    whole = clusters(texts)
    assert len(set(whole.tolist())) < len(texts) - 50
    monkeypatch.setattr(near_keys, "AT_ONCE", 40)
    monkeypatch.setattr(near_keys, "MOST_FILES", 7)
    monkeypatch.setattr(words, "BATCH", 16)
    parts = clusters(texts)
    # the numbers mean sameness alone
    assert len(set(zip(whole.tolist(), parts.tolist(), strict=True))) == len(set(parts.tolist()))
    assert len(set(parts.tolist())) == len(set(whole.tolist()))
