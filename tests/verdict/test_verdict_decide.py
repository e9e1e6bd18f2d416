"""The decision rule on arms made to order, its error rate in simulations, and verdict.json."""

import json
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.evaluation.scoring import METRICS
from luthier.task import Task
from luthier.task_sections import Success
from luthier.verdict.compare import ArmResult, compare
from luthier.verdict.decide import decide
from luthier.verdict.document import build_verdict

ACCURACY = METRICS.get("accuracy")
N = 200


def arm(name, right, n=N, first=0, **more):
    """An arm that has `right` rows right, those from row `first` on."""
    scores = np.zeros(n)
    scores[[(first + i) % n for i in range(right)]] = 1
    more.setdefault("invalid_rate", 0.0)
    return ArmResult(name, np.stack([scores, np.ones(n)], axis=1), scores, **more)


def costs(per_answer, training=0.0):
    return {"seconds_per_answer": per_answer, "train_seconds": training}


def decided(arms, clusters=None, **success):
    return decide(compare(arms, ACCURACY, clusters=clusters), Success(**success))


MAJORITY = arm("majority", 40, floor=True)


def said(decision):
    return " ".join((decision.headline, *decision.reasons))


def test_clear_winner():
    result = decided(
        [
            MAJORITY,
            arm("lora", 177, costs=costs(0.1, 94)),
            arm("linear-probe", 150, costs=costs(0.002, 6)),
        ]
    )
    assert (result.decision, result.recommendation) == ("deploy", "lora")
    assert result.headline == (
        "Deploy lora: 88.5 % accuracy against 75.0 % for linear-probe (the runner-up). "
        "It costs 0.1 s an answer and 94 s of training."
    )
    assert result.more_rows is None
    assert 0.05 < result.minimum_detectable_effect < 0.15


def test_cheapest_of_two_equals():
    """Same rows right but five: the dearer leads, the cheaper is as good."""
    result = decided(
        [
            arm("lora", 890, n=1000, costs=costs(0.1, 94)),
            arm("linear-probe", 885, n=1000, costs=costs(0.002, 6)),
        ]
    )
    assert (result.decision, result.recommendation) == ("deploy", "linear-probe")
    assert "at most 2.0 points worse than lora (89.0 %), which costs more" in result.headline
    assert "lora is acceptable, too" in said(result)


def test_training_is_shared_out_among_ten_thousand_answers():
    dear_training = arm("b", 177, costs=costs(0.1, 2000))  # 0.1 + 0.2
    dear_answers = arm("a", 177, costs=costs(0.25))
    assert decided([dear_training, dear_answers]).recommendation == "a"
    cheaper = arm("b", 177, costs=costs(0.1, 1000))  # 0.1 + 0.1
    assert decided([cheaper, dear_answers]).recommendation == "b"
    same = [arm("z", 177, costs=costs(0.1)), arm("y", 177, costs=costs(0.1))]
    assert decided(same).recommendation == "y"


def test_undecided_says_how_many_rows():
    """2.5 points apart, disagreeing on 21 rows of 200: not enough to tell."""
    arms = [MAJORITY, arm("lora", 170), arm("linear-probe", 165, first=192)]
    result = decided(arms)
    assert (result.decision, result.recommendation) == ("undecided", "lora")
    match = re.fullmatch(
        r"Undecided between lora and linear-probe: label about ([\d,]+) more test examples\.",
        result.headline,
    )
    assert int(match[1].replace(",", "")) == result.more_rows
    assert "Use lora meanwhile" in said(result)


def test_the_rows_asked_for_tell_four_times_in_five():
    """Draw the test again at the size asked for, with the arms differing as they did."""
    b, c = 20, 14  # 3 points apart
    one = np.array([1] * 130 + [1] * b + [0] * c + [0] * (N - 130 - b - c), dtype=float)
    other = np.array([1] * 130 + [0] * b + [1] * c + [0] * (N - 130 - b - c), dtype=float)

    def at(rows):
        return decided(
            [
                ArmResult("one", np.stack([one[rows], np.ones(len(rows))], axis=1)),
                ArmResult("other", np.stack([other[rows], np.ones(len(rows))], axis=1)),
            ]
        )

    result = at(np.arange(N))
    assert result.decision == "undecided"
    rng = np.random.default_rng(0)
    size = N + result.more_rows
    told = np.mean([at(rng.integers(0, N, size)).decision == "deploy" for _ in range(400)])
    assert 0.72 < told < 0.88


def test_equal_arms_with_no_margin_need_absurdly_many_rows():
    result = decided([arm("a", 150), arm("b", 150, first=20)], margin=0.0)
    assert result.decision == "undecided"
    assert "more than 100,000 more test examples" in result.headline
    assert result.more_rows == 100_000


def test_none_when_shown_to_fall_short():
    result = decided([MAJORITY, arm("lora", 123), arm("probe", 100)], at_least=0.8)
    assert (result.decision, result.recommendation) == ("none", None)
    assert result.headline.startswith("None of the arms is good enough: lora reaches 61.5 %")
    assert "80.0 % asked for" in result.headline
    assert result.more_rows is None


def test_undecided_when_it_may_reach_what_is_asked_for():
    result = decided([MAJORITY, arm("lora", 156)], at_least=0.8)
    assert (result.decision, result.recommendation) == ("undecided", "lora")
    assert "whether lora reaches 80.0 %" in result.headline
    # reached in the sample: deployed
    assert decided([MAJORITY, arm("lora", 160)], at_least=0.8).decision == "deploy"


def test_none_when_no_arm_beats_the_floor():
    result = decided([MAJORITY, arm("lora", 40), arm("probe", 30)])
    assert result.decision == "none"
    assert "no useful improvement on majority" in result.headline


def test_undecided_when_the_floor_may_be_beaten():
    result = decided([MAJORITY, arm("lora", 45, first=20)])
    assert (result.decision, result.recommendation) == ("undecided", "lora")
    assert "whether lora beats majority" in result.headline


def test_nothing_is_advised_meanwhile_where_the_floor_scores_as_well():
    """An arm that nearly always does as the floor does is ruled out by few rows; one that does
    otherwise is not, though it has fewer right than both."""
    result = decided([arm("majority", 67, floor=True), arm("rag", 66), arm("lora", 63, first=90)])
    assert (result.decision, result.recommendation) == ("undecided", "lora")
    # rag is ruled out, so whether lora is as good as rag is no question
    assert result.headline.startswith("Undecided whether lora beats majority: label about ")
    assert "lora against rag" not in said(result)
    assert "it leads" not in said(result)
    assert "Use lora" not in said(result)
    assert "lora is the arm that may still turn out to be of use, at 31.5 % accuracy" in said(
        result
    )
    assert "majority has 33.5 % on the same rows" in said(result)


def test_an_arm_that_is_not_the_highest_is_not_said_to_lead():
    arms = [MAJORITY, arm("rag", 44), arm("lora", 42, first=90)]
    result = decided(arms, margin=0.06)
    assert (result.decision, result.recommendation) == ("undecided", "lora")
    assert "rag is no useful improvement on majority" in said(result)
    assert "it leads" not in said(result)
    assert "of the arms that are not ruled out it has the highest score, 21.0 %" in said(result)


def test_of_two_that_score_the_same_the_cheaper_is_used_meanwhile():
    result = decided(
        [
            MAJORITY,
            arm("classifier", 148, costs=costs(0.1, 64)),
            arm("linear-probe", 148, first=30, costs=costs(0.002, 5)),
        ]
    )
    assert (result.decision, result.recommendation) == ("undecided", "linear-probe")
    assert "Use linear-probe meanwhile: it scores as classifier does and costs less" in said(result)
    assert "leads" not in said(result)


def test_the_floor_is_never_deployed():
    result = decided([arm("majority", 190, floor=True, costs=costs(0)), arm("lora", 150)])
    assert result.decision == "none"


def test_a_floor_alone_is_not_called_unfinished():
    result = decided([MAJORITY])
    assert result.decision == "none"
    assert result.headline == (
        "None of the arms is good enough: majority can only be compared with, and no other arm "
        "was run."
    )


def test_too_slow():
    arms = [arm("lora", 190, costs=costs(0.5)), arm("probe", 150, costs=costs(0.01))]
    result = decided(arms, max_seconds_per_answer=0.1)
    assert result.recommendation == "probe"
    assert "lora is too slow: 0.5 s an answer, 0.1 s is allowed." in result.reasons
    none = decided(arms, max_seconds_per_answer=0.001)
    assert (none.decision, len(none.reasons)) == ("none", 2)


def test_speed_that_was_not_measured_is_named():
    result = decided([arm("lora", 190)], max_seconds_per_answer=0.1)
    assert result.recommendation == "lora"
    assert "Whether lora answers fast enough was not measured." in result.reasons


def forgot(drop, low, high):
    return {"forgetting": {"drop": drop, "interval": [low, high], "probes": {}}, "can_forget": True}


def test_forgetting_is_out_only_when_shown():
    shown = decided([arm("lora", 190, **forgot(0.1, 0.06, 0.14)), arm("probe", 150)])
    assert shown.recommendation == "probe"
    assert "lora forgets too much: 10.0 points" in said(shown)
    unsure = decided([arm("lora", 190, **forgot(0.1, 0.04, 0.16)), arm("probe", 150)])
    assert unsure.recommendation == "lora"
    assert "lora may forget too much" in said(unsure)
    fine = decided([arm("lora", 190, **forgot(0.01, 0.0, 0.02)), arm("probe", 150)])
    assert "forget" not in said(fine)


def test_forgetting_that_was_not_measured_is_named_where_it_is_a_question():
    result = decided([arm("lora", 190, can_forget=True), arm("probe", 150)])
    assert "What lora forgot was not measured." in result.reasons
    assert "probe forgot" not in said(result)
    off = decided([arm("lora", 190, can_forget=True)], max_forgetting=None)
    assert "forgot" not in said(off)


def test_cheaper_arm_that_may_be_as_good_is_named():
    result = decided(
        [
            arm("lora", 180, costs=costs(0.1)),
            arm("probe", 175, first=2, costs=costs(0.001)),
        ]
    )
    assert result.recommendation == "lora"
    assert re.search(
        r"probe is cheaper .* about [\d,]+ more test examples would tell", said(result)
    )


def test_cheaper_arm_that_is_shown_worse_is_not_named_as_an_option():
    arms = [arm("lora", 190, costs=costs(0.1)), arm("probe", 100, costs=costs(0.001))]
    assert "probe is cheaper" not in said(decided(arms))


def test_failures_are_named():
    broken = ArmResult("rag", None, failed="no documents were given.")
    result = decided([MAJORITY, arm("lora", 190), broken])
    assert result.recommendation == "lora"
    assert "rag failed: no documents were given." in result.reasons
    nothing = decided([broken])
    assert (nothing.decision, nothing.recommendation) == ("none", None)
    no_floor = decided([ArmResult("majority", None, floor=True, failed="x"), arm("lora", 190)])
    assert "Whether the arms beat majority is not known: it failed." in no_floor.reasons


def test_rows_that_belong_together_are_said_to():
    result = decided([arm("lora", 190), arm("probe", 100)], clusters=[i // 10 for i in range(N)])
    assert "belong to 20 groups" in said(result)
    assert "rough" in said(result)


def test_only_arm():
    result = decided([arm("lora", 177)])
    assert result.headline == "Deploy lora: 88.5 % accuracy."
    assert result.minimum_detectable_effect is None


# --- the promise: an arm worse than the best by more than the margin is deployed in 5 % at most


def draw(rng, rates, n, shared):
    """Arms that share the difficulty of a part of the rows; cheaper from first to last."""
    common = rng.random(n)
    arms = []
    for i, rate in enumerate(rates):
        ease = np.where(rng.random(n) < shared, common, rng.random(n))
        right = (ease < rate).astype(float)
        table = np.stack([right, np.ones(n)], axis=1)
        arms.append(ArmResult(f"a{i}", table, costs=costs(10.0 - i)))
    return arms


@pytest.mark.parametrize("shared", [0.3, 0.95])
@pytest.mark.parametrize(
    ("rates", "n", "margin"),
    [
        ((0.8, 0.779), 200, 0.02),
        ((0.8, 0.779, 0.779), 200, 0.02),
        ((0.9,) + (0.875,) * 3, 200, 0.02),
        ((0.8,) + (0.779,) * 5, 200, 0.02),
        ((0.8, 0.8, 0.77, 0.7), 200, 0.02),
        ((0.8,) + (0.5,) * 5, 200, 0.02),
        # a margin large against the noise, where 95 % intervals would be too narrow
        ((0.8,) + (0.5999,) * 5, 1000, 0.2),
    ],
)
def test_error_rate(rates, n, margin, shared):
    rng = np.random.default_rng(11)
    runs = 400
    wrong = 0
    for _ in range(runs):
        result = decided(draw(rng, rates, n, shared), margin=margin)
        if result.decision == "deploy":
            wrong += rates[int(result.recommendation[1:])] < max(rates) - margin
    # three standard errors of 5 % in 400 runs are 3.3 points; the seed is fixed
    assert wrong / runs <= 0.055


def test_large_differences_are_decided():
    rng = np.random.default_rng(2)
    results = [decided(draw(rng, (0.9, 0.7, 0.6), N, 0.5)) for _ in range(100)]
    assert np.mean([r.recommendation == "a0" and r.decision == "deploy" for r in results]) > 0.95


# --- verdict.json


def task(**more):
    values = {
        "name": "trec",
        "kind": "classification",
        "data": {"train": "train.csv", "input": "{{ q }}", "output": "{{ a }}"},
        **more,
    }
    return Task.from_dict(values)


def test_verdict_document():
    measured = {
        "train_seconds": 94.0,
        "train_tokens_per_second": 630,
        "trained_parameters": 4_884_480,
        "total_parameters": 139_399_488,
        "seconds_per_answer": 0.1,
        "prompt_tokens_per_answer": 60,
        "peak_memory_bytes": 2_500_000_000,
    }
    arms = [
        MAJORITY,
        arm(
            "lora",
            177,
            costs=measured,
            metrics={"macro_f1": np.float64(0.7), "mcc": float("nan")},
            extra={"chosen": {"learning_rate": np.float64(1e-3), "x": float("inf")}},
            **forgot(np.float64(0.01), 0.0, 0.02),
        ),
        ArmResult("rag", None, failed="no documents"),
    ]
    compared = compare(arms, ACCURACY)
    verdict = build_verdict(
        task(), N, compared, decide(compared, Success()), warnings=["small test"]
    )
    verdict = json.loads(json.dumps(verdict, allow_nan=False))
    assert {k: verdict[k] for k in ("task", "kind", "metric", "n_test", "seed", "decision")} == {
        "task": "trec",
        "kind": "classification",
        "metric": "accuracy",
        "n_test": 200,
        "seed": 0,
        "decision": "deploy",
    }
    assert verdict["recommendation"] == "lora"
    assert verdict["margin"] == 0.02
    assert verdict["warnings"] == ["small test"]
    majority, lora, rag = verdict["arms"]
    assert lora["score"] == 0.885
    assert lora["versus_best"] is None
    assert {k: lora[k] for k in measured} == measured
    assert lora["metrics"] == {"macro_f1": 0.7, "mcc": None}
    assert lora["chosen"] == {"learning_rate": 1e-3, "x": None}
    assert lora["forgetting"] == {"drop": 0.01, "interval": [0.0, 0.02], "probes": {}}
    assert set(majority["versus_best"]) == {"arm", "difference", "interval", "p", "p_adjusted"}
    assert majority["versus_best"]["arm"] == "lora"
    assert majority["versus_best"]["difference"] == pytest.approx(-0.685)
    assert majority["floor"] is True
    assert (rag["score"], rag["interval"], rag["versus_best"]) == (None, None, None)
    assert rag["failed"] == "no documents"
    assert [pair["arms"] for pair in verdict["pairs"]] == [["majority", "lora"]]


@given(
    st.lists(st.integers(0, 12), min_size=1, max_size=5),
    st.booleans(),
    st.sampled_from([None, 0.5, 1.0]),
    st.sampled_from([0.0, 0.02, 0.3]),
    st.booleans(),
)
@settings(max_examples=120, deadline=None)
def test_every_comparison_ends_in_a_well_formed_verdict(right, floor, at_least, margin, binary):
    arms = [arm(f"a{i}", r, n=12, first=3 * i) for i, r in enumerate(right)]
    if floor:
        arms.append(arm("majority", 4, n=12, floor=True))
    arms.append(ArmResult("broken", None, failed="why"))
    metric = ACCURACY if binary else METRICS.get("f1")
    success = Success(at_least=at_least, margin=margin)
    compared = compare(arms, metric, resamples=200)
    decision = decide(compared, success)
    json.dumps(build_verdict(task(), 12, compared, decision), allow_nan=False)
    assert decision.headline.endswith(".")
    assert all(reason and reason[-1] in ".y" for reason in decision.reasons)
    names = [a.name for a in arms if not a.floor and not a.failed]
    assert (decision.recommendation in names) == (decision.decision != "none")
    assert (decision.more_rows is not None) == (decision.decision == "undecided")
    if decision.decision == "deploy":
        chosen = compared.arm(decision.recommendation)
        assert chosen.score >= (at_least or 0)
        for other in names:
            if other != chosen.name:
                assert compared.pairs[chosen.name, other].joint_interval[0] > -margin
        if floor:
            assert compared.pairs[chosen.name, "majority"].interval[0] > 0
