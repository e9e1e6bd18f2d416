"""Several runs against each other: which rows, which statistics, what is refused and said."""

from __future__ import annotations

import itertools
import json
import random
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from across_runs import LABELS, rows_of, write_run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from luthier.across.comparing import compare_runs
from luthier.across.sides import short_names
from luthier.data.examples import Message
from luthier.errors import InputError, RunError
from luthier.evaluation.statistics import holm, mcnemar_exact, paired_interval, wilson_interval
from luthier.files import read_jsonl, write_json, write_jsonl

OTHER = "an-encoder"
ARMS = {"majority": 0.3, "zero-shot": 0.5, "lora": 0.8}
KINDS = {
    "accuracy": {},
    "macro F1": {"metric": "macro_f1"},
    "Matthews": {"metric": "mcc", "seed": 3},
    "token F1": {"kind": "qa", "metric": "f1", "labels": None},
    "ROUGE": {"kind": "generation", "labels": None},
}


def one(document: dict[str, Any]) -> dict[str, Any]:
    """The only comparison of a page."""
    assert len(document["comparisons"]) == 1
    return document["comparisons"][0]


def of(comparison: dict[str, Any], run: str, arm: str) -> dict[str, Any]:
    return next(a for a in comparison["arms"] if (a["run"], a["arm"]) == (run, arm))


def pair_of(comparison: dict[str, Any], *names: tuple[str, str]) -> dict[str, Any]:
    """The pair of two (run, arm)."""
    wanted = [{"run": run, "arm": arm} for run, arm in names]
    return next(p for p in comparison["pairs"] if p["arms"] == wanted)


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("grouped", [False, True])
def test_a_run_against_itself_has_no_difference_and_says_what_its_verdict_says(
    tmp_path: Path, kind: str, grouped: bool
) -> None:
    test = rows_of("test", 40)
    if grouped:
        test = [replace(e, group=f"g{i // 4}") for i, e in enumerate(test)]
    write_run(tmp_path / "a", arms=ARMS, test=test, **KINDS[kind])
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    document = compare_runs([tmp_path / "a", tmp_path / "b"]).to_dict()
    found = one(document)
    verdict = json.loads((tmp_path / "a" / "verdict.json").read_text())
    assert found["whole_test"] and found["rows"] == 40
    assert found["statistics"]["method"] == verdict["statistics"]["method"]
    for arm, run in itertools.product(verdict["arms"], "ab"):
        held = of(found, run, arm["name"])
        assert (held["score"], held["interval"]) == (arm["score"], arm["interval"])
    for pair, run in itertools.product(verdict["pairs"], "ab"):
        held = pair_of(found, *((run, arm) for arm in pair["arms"]))
        assert held["difference"] == pair["difference"]
        assert held["interval"] == pytest.approx(pair["interval"])
        assert held["p"] == pytest.approx(pair["p"])
    for name in ARMS:
        same = pair_of(found, ("a", name), ("b", name))
        assert (same["difference"], same["p"], same["p_adjusted"]) == (0, 1, 1)
        assert same["interval"][0] <= 0 <= same["interval"][1]
    assert document["differences"] == []
    assert "score the same" in document["headline"]
    assert "nothing that matters differs" in document["headline"]


@given(
    chances=st.lists(st.floats(0, 1), min_size=4, max_size=4),
    draws=st.tuples(st.integers(0, 50), st.integers(0, 50)),
    n=st.integers(8, 40),
)
@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_pairs_of_different_runs_by_hand(
    tmp_path: Path, chances: list[float], draws: tuple[int, int], n: int
) -> None:
    """Newcombe, McNemar and Holm from the rows themselves, and the order of runs is no matter."""
    shutil.rmtree(tmp_path, ignore_errors=True)
    test = rows_of("test", n)
    names = ("zero-shot", "lora")
    for run, draw, pair in zip("ab", draws, (chances[:2], chances[2:]), strict=True):
        write_run(tmp_path / run, arms=dict(zip(names, pair, strict=True)), test=test, draw=draw)
    right = {
        (run, arm): [
            row["score"] > 0.5
            for row in read_jsonl(tmp_path / run / "arms" / arm / "predictions.jsonl")
        ]
        for run in "ab"
        for arm in names
    }
    found = one(compare_runs([tmp_path / "a", tmp_path / "b"]).to_dict())
    for (run, arm), values in right.items():
        held = of(found, run, arm)
        assert held["score"] == pytest.approx(sum(values) / n)
        assert held["interval"] == pytest.approx(wilson_interval(sum(values), n))
    ps = []
    for first, second in itertools.combinations(right, 2):
        x, y = right[first], right[second]
        b = sum(i and not j for i, j in zip(x, y, strict=True))
        c = sum(j and not i for i, j in zip(x, y, strict=True))
        both = sum(i and j for i, j in zip(x, y, strict=True))
        held = pair_of(found, first, second)
        assert held["difference"] == pytest.approx((b - c) / n)
        assert held["interval"] == pytest.approx(paired_interval(both, b, c, n - both - b - c))
        assert held["p"] == pytest.approx(mcnemar_exact(b, c))
        ps.append(held["p"])
    assert [p["p_adjusted"] for p in found["pairs"]] == pytest.approx(holm(ps))
    back = one(compare_runs([tmp_path / "b", tmp_path / "a"]).to_dict())
    assert {(a["run"], a["arm"], a["score"]) for a in back["arms"]} == {
        (a["run"], a["arm"], a["score"]) for a in found["arms"]
    }
    assert sorted(p["p_adjusted"] for p in back["pairs"]) == sorted(
        p["p_adjusted"] for p in found["pairs"]
    )


def test_the_order_of_rows_in_a_test_is_no_matter(tmp_path: Path) -> None:
    test = rows_of("test", 40)
    write_run(tmp_path / "a", arms=ARMS, test=test)
    write_run(tmp_path / "b", arms=ARMS, test=test)
    for path in (
        tmp_path / "b" / "data" / "test.jsonl",
        *(tmp_path / "b" / "arms" / arm / "predictions.jsonl" for arm in ARMS),
    ):
        rows = read_jsonl(path)
        random.Random(path.name).shuffle(rows)
        write_jsonl(path, rows)
    found = one(compare_runs([tmp_path / "a", tmp_path / "b"]).to_dict())
    assert found["whole_test"]
    for name in ARMS:
        # equal only where each answer met its own row
        pair = pair_of(found, ("a", name), ("b", name))
        assert (pair["difference"], pair["p"]) == (0, 1)
        assert pair["interval"] == pytest.approx(paired_interval(*_alike(tmp_path, name)))


def _alike(home: Path, arm: str) -> tuple[int, int, int, int]:
    rows = read_jsonl(home / "a" / "arms" / arm / "predictions.jsonl")
    right = sum(row["score"] > 0.5 for row in rows)
    return right, 0, 0, len(rows) - right


def test_the_headline_names_the_better_run_and_what_differs(tmp_path: Path) -> None:
    test = rows_of("test", 300)
    write_run(tmp_path / "small", arms={"zero-shot": 0.4, "lora": 0.6}, test=test, draw=1)
    write_run(
        tmp_path / "large",
        arms={"zero-shot": 0.5, "lora": 0.9},
        test=test,
        draw=2,
        model="larger",
        training={"epochs": 3},
    )
    across = compare_runs([tmp_path / "small", tmp_path / "large"])
    pair = pair_of(one(across.to_dict()), ("small", "lora"), ("large", "lora"))
    low, high = (-100 * end for end in reversed(pair["interval"]))
    assert across.headline == (
        "lora of large beats lora of small, the best of the other run, by "
        f"{-100 * pair['difference']:.1f} points of accuracy ({low:.1f} to {high:.1f}); "
        "the runs differ in: model, training.epochs."
    )
    assert [one.what for one in across.differing] == ["model", "training.epochs"]


@pytest.mark.parametrize(("small", "large"), [(OTHER, OTHER), (OTHER, None), (None, None)])
def test_a_model_that_neither_arm_uses_is_not_left_to_explain_the_difference(
    tmp_path: Path, small: str | None, large: str | None
) -> None:
    test = rows_of("test", 100)
    for name, encoder in (("small", small), ("large", large)):
        write_run(tmp_path / name, arms={"linear-probe": 0.8}, test=test, model=name)
        path = tmp_path / name / "arms" / "linear-probe" / "arm.json"
        record = json.loads(path.read_text())
        write_json(path, record | {"settings": {"encoder": encoder or name}})
    headline = compare_runs([tmp_path / "small", tmp_path / "large"]).headline
    unused = headline.endswith("in: model, and neither of the two arms uses the model.")
    assert unused is (small == large == OTHER)


def test_equal_runs_are_not_called_better(tmp_path: Path) -> None:
    test = rows_of("test", 100)
    write_run(tmp_path / "a", arms={"lora": 0.8}, test=test, draw=1)
    write_run(tmp_path / "b", arms={"lora": 0.8}, test=test, draw=2, seed=1)
    across = compare_runs([tmp_path / "a", tmp_path / "b"])
    assert across.headline.startswith("No difference is shown between lora of ")
    assert across.headline.endswith("the runs differ in: seed.")
    assert any("more test examples would show it" in reason for reason in across.reasons)


def test_tests_that_overlap_are_compared_on_the_common_rows_alone(tmp_path: Path) -> None:
    write_run(tmp_path / "a", arms=ARMS, test=rows_of("test", 60))
    write_run(tmp_path / "b", arms=ARMS, test=rows_of("test", 90, start=20))
    across = compare_runs([tmp_path / "a", tmp_path / "b"])
    found = one(across.to_dict())
    assert (found["rows"], found["rows_of"], found["whole_test"]) == (40, {"a": 60, "b": 90}, False)
    assert across.headline.startswith("On the 40 rows that both tests have (of 60 and 90): ")
    common = {f"test-{i}" for i in range(20, 60)}
    for run, arm in itertools.product("ab", ARMS):
        rows = read_jsonl(tmp_path / run / "arms" / arm / "predictions.jsonl")
        scores = [row["score"] for row in rows if row["id"] in common]
        assert of(found, run, arm)["score"] == pytest.approx(sum(scores) / 40)


def test_one_id_with_another_question_or_reference_is_another_row(tmp_path: Path) -> None:
    test = rows_of("test", 30)
    other = [replace(e, output=LABELS[(i + 1) % 3]) for i, e in enumerate(test[:10])]
    asked = [replace(e, messages=(Message("user", f"Another {e.id}"),)) for e in test[10:15]]
    write_run(tmp_path / "a", arms=ARMS, test=test)
    write_run(tmp_path / "b", arms=ARMS, test=[*other, *asked, *test[15:]])
    assert one(compare_runs([tmp_path / "a", tmp_path / "b"]).to_dict())["rows"] == 15


def test_the_same_rows_asked_in_other_words_are_the_same_test(tmp_path: Path) -> None:
    test = rows_of("test", 30)
    asked = [replace(e, messages=(Message("user", f"Please: {e.input}"),)) for e in test]
    write_run(tmp_path / "a", arms=ARMS, test=test)
    write_run(tmp_path / "b", arms=ARMS, test=asked)
    across = compare_runs([tmp_path / "a", tmp_path / "b"])
    assert one(across.to_dict())["rows"] == 30
    assert any("ask in other words" in note for note in across.notes)
    # few rows with one label have the same ids and references by chance
    write_run(tmp_path / "c", arms=ARMS, test=rows_of("test", 30, labels=("red",)))
    same = [replace(e, messages=(Message("user", f"x {e.id}"),), output="red") for e in test]
    write_run(tmp_path / "d", arms=ARMS, test=same)
    assert not compare_runs([tmp_path / "c", tmp_path / "d"]).groups


def test_tests_that_share_nothing_are_not_compared(tmp_path: Path) -> None:
    write_run(tmp_path / "a", arms=ARMS, test=rows_of("test", 40))
    write_run(tmp_path / "b", arms=ARMS, test=rows_of("test", 50, start=40))
    across = compare_runs([tmp_path / "a", tmp_path / "b"])
    document = across.to_dict()
    assert document["comparisons"] == [] and document["comparable"] is False
    assert across.headline.startswith("These runs cannot be compared; ")
    assert document["not_compared"] == [
        "The tests of a and b have no row in common (40 and 50 rows): their numbers cannot be "
        "compared."
    ]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"metric": "macro_f1"}, "metric: accuracy in a, macro_f1 in b"),
        ({"kind": "qa", "labels": None}, "kind of task: classification in a, qa in b"),
    ],
)
def test_other_scorers_are_refused_with_the_reason(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    write_run(tmp_path / "a", arms=ARMS)
    write_run(tmp_path / "b", arms=ARMS, **changes)
    document = compare_runs([tmp_path / "a", tmp_path / "b"]).to_dict()
    assert document["comparisons"] == []
    assert said in document["not_compared"][0]


def test_each_test_has_its_group_and_what_all_share_is_compared_too(tmp_path: Path) -> None:
    write_run(tmp_path / "a", arms=ARMS, test=rows_of("test", 60))
    write_run(tmp_path / "b", arms=ARMS, test=rows_of("test", 60), draw=1)
    write_run(tmp_path / "c", arms=ARMS, test=rows_of("test", 60, start=30), draw=2)
    write_run(tmp_path / "d", arms=ARMS, metric="macro_f1", test=rows_of("test", 60))
    document = compare_runs([tmp_path / name for name in "abcd"]).to_dict()
    assert [(c["runs"], c["rows"]) for c in document["comparisons"]] == [
        (["a", "b", "c"], 30),
        (["a", "b"], 60),
    ]
    assert "d" in document["not_compared"][0]
    # d has another metric, which is no difference between those that are compared
    assert "nothing that matters differs between a, b and c" not in document["headline"]
    assert document["headline"].endswith("; a, b and c differ in: test rows.")
    # where not all overlap, those that do are compared
    write_run(tmp_path / "e", arms=ARMS, test=rows_of("test", 60, start=80))
    document = compare_runs([tmp_path / name for name in "ace"]).to_dict()
    assert [(c["runs"], c["rows"]) for c in document["comparisons"]] == [
        (["a", "c"], 30),
        (["c", "e"], 10),
    ]
    assert document["not_compared"] == [
        "The tests of a and e have no row in common (60 and 60 rows): their numbers cannot be "
        "compared."
    ]


def test_labels_that_one_run_did_not_know_are_matched_in_both(tmp_path: Path) -> None:
    test = rows_of("test", 40)
    write_run(tmp_path / "a", arms=ARMS, test=test, metric="macro_f1")
    write_run(tmp_path / "b", arms=ARMS, test=test, metric="macro_f1", labels=("blue", "green"))
    across = compare_runs([tmp_path / "a", tmp_path / "b"])
    found = one(across.to_dict())
    assert of(found, "a", "lora")["score"] == of(found, "b", "lora")["score"]
    assert any("know different labels" in note for note in across.notes)


def test_failed_and_unknown_arms_are_said_and_do_not_stop_it(tmp_path: Path) -> None:
    write_run(tmp_path / "a", arms=ARMS)
    write_run(tmp_path / "b", arms=ARMS)
    verdict = json.loads((tmp_path / "b" / "verdict.json").read_text())
    verdict["arms"].append({"name": "dream", "score": 0.9, "interval": [0.8, 1.0]})
    verdict["arms"].append({"name": "full", "score": None, "failed": "out of memory"})
    (tmp_path / "b" / "verdict.json").write_text(json.dumps(verdict))
    (tmp_path / "b" / "arms" / "lora" / "predictions.jsonl").unlink()
    found = one(compare_runs([tmp_path / "a", tmp_path / "b"]).to_dict())
    assert "knows no arm" in of(found, "b", "dream")["failed"]
    assert of(found, "b", "full")["failed"] == "out of memory"
    assert "does not exist" in of(found, "b", "lora")["failed"]
    assert of(found, "b", "zero-shot")["score"] is not None


def test_a_score_that_its_verdict_does_not_bear_out_is_said(tmp_path: Path) -> None:
    write_run(tmp_path / "a", arms=ARMS)
    write_run(tmp_path / "b", arms=ARMS)
    verdict = json.loads((tmp_path / "b" / "verdict.json").read_text())
    verdict["arms"][0]["score"] = 0.987
    (tmp_path / "b" / "verdict.json").write_text(json.dumps(verdict))
    notes = compare_runs([tmp_path / "a", tmp_path / "b"]).notes
    assert [note for note in notes if "0.9870" in note and "majority of b" in note]


def test_how_training_rows_lie_within_each_other(tmp_path: Path) -> None:
    write_run(tmp_path / "a", arms=ARMS, train=rows_of("train", 30))
    write_run(tmp_path / "b", arms=ARMS, train=rows_of("train", 60))
    across = compare_runs([tmp_path / "a", tmp_path / "b"])
    assert "All training rows of a are among those of b." in across.notes
    assert across.headline.endswith("the runs differ in: training rows.")


def test_wrong_use(tmp_path: Path) -> None:
    write_run(tmp_path / "a", arms=ARMS)
    write_run(tmp_path / "b", arms=ARMS, verdict=False)
    (tmp_path / "c").mkdir()
    with pytest.raises(InputError, match="One run alone"):
        compare_runs([tmp_path / "a"])
    with pytest.raises(InputError, match="No run is named"):
        compare_runs([])
    with pytest.raises(RunError, match="b has no verdict yet") as unfinished:
        compare_runs([tmp_path / "a", tmp_path / "b"])
    assert "--resume" in unfinished.value.fix
    with pytest.raises(RunError, match="holds no run"):
        compare_runs([tmp_path / "a", tmp_path / "c"])
    with pytest.raises(RunError, match="does not exist"):
        compare_runs([tmp_path / "a", tmp_path / "d"])
    (tmp_path / "b" / "verdict.json").write_text('{"arms": [{"name": "lora"}]}')
    (tmp_path / "b" / "data" / "test.jsonl").write_text('{"id": 1}\n')
    with pytest.raises(InputError, match=r"test\.jsonl holds rows that are no examples"):
        compare_runs([tmp_path / "a", tmp_path / "b"])


def test_names_are_as_short_as_they_can_be() -> None:
    folders = [Path("/runs/x/a"), Path("/runs/y/a"), Path("/runs/b"), Path("/runs/b")]
    assert short_names(folders) == ["x/a", "y/a", "b", "b (2)"]
