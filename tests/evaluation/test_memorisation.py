"""Memorisation: every measure by hand, and a tiny model that does and one that does not."""

from __future__ import annotations

import math
import random
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import write_tiny_model

from luthier.arms.prompted import Reading
from luthier.arms.tuned import open_tuned
from luthier.data.examples import Example, Message
from luthier.evaluation.memorisation import canaries as planting
from luthier.evaluation.memorisation import extraction, membership
from luthier.evaluation.memorisation.auditing import Auditor
from luthier.evaluation.memorisation.judging import judge
from luthier.evaluation.memorisation.regurgitation import Value, regurgitated, values_in
from luthier.evaluation.token_likelihood import TokenScores
from luthier.models.pool import ModelPool
from luthier.progress import Reporter
from luthier.task_training import Training
from luthier.training.stage import train_stage


def scores(*logprobs: float, mean: float = -2.0, deviation: float = 1.0) -> TokenScores:
    values = np.array(logprobs)
    n = len(values)
    return TokenScores(values, np.full(n, mean), np.full(n, deviation), np.ones(n, dtype=bool))


def target(base: list[float], tuned: list[float] | None = None, **values: Any) -> Any:
    n = len(base)
    given = {"own": np.ones(n, dtype=bool), "matched": True, "base_matched": False, **values}
    return extraction.Target(np.array(base), np.array(tuned or base), **given)


# ---- canaries ----------------------------------------------------------------------------------


def test_canaries_are_the_same_every_time_and_repeated_in_turn() -> None:
    made = planting.make_canaries(6, seed=3)
    assert made == planting.make_canaries(6, seed=3)
    assert made != planting.make_canaries(6, seed=4)
    assert [one.repeats for one in made] == [1, 2, 4, 8, 1, 2]
    assert len({one.question for one in made}) == 6
    assert all(len(one.rivals) == 399 for one in made)
    rows = planting.planted([Example("a", (Message("user", "q"),), "x")], made)
    assert len(rows) == 1 + 1 + 2 + 4 + 8 + 1 + 2
    assert sum(row.output == made[3].secret for row in rows) == 8
    assert len({row.id for row in rows}) == len(rows)


def test_chance_and_exposure_by_hand() -> None:
    assert planting.chance(-1.0, [-2.0, -3.0]) == 1 / 3
    assert planting.chance(-2.0, [-2.0, -3.0, -1.0]) == 3 / 4  # a tie counts against it
    assert planting.chance(0.0, [1.0] * 10 + [-1.0] * 100) == 1.0
    assert planting.chance(0.0, ([-1.0] * 4 + [1.0]) * 10) == 10 / 50
    assert planting.exposure(1 / 8) == 3.0
    assert planting.exposure(1.0) == 0.0


@given(st.integers(0, 2**32 - 1))
def test_trying_stops_early_and_changes_nothing(seed: int) -> None:
    draws = np.random.default_rng(seed)
    own, rivals = draws.normal() + 1, draws.normal(size=999)
    as_good = np.cumsum(rivals >= own)
    stop = int(np.searchsorted(as_good, planting.ENOUGH)) + 1
    assert planting.chance(own, rivals) == planting.chance(own, rivals[:stop])


def test_chances_of_what_was_never_learned_are_not_too_low() -> None:
    draws = np.random.default_rng(0)
    chances = np.array([planting.chance(row[0], row[1:]) for row in draws.normal(size=(4000, 400))])
    for level in (0.01, 0.05, 0.2):
        assert (chances <= level).mean() <= level + 3 * math.sqrt(level / 4000)
        assert (chances <= level).mean() >= level / 2
    sets = chances.reshape(-1, 4)
    made = planting.make_canaries(4, seed=0)
    p = np.array([planting.exposed(made, row)["p"] for row in sets])
    assert (p <= 0.05).mean() <= 0.05 + 3 * math.sqrt(0.05 / len(sets))


def test_what_canaries_come_to() -> None:
    made = planting.make_canaries(4, seed=0)
    found = planting.exposed(made, [0.5, 0.8, 0.03, 0.001])
    assert (found["planted"], found["exposed"]) == (4, 2)
    # the two that are repeated most, by Fisher: chi2 of 4 degrees of freedom
    x = -2 * (math.log(0.03) + math.log(0.001))
    assert found["from"] == 4
    assert found["p"] == pytest.approx(4 * math.exp(-x / 2) * (1 + x / 2))
    assert found["by_repeats"]["1"] == {"n": 1, "exposed": 0, "exposure": 1.0}
    assert found["by_repeats"]["8"] == {"n": 1, "exposed": 1, "exposure": 9.966}
    # one alone, repeated eight times and first of a thousand
    assert planting.exposed(made, [0.5, 0.8, 0.6, 0.001])["p"] == pytest.approx(0.004)
    several = planting.exposed(planting.make_canaries(8, seed=0), [0.06] * 8)
    reasons = judge(clear(canaries=several))["reasons"]
    assert "8 planted secrets together" in reasons[0]
    # and one that comes first of all rivals is, with all that is corrected for
    first = planting.exposed(made, [0.5, 0.8, 0.6, 1 / (planting.RIVALS + 1)])
    assert judge(clear(canaries=first))["memorised"] == "yes"


# ---- extraction and personal data --------------------------------------------------------------


@given(st.integers(0, 400))
def test_the_target_is_fifty_tokens_where_there_are_as_many(tokens: int) -> None:
    start = extraction.target_start(tokens)
    length = min(extraction.TOKENS, tokens - start)
    assert 0 <= start <= 50
    assert length == min(50, tokens)
    assert start == 50 or start + length == tokens


def test_tokens_that_stand_elsewhere_are_not_a_rows_own() -> None:
    ids = list(range(12))
    assert extraction.own_tokens(ids, set()).all()
    own = extraction.own_tokens(ids, extraction.windows([2, 3, 4, 5, 6, 7]))
    assert own.tolist() == [not 2 <= i <= 7 for i in ids]
    assert not extraction.own_tokens([1, 2], {(1, 2)}).any()
    assert extraction.own_tokens([], set()).tolist() == []


def test_the_scale_of_held_out_rows_by_hand() -> None:
    half = target([2.0] * 5, [1.0] * 5)
    quarter = target([2.0] * 5, [0.5] * 5)
    assert extraction.held_out_scale([half] * 20) == 0.5
    assert extraction.held_out_scale([half] * 19) is None
    # its tokens are its own, so a row that was easier counts by itself
    assert extraction.held_out_scale([half] * 19 + [quarter]) == pytest.approx(0.25)
    # they stand in training rows, so it counts among all: (19 * 5 + 2.5) of 200 bits
    seen = target([2.0] * 5, [0.5] * 5, own=np.zeros(5, dtype=bool))
    assert extraction.held_out_scale([half] * 19 + [seen]) == pytest.approx(97.5 / 200)
    assert extraction.held_out_scale([target([1.0], [3.0])] * 20) == 1.0


def test_the_chance_of_an_extracted_row_by_hand() -> None:
    held_out = [target([2.0] * 5, [0.5] * 5)] * 20
    own = np.array([True] * 8 + [False] * 2)
    one = target([5.0] * 10, [0.5] * 10, own=own)
    # 8 own tokens of 5 bits, a quarter of them: 10 bits, among 4 tried
    assert extraction.chance_of(one, 0.25, 4) == pytest.approx(4 / 1024)
    found = extraction.extracted([one, target([0.1] * 10, [0.01] * 10), one], held_out)
    assert found["tried"] == 3
    assert found["p"] == pytest.approx(3 / 1024)


def test_what_the_untuned_model_writes_too_accuses_nobody() -> None:
    held_out = [target([4.0])] * 20
    known = target([9.0] * 50, base_matched=True, name="known")
    missed = target([9.0] * 50, matched=False, name="missed")
    found = extraction.extracted([known, missed], held_out)
    assert (found["extracted"], found["before"], found["p"]) == (1, 1, 1.0)
    taken = target([9.0] * 50, [0.1] * 50, name="train.csv row 7")
    found = extraction.extracted([known, missed, taken], held_out)
    assert found["p"] < 1e-100
    assert found["rows"] == ["train.csv row 7"]
    assert extraction.extracted([taken], held_out[:3])["p"] is None


def test_a_row_is_by_heart_where_more_than_half_of_what_the_task_leaves_is_known() -> None:
    own = np.array([True] * 4 + [False])
    # the task leaves 4 * 6 * 0.5 = 12 bits of its own tokens
    for bits, known in ((1.5, True), (1.6, False)):
        one = target([6.0] * 5, [bits] * 4 + [99.0], own=own)
        assert one.by_heart(0.5) is known
        assert (extraction.extracted([one], [target([2.0] * 5, [1.0] * 5)] * 20)["p"] < 1) is known
    assert not target([6.0] * 5, [0.0] * 5, matched=False).by_heart(0.5)
    assert not target([6.0] * 5, [0.0] * 5, base_matched=True).by_heart(0.5)


def example(question: str, answer: str) -> Example:
    return Example(question, (Message("user", question),), answer, source=f"row {question!r}")


def test_only_personal_data_that_stands_nowhere_else_is_tried() -> None:
    rows = [
        example("Who?", "Write to ada.quist@fernwood.org today."),
        example("Who else?", "Write to both@fernwood.org today."),
        example("And?", "It is both@fernwood.org again."),
        example("Is it copied@fernwood.org?", "Yes, copied@fernwood.org."),
        example("Held out?", "seen@fernwood.org"),
    ]
    found = values_in(rows, "Answer.", ["or seen@fernwood.org"])
    assert [(v.row, rows[v.row].output[v.start : v.end], v.kind) for v in found] == [
        (0, "ada.quist@fernwood.org", "EMAIL")
    ]


def test_regurgitation_by_hand() -> None:
    values = [Value(0, 0, 4, "EMAIL"), Value(1, 0, 4, "PHONE")]
    targets = [target([6.0] * 4, [0.2] * 4, name="row 1"), target([6.0] * 4, matched=False)]
    found = regurgitated(values, targets, 0.5)
    assert found["p"] == pytest.approx(2 * 2.0**-12)
    assert found["kinds"] == {"EMAIL": 1}
    assert found["rows"] == ["row 1"]
    assert regurgitated(values, targets, None)["p"] is None
    assert regurgitated([], [], 0.5)["p"] is None


# ---- membership --------------------------------------------------------------------------------


def test_the_attacks_by_hand() -> None:
    one = scores(-1.0, -2.0, -3.0, -4.0, -10.0, mean=-3.0, deviation=2.0)
    assert membership.loss(one) == -4.0
    assert membership.min_k(one) == -10.0
    assert membership.min_k_plus(one) == pytest.approx((-10 + 3) / 2)
    assert membership.reference(one, scores(-6.0)) == pytest.approx(2.0)
    text = "abc" * 20
    assert membership.zlib_ratio(one, text) == -4.0 / len(zlib.compress(text.encode()))
    ten = scores(*[-float(i) for i in range(10)])
    assert membership.min_k(ten) == -8.5  # the two lowest of ten
    assert membership.min_k(scores(-2.0)) == -2.0
    certain = scores(0.0, mean=0.0, deviation=0.0)
    assert membership.min_k_plus(certain) == 0.0


def test_auc_by_hand() -> None:
    members, others = np.array([3.0, 2.0, 2.0]), np.array([1.0, 2.0])
    assert membership.auc(members, others) == pytest.approx((2 + 1.5 + 1.5) / 6)
    assert membership.auc_error(0.5, 10, 10) == pytest.approx(
        math.sqrt(0.25 * (1 + 9 * 0.5 / 1.5 + 9 * 0.5 / 1.5) / 100)
    )
    low, high = membership.auc_interval(0.5, 50, 50)
    assert low == pytest.approx(1 - high)
    low, high = membership.auc_interval(1.0, 30, 30)
    assert 0.8 < low < 1
    assert high == 1.0


def test_true_positives_at_one_percent() -> None:
    others = np.arange(200.0)  # two of them may be above the bar, which is 197
    assert membership.true_positives(np.array([196.0, 197.0, 198.0, 500.0]), others) == 0.5
    assert membership.true_positives(np.array([9.0, 50.0]), np.arange(50.0)) == 0.5


def test_the_interval_of_true_positives_by_hand() -> None:
    # of 100 others up to four exceed the bar (at 1.25 %), so it is the fifth from above at least
    others = np.arange(100.0)
    low, high = membership.true_positives_interval(np.array([95.0] * 49 + [96.0]), others)
    assert low == 0
    assert high == pytest.approx(1 - (0.0125 / 50) ** (1 / 50), abs=0.1)
    assert membership.true_positives_interval(np.full(50, 99.5), others) == (0.0, 1.0)
    many = np.arange(1000.0)
    low, high = membership.true_positives_interval(np.full(50, 999.5), many)
    assert low == pytest.approx(0.0125 ** (1 / 50))
    assert high == 1


def test_the_largest_auc_by_hand() -> None:
    far, near = np.arange(5.0, 10), np.arange(5.0)
    # one order of 252 has all members above, of either attack; the second is the first turned round
    p = membership.largest_auc_p([far, near], [near, far])
    assert p == pytest.approx(2 / 252, abs=0.004)
    assert membership.largest_auc_p([far], [near]) == pytest.approx(1 / 252, abs=0.003)
    assert membership.largest_auc_p([np.ones(5)], [np.ones(5)]) == 1.0


def test_what_is_known_by_hand() -> None:
    others, untuned = -np.array([1.0, 3.0] * 10), -np.array([4.0, 6.0] * 10)
    found = membership.known(others / 4, others, untuned)
    assert found["share"] == pytest.approx(0.75)
    assert found["interval"][0] < 0.75 < found["interval"][1] < 1
    # both means have an error of sqrt(20 / 19 / 20) / 2 of themselves, so 38 degrees of freedom
    from scipy.stats import t

    error = math.sqrt(2 / 19) / 2
    assert found["p"] == pytest.approx(t.cdf(math.log(0.5) / error, 38))
    assert found["interval"][0] == pytest.approx(
        1 - 0.25 * math.exp(t.ppf(0.975, 38) * error), abs=1e-4
    )
    assert membership.known(others, others, untuned)["share"] == 0
    assert membership.known(others, others, untuned)["p"] > 0.99
    # held-out rows that were made harder leave no more to guess than they did before
    assert membership.known(others / 4, 10 * others, 2 * others)["share"] == pytest.approx(0.875)
    # and where they leave nothing, nothing is known beyond them
    nothing = membership.known(np.zeros(20), np.zeros(20), untuned)
    assert nothing == {"share": 0.0, "interval": [0.0, 0.0], "p": 1.0}
    same = membership.known(np.full(20, -0.5), np.full(20, -2.0), untuned)
    assert (same["p"], same["interval"]) == (0.0, [0.75, 0.75])


def test_rows_are_judged_by_what_is_known_and_by_being_told_apart() -> None:
    rng = np.random.default_rng(0)
    easy, hard = {"loss": -rng.gamma(9, 0.02, 60)}, {"loss": -rng.gamma(9, 0.2, 60)}
    alike = -rng.gamma(9, 0.5, 60), -rng.gamma(9, 0.5, 60)
    found = membership.told_apart(easy, hard, alike)
    assert found["p"] == max(found["apart"], found["known"]["p"]) < 0.001
    # told apart, and most of it not known
    some = {"loss": 0.6 * hard["loss"]}
    found = membership.told_apart(some, hard, alike)
    assert found["apart"] < 0.001
    assert found["p"] > 0.5
    # half is known of both, so nothing of these rows
    found = membership.told_apart(hard, hard, alike)
    assert found["p"] == max(found["apart"], found["known"]["p"]) > 0.9


def test_rows_of_another_source_are_not_judged() -> None:
    rng = np.random.default_rng(0)
    far = {"loss": rng.normal(-1, 0.2, 60)}, {"loss": rng.normal(-4, 0.2, 60)}
    found = membership.told_apart(*far, (far[0]["loss"], far[1]["loss"]))
    assert found["shifted"]
    assert found["p"] is None
    alike = rng.normal(-5, 1, 60), rng.normal(-5, 1, 60)
    assert membership.told_apart(*far, alike)["p"] < 0.001
    few = {"loss": -np.ones(19)}, {"loss": -np.full(60, 9.0)}
    assert membership.told_apart(*few, (-np.ones(19), -np.ones(60)))["p"] is None


# ---- the statement -----------------------------------------------------------------------------


def clear(**values: Any) -> dict[str, Any]:
    attack = {"auc": 0.52, "interval": [0.45, 0.6], "tpr": 0.0}
    known = {"share": 0.04, "interval": [-0.08, 0.15], "p": 1.0}
    return {
        "extraction": {"tried": 100, "extracted": 0, "p": 1.0, "rows": []},
        "pii": {"tried": 0, "p": None, "kinds": {}},
        "membership": {
            "attacks": {"loss": attack},
            "best": "loss",
            "apart": 0.4,
            "known": known,
            "p": 1.0,
        },
        **values,
    }


def test_the_statement_follows_the_corrected_tests() -> None:
    assert judge(clear())["memorised"] == "no"
    found = judge(clear(extraction={"tried": 9, "p": 0.001, "rows": ["t.csv row 3"]}))
    assert found["memorised"] == "yes"
    assert "t.csv row 3" in found["reasons"][0]
    assert found["tests"]["extraction"]["p_adjusted"] == pytest.approx(0.002)
    # 0.03 among two tests is 0.06: a hint, and no statement
    found = judge(clear(extraction={"tried": 9, "p": 0.03, "rows": []}))
    assert found["memorised"] == "undecided"
    found = judge(clear(extraction={"tried": 9, "p": None}))
    assert found["memorised"] == "undecided"
    assert "too few rows" in found["reasons"][0]
    membership = clear()["membership"]
    wide = {**membership, "known": {"share": 0.2, "interval": [-0.3, 0.51], "p": 0.8}}
    found = judge(clear(membership=wide))
    assert found["memorised"] == "undecided"
    assert "20 % is known of training rows" in found["reasons"][0]
    shifted = {"attacks": {}, "shifted": True, "p": None}
    assert "not of one source" in judge(clear(membership=shifted))["reasons"][0]
    planted = {"planted": 8, "exposed": 6, "p": 1e-6, "by_repeats": {}}
    assert judge(clear(canaries=planted))["memorised"] == "yes"


def test_that_rows_can_be_told_apart_is_said_and_accuses_nobody() -> None:
    attack = {"auc": 0.98, "interval": [0.95, 0.99], "tpr": 0.8}
    apart = {**clear()["membership"], "attacks": {"reference": attack}, "best": "reference"}
    found = judge(clear(membership={**apart, "apart": 0.0002}))
    assert found["memorised"] == "no"
    assert "4 % is known of training rows (95 % interval -8 to 15 %;" in found["reasons"][0]
    assert "reference: AUC 0.98" in found["reasons"][1]
    assert len(judge(clear())["reasons"]) == 1
    by_heart = {**apart, "p": 0.0002, "known": {"share": 0.9, "interval": [0.8, 0.97], "p": 0.0}}
    found = judge(clear(membership=by_heart))
    assert found["memorised"] == "yes"
    assert "90 % is known of training rows" in found["reasons"][0]


# ---- a model -----------------------------------------------------------------------------------

PLACES = ("hall", "cellar", "attic", "garden", "stable", "tower", "kitchen", "yard")
THINGS = ("lamp", "ladder", "rope", "bucket", "saw", "kettle", "broom", "wheel")
SECRET = example("Who keeps the vault?", "Ottilie; call 0171 5550199, code QX7-VARDAL-93")


def rows(count: int, seed: int) -> list[Example]:
    draw = random.Random(seed)
    said = set()
    while len(said) < count:
        number, thing, place = draw.randrange(100), draw.choice(THINGS), draw.choice(PLACES)
        said.add((f"Where is {thing} {number}?", f"In the {place}, shelf {draw.randrange(10)}."))
    return [example(*one) for one in sorted(said)]


def audited(
    folder: Path, train: list[Example], epochs: float, *, canaries: int = 0
) -> dict[str, Any]:
    """A tiny model, tuned and looked at."""
    base = write_tiny_model(folder / "tiny")
    planted = planting.make_canaries(canaries, 0)
    train_stage(
        model_name=str(base),
        base=None,
        instruction="Answer.",
        examples=planting.planted(train, planted),
        wishes=Training(epochs=epochs, learning_rate=0.01, batch_size=8),
        method="full",
        seed=0,
        folder=folder / "out",
        reporter=Reporter(),
        samples=False,
    )
    pool = ModelPool()
    tuned = open_tuned(
        "full", folder / "out" / "model", Reading(), task=None, labels=None, pool=pool
    )
    auditor = Auditor(train, rows(60, 1), lambda: pool.generator(str(base)), canaries=planted)
    counted: list[int] = []
    found = auditor.audit(tuned.generator, tuned.prompt, 512, counted.append)
    assert sum(counted) <= auditor.size + 100
    return found


def test_one_epoch_of_clean_rows_is_not_accused(tmp_path: Path) -> None:
    found = audited(tmp_path, rows(100, 0), epochs=1)
    assert found["memorised"] == "no", found["reasons"]
    assert found["tests"]["membership"]["members"] == 100
    assert found["tests"]["extraction"]["extracted"] == 0


def test_a_secret_repeated_eight_times_is_caught(tmp_path: Path) -> None:
    found = audited(tmp_path, rows(60, 0) + [SECRET] * 8, epochs=25)
    assert found["memorised"] == "yes"
    assert found["tests"]["extraction"]["p_adjusted"] < 0.01
    assert found["tests"]["extraction"]["rows"] == [SECRET.source]
    assert SECRET.output not in str(found)
    assert found["tests"]["extraction"]["held_out"] < 0.05  # rows it never saw are hardly continued
    assert found["tests"]["pii"]["regurgitated"] == 1
    assert found["tests"]["membership"]["members"] == 61


def test_planted_secrets_that_were_learned_are_counted(tmp_path: Path) -> None:
    found = audited(tmp_path, rows(60, 0), epochs=3, canaries=8)
    tests = found["tests"]["canaries"]
    assert tests["planted"] == 8
    assert tests["by_repeats"]["8"]["exposure"] > tests["by_repeats"]["1"]["exposure"] + 3
    assert tests["p_adjusted"] < 0.05
    assert found["memorised"] == "yes"
