"""Parts of a test: which rows they hold, what is said of them, and that chance is not accused."""

from __future__ import annotations

import time
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, fisher_exact

from luthier.evaluation.scoring import METRICS
from luthier.evaluation.slices import ALPHA, FEWEST, Slice, by_slice, slice_rows
from luthier.evaluation.statistics import wilson_interval
from luthier.evaluation.topics import topics

ACCURACY, CHRF = METRICS.get("accuracy"), METRICS.get("rougeL")


def table(scores) -> np.ndarray:
    scores = np.asarray(scores, dtype=float)
    return np.stack([scores, np.ones_like(scores)], axis=1)


def groups(sizes: list[int], by: str = "channel") -> list[Slice]:
    codes = np.repeat(np.arange(len(sizes)), sizes)
    return [Slice(by, str(code), codes == code) for code in range(len(sizes))]


ROWS = st.lists(
    st.tuples(
        st.text(st.characters(codec="utf-8"), max_size=30),
        st.sampled_from(["a", "b", "c"]),
        st.one_of(st.none(), st.booleans(), st.integers(0, 3), st.floats(), st.text(max_size=3)),
    ),
    max_size=40,
)


@given(ROWS)
def test_slices_by_one_thing_share_no_row_and_none_is_empty_or_everything(rows) -> None:
    labels = [label for _, label, _ in rows]
    found = slice_rows(
        [text for text, _, _ in rows],
        labels=labels,
        trained=Counter({"a": 3, "b": 60}),
        fields=[{"column": value} for _, _, value in rows],
    )
    for one in found:
        assert one.rows.shape == (len(rows),) and 0 < one.n < len(rows)
    for by in {one.by for one in found}:
        assert (np.sum([one.rows for one in found if one.by == by], axis=0) <= 1).all()
    keys = [one.rows.tobytes() for one in found]
    assert len(set(keys)) == len(keys)
    for one in found:
        if one.by == "label":
            assert {label for label, inside in zip(labels, one.rows, strict=True) if inside} == {
                one.value
            }


def test_what_is_a_category_and_what_is_not() -> None:
    n = 40
    fields = [
        {
            "id": f"r{i}", "channel": ("app", "mail")[i % 2], "hard": i % 4 == 0,
            "price": i / 7, "day": f"2025-01-{i % 28 + 1:02d}", "empty": None if i % 5 else "x",
        }
        for i in range(n)
    ]  # fmt: skip
    found = slice_rows(
        ["a b", "a b c d", "a " * 9, "a " * 20] * (n // 4),
        labels=["common"] * 30 + ["rare"] * 6 + ["unseen"] * 4,
        trained={"common": 120, "rare": 7},
        fields=fields,
    )
    named = {(one.by, one.value): one.n for one in found}
    assert {by for by, _ in named} == {"label", "channel", "hard", "empty", "input length"}
    assert named["channel", "app"] == 20 and named["hard", "yes"] == 10
    assert named["empty", "(empty)"] == 32
    # rarity says the same as the label here, so it is not said twice
    assert named["input length", "9 words"] == 10
    two = slice_rows(
        ["x"] * 12, labels=list("abcd") * 3, trained={"a": 5, "b": 9, "c": 10, "d": 5000}
    )
    bands = {one.value: one.n for one in two if one.by == "rarity"}
    assert bands == {"1 to 9 training rows": 6}  # the others are those of one label
    unseen = slice_rows(["x"] * 12, labels=list("abcd") * 3, trained={"a": 5})
    assert [one.n for one in unseen if one.by == "rarity"] == [9]


def test_p_is_fishers_exact_and_holm_counts_all_parts() -> None:
    right = np.array([1] * 60 + [0] * 4 + [1] * 3 + [0] * 13)
    parts = groups([64, 16])
    worst = by_slice(parts, {"arm": table(right)}, ACCURACY)[1].arms["arm"]
    expected = fisher_exact([[3, 13], [60, 4]], alternative="less").pvalue
    assert worst.p_adjusted == pytest.approx(2 * expected)
    assert worst.worse and worst.score == pytest.approx(3 / 16)
    assert worst.interval == pytest.approx(wilson_interval(3, 16))


def test_other_scores_are_permuted_to_the_same_answer() -> None:
    rng = np.random.default_rng(0)
    right = rng.random(200) < 0.7
    right[:30] = rng.random(30) < 0.45
    parts = groups([30, 90, 80])
    exact = by_slice(parts, {"a": table(right)}, ACCURACY)
    permuted = by_slice(parts, {"a": table(right)}, CHRF)
    for one, other in zip(exact, permuted, strict=True):
        assert other.arms["a"].p_adjusted == pytest.approx(one.arms["a"].p_adjusted, abs=0.02)
        assert other.arms["a"].score == one.arms["a"].score
        assert other.arms["a"].interval == pytest.approx(one.arms["a"].interval, abs=0.05)


def test_few_rows_are_never_called_worse() -> None:
    right = [1] * 100 + [0] * (FEWEST - 1)
    few = by_slice(groups([100, FEWEST - 1]), {"a": table(right)}, ACCURACY)[1].arms["a"]
    assert few.score == 0 and few.p_adjusted is None and not few.worse
    right += [0]
    enough = by_slice(groups([100, FEWEST]), {"a": table(right)}, ACCURACY)[1].arms["a"]
    assert enough.worse


def test_rows_of_few_threads_are_few_however_many_they_are() -> None:
    right = [1] * 200 + [0] * 40
    threads = [f"t{i}" for i in range(200)] + [f"u{i // 20}" for i in range(40)]
    parts = by_slice(groups([200, 40]), {"a": table(right)}, ACCURACY, clusters=threads)
    assert parts[1].arms["a"].p_adjusted is None
    apart = by_slice(
        groups([200, 40]), {"a": table(right)}, ACCURACY, clusters=threads[:200] + list(range(40))
    )
    assert apart[1].arms["a"].worse  # clusters of one row each
    pairs = [f"t{i // 2}" for i in range(240)]
    assert (
        by_slice(groups([200, 40]), {"a": table(right)}, ACCURACY, clusters=pairs)[1]
        .arms["a"]
        .worse
    )


def test_a_model_without_bad_parts_gets_none_named() -> None:
    """Family-wise: over all parts of an arm, in at least 95 of 100 tests."""
    rng = np.random.default_rng(1)
    n, runs = 200, 1_500
    labels = [str(value) for value in rng.choice(6, n, p=[0.3, 0.25, 0.2, 0.15, 0.06, 0.04])]
    parts = slice_rows(
        ["word " * int(size) for size in rng.integers(3, 60, n)],
        labels=labels,
        trained={"0": 300, "1": 80, "2": 80, "3": 20, "4": 6},
        fields=[{"channel": int(c), "hard": bool(h)} for c, h in rng.integers(0, 2, (n, 2))],
        topics=[f"t{t}" for t in rng.integers(0, 8, n)],
    )
    assert len(parts) >= 20
    arms = {f"{i}": table(rng.random(n) < rng.uniform(0.3, 0.97)) for i in range(runs)}
    found = by_slice(parts, arms, ACCURACY)
    accused = sum(any(part.arms[name].worse for part in found) for name in arms)
    assert binomtest(accused, runs, ALPHA, alternative="greater").pvalue > 0.001
    assert accused / runs <= 0.05 + 0.015
    # and it is no lame rule: one in four of the test with 25 points less is found
    rate = np.where(parts[0].rows, 0.55, 0.85)
    weak = {f"{i}": table(rng.random(n) < rate) for i in range(200)}
    seen = by_slice(parts, weak, ACCURACY)[0]
    assert sum(part.worse for part in seen.arms.values()) > 120


def test_scores_that_belong_together_accuse_nobody_either() -> None:
    rng = np.random.default_rng(2)
    parts, accused, runs = groups([60, 60, 60, 60]), 0, 120
    threads = [f"t{i // 3}" for i in range(240)]
    for _ in range(runs):
        level = np.repeat(rng.normal(0.6, 0.2, 80), 3)
        scores = np.clip(level + rng.normal(0, 0.05, 240), 0, 1)
        found = by_slice(parts, {"a": table(scores)}, CHRF, clusters=threads)
        accused += any(part.arms["a"].worse for part in found)
    assert binomtest(accused, runs, ALPHA, alternative="greater").pvalue > 0.001


@settings(max_examples=30)
@given(st.lists(st.booleans(), min_size=30, max_size=60), st.integers(0, 2**20))
def test_more_right_answers_in_a_part_never_make_it_look_worse(right, seed) -> None:
    rng = np.random.default_rng(seed)
    parts = groups([15, len(right) - 15])
    before = by_slice(parts, {"a": table(right)}, ACCURACY)[0].arms["a"]
    better = list(right)
    better[int(rng.integers(0, 15))] = True
    after = by_slice(parts, {"a": table(better)}, ACCURACY)[0].arms["a"]
    assert after.score >= before.score
    assert after.interval[0] >= before.interval[0]


def test_topics_are_found_and_named_by_their_words() -> None:
    rng = np.random.default_rng(3)
    words = {
        "money": ["invoice", "refund", "charged", "payment", "card", "bank"],
        "plants": ["leaf", "soil", "water", "sun", "sensor", "moisture"],
        "post": ["parcel", "courier", "delivery", "address", "tracking", "late"],
    }
    kinds = [list(words)[i % 3] for i in range(150)]
    texts = [f"hello i have a question on the {' '.join(rng.choice(words[k], 4))}" for k in kinds]
    found = topics(texts)
    assert len(found) == 150 and topics(texts) == found
    for name in set(found):
        inside = Counter(kind for kind, topic in zip(kinds, found, strict=True) if topic == name)
        kind, most = inside.most_common(1)[0]
        assert most / inside.total() > 0.9
        assert set(name.split(" (")[0].split(", ")) <= set(words[kind])
    vectors = np.eye(3)[[list(words).index(kind) for kind in kinds]] + rng.normal(0, 0.01, (150, 3))
    assert len({(k, t) for k, t in zip(kinds, topics(texts, vectors), strict=True)}) == len(
        set(topics(texts, vectors))
    )


@pytest.mark.parametrize("texts", [[], ["a b"] * 49, [""] * 60, ["1 2 3"] * 60])
def test_there_are_no_topics_of_nothing(texts) -> None:
    assert topics(texts) == []


def test_a_large_test_is_sliced_in_seconds() -> None:
    rng = np.random.default_rng(4)
    parts = groups([250] * 20) + groups([1000] * 5, "other")
    arms = {f"{i}": table(rng.random(5000)) for i in range(8)}
    started = time.perf_counter()
    by_slice(parts, arms, CHRF)
    assert time.perf_counter() - started < 20
