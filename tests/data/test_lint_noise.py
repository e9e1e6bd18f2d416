"""Labels that the other rows contradict."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from lint_samples import Pair, looked_at, run

from luthier.data.lints.label_noise import suspicion

DATA = Path(__file__).parents[3] / "shared" / "data"
WORDS = {"warm": ("sun", "beach", "sand", "heat", "palm"), "cold": ("snow", "ice", "frost", "sled",
         "scarf")}  # fmt: skip


def weather(count: int, wrong: set[int], seed: int = 0) -> list[Pair]:
    """Sentences whose words give their label away; those of `wrong` have the other label."""
    chance = np.random.default_rng(seed)
    rows: list[Pair] = []
    for n in range(count):
        label = ("warm", "cold")[n % 2]
        said = " and ".join(chance.choice(WORDS[label], 3))
        given = {"warm": "cold", "cold": "warm"}[label] if n in wrong else label
        rows.append((f"day {n}: {said}", given))
    return rows


def test_planted_mistakes_are_named_first_with_the_label_they_should_have() -> None:
    wrong = {10, 33, 57, 120, 201}
    context = looked_at(weather(300, wrong), kind="classification", labels=("cold", "warm"))
    found = suspicion(context)
    assert found is not None
    assert set(found.doubted) <= wrong and len(found.doubted) >= 4
    assert set(np.argsort(found.quality)[:5].tolist()) == wrong
    for index, better in zip(found.doubted, found.better, strict=True):
        assert better != found.examples[index].output
    assert found.accuracy > 0.95
    (finding,) = run("label_noise", context)
    assert (finding.severity, finding.count) == ("note", len(found.doubted))
    assert set(finding.rows) <= {f"train.csv row {n + 1}" for n in wrong}


def test_many_mistakes_that_a_good_classifier_sees_are_a_warning() -> None:
    wrong = set(range(5, 300, 12))  # 25 of 300
    context = looked_at(weather(300, wrong), kind="classification", labels=("cold", "warm"))
    (finding,) = run("label_noise", context)
    assert finding.severity == "warning" and finding.count >= 20


def test_right_labels_are_left_alone() -> None:
    context = looked_at(weather(300, set()), kind="classification", labels=("cold", "warm"))
    assert run("label_noise", context) == []


@pytest.mark.parametrize("rows", [0, 5, 99])
def test_too_few_rows_say_nothing(rows: int) -> None:
    context = looked_at(weather(rows, {1}), kind="classification", labels=("cold", "warm"))
    assert suspicion(context) is None


def test_texts_without_words_and_rare_classes() -> None:
    signs = [("...", "ab"[n % 2]) for n in range(200)]
    assert suspicion(looked_at(signs, kind="classification", labels=("a", "b"))) is None
    rare = [*weather(200, set()), ("fog", "grey"), ("mist", "grey")]
    found = suspicion(looked_at(rare, kind="classification", labels=("cold", "grey", "warm")))
    assert found is not None and len(found.examples) == 200


def test_an_encoder_is_used_where_texts_are_few() -> None:
    rows = weather(200, {4})
    flags = {word: n for n, word in enumerate((*WORDS["warm"], *WORDS["cold"]))}

    def embed(texts: list[str]) -> np.ndarray:
        made = np.zeros((len(texts), 10), dtype=np.float32)
        for row, text in enumerate(texts):
            for word in text.split():
                if word in flags:
                    made[row, flags[word]] = 1
        return made

    context = looked_at(
        rows, kind="classification", labels=("cold", "warm"), context={"embed": embed}
    )
    found = suspicion(context)
    assert found is not None and found.doubted == (4,)
    assert "sentence embeddings" in found.how


@pytest.mark.skipif(not DATA.is_dir(), reason="the public data sets are not here")
def test_a_tenth_of_the_labels_of_sst2_flipped() -> None:
    """At least 60 % of the flipped rows are among the worst 15 %, without any encoder."""
    lines = (DATA / "sst2" / "train.jsonl").read_text("utf-8").splitlines()
    rows = [(row["sentence"], row["sentiment"]) for row in map(json.loads, lines)]
    chance = np.random.default_rng(0)
    flipped = set(chance.choice(len(rows), len(rows) // 10, replace=False).tolist())
    other = {"positive": "negative", "negative": "positive"}
    noisy = [(text, other[label] if n in flipped else label)
             for n, (text, label) in enumerate(rows)]  # fmt: skip
    found = suspicion(looked_at(noisy, kind="classification", labels=("negative", "positive")))
    assert found is not None and len(found.examples) == len(rows)
    worst = np.argsort(found.quality, kind="stable")[: round(0.15 * len(rows))]
    assert len(flipped & set(worst.tolist())) / len(flipped) >= 0.6
    # far more than chance (10 %) of what confident learning names is flipped
    assert len(flipped & set(found.doubted)) / len(found.doubted) > 0.3
