"""Judges: places swapped, ties, equal length, agreement with people, and an endpoint."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.errors import InputError, RunError
from luthier.evaluation.human_pairs import LabelledPair, labelled_pairs
from luthier.evaluation.judges.asking import read_reply
from luthier.evaluation.judges.endpoint import EndpointJudge
from luthier.evaluation.judging import (
    JUDGES,
    Duel,
    Judge,
    JudgeSettings,
    agreement,
    judge_blind,
    kappa,
)
from luthier.evaluation.length_control import at_equal_length

DATA = Path(__file__).parents[3] / "shared" / "data" / "preferences" / "pandalm-human.json"
LENGTH = JUDGES.get("length")(JudgeSettings(model="length"))


class Rule(Judge):
    """A judge made to order."""

    def __init__(self, rule: Any) -> None:
        self.name, self._rule = "rule", rule

    def prefer(self, duels: Sequence[Duel], progress: Any = None) -> list[int]:
        return [self._rule(duel) for duel in duels]


def good(text: str) -> int:
    return text.count("good")


HONEST = Rule(lambda duel: int(np.sign(good(duel.first) - good(duel.second))))
FIRST = Rule(lambda duel: 1)
DUELS = [Duel("q", "good", "bad"), Duel("q", "bad", "good"), Duel("q", "bad", "bad")]


# --- both ways round


def test_every_pair_is_judged_both_ways_round() -> None:
    judged = judge_blind(HONEST, DUELS)
    assert judged.preferences.tolist() == [1, -1, 0]
    assert (judged.consistent, judged.first_place) == (1.0, 0.5)


def test_a_judge_that_looks_at_the_place_finds_ties_only() -> None:
    judged = judge_blind(FIRST, DUELS)
    assert judged.preferences.tolist() == [0, 0, 0]
    assert (judged.consistent, judged.first_place) == (0.0, 1.0)


def test_a_judge_never_hears_who_answered() -> None:
    assert set(Duel.__dataclass_fields__) == {"question", "first", "second"}
    seen: list[Duel] = []
    judge_blind(Rule(lambda duel: seen.append(duel) or 1), DUELS[:1])
    assert seen == [DUELS[0], DUELS[0].swapped]


def test_the_length_judge() -> None:
    judged = judge_blind(LENGTH, [Duel("q", "long one", "short"), Duel("q", "same", "size")])
    assert judged.preferences.tolist() == [1, 0]


# --- agreement

votes = st.lists(st.tuples(st.sampled_from([-1, 0, 1]), st.sampled_from([-1, 0, 1])), min_size=1)


@given(votes)
@settings(max_examples=25, deadline=None)
@pytest.mark.filterwarnings("ignore")
def test_kappa_equals_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    from sklearn.metrics import cohen_kappa_score

    table = np.zeros(9)
    for one, other in pairs:
        table[3 * (one + 1) + other + 1] += 1
    expected = cohen_kappa_score(*zip(*pairs, strict=True), labels=[-1, 0, 1])
    # scikit-learn leaves it undefined where chance alone would agree always
    assert kappa(table) == pytest.approx(0.0 if np.isnan(expected) else expected)


def people(count: int, noise: float, seed: int = 0) -> list[LabelledPair]:
    """Pairs whose better answer is known; each of three people errs with probability `noise`."""
    rng = np.random.default_rng(seed)
    pairs = []
    for i in range(count):
        truth = int(rng.integers(-1, 2))
        first, second = {1: ("good", "bad"), -1: ("bad", "good"), 0: ("bad", "bad")}[truth]
        texts = (first + " so" * int(rng.integers(9)), second + " so" * int(rng.integers(9)))
        labels = [int(rng.integers(-1, 2)) if rng.random() < noise else truth for _ in range(3)]
        pairs.append(LabelledPair(f"question {i // 2}", *texts, tuple(labels)))
    return pairs


def test_agreement_of_a_good_and_of_useless_judges() -> None:
    pairs = people(200, 0.2)
    found = agreement(HONEST, pairs)
    assert found.kappa > 0.85 and found.interval[0] > 0.75
    assert found.people is not None and found.people < found.kappa  # one of them errs more often
    assert found.refusal() is None
    for judge in (LENGTH, FIRST):
        useless = agreement(judge, pairs)
        assert useless.interval[0] < 0.2
        said = useless.refusal()
        assert said is not None and f"The judge {judge.name} agrees too little" in said
        assert "must reach 0.4" in said
    assert agreement(FIRST, pairs).kappa == 0


def test_the_interval_decides_and_not_the_estimate() -> None:
    few = agreement(HONEST, people(60, 0.6, seed=1))
    assert few.kappa > 0.4 > few.interval[0]
    assert few.refusal(0.4) is not None
    assert few.refusal(0.1) is None


def test_too_few_labelled_pairs() -> None:
    with pytest.raises(InputError, match=r"49 labelled pairs are too few.*at least 50"):
        agreement(HONEST, people(49, 0))


# --- length


def test_equal_length_takes_the_credit_for_length_away() -> None:
    rng = np.random.default_rng(0)
    longer = rng.normal(150, 100, 600)
    # preferred by length alone: three in four wins come of being longer
    wins = (rng.random(600) < 1 / (1 + np.exp(-longer / 100))).astype(float)
    assert wins.mean() > 0.7
    found = at_equal_length(wins, longer, resamples=400)
    assert found.interval[0] < 0.5 < found.interval[1]
    assert found.length_effect > 1


def test_a_lead_that_has_nothing_to_do_with_length_stays() -> None:
    rng = np.random.default_rng(1)
    longer = rng.normal(50, 100, 600)
    wins = np.where(rng.random(600) < 0.1, 0.5, (rng.random(600) < 0.7).astype(float))
    found = at_equal_length(wins, longer, resamples=400)
    assert found.win_rate == pytest.approx(wins.mean(), abs=0.02)
    assert found.interval[0] > 0.55
    assert abs(found.length_effect) < 0.6


def test_equal_length_equals_a_logistic_regression() -> None:
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(2)
    longer = rng.normal(20, 80, 4000)
    wins = (rng.random(4000) < 1 / (1 + np.exp(-0.3 - longer / 200))).astype(float)
    scaled = np.tanh(longer / np.sqrt(np.mean(longer**2)))
    fitted = LogisticRegression(C=1e6).fit(scaled[:, None], wins)
    found = at_equal_length(wins, longer, resamples=10)
    expected = 1 / (1 + np.exp(-fitted.intercept_[0]))
    assert found.win_rate == pytest.approx(expected, abs=1e-3)
    assert found.length_effect == pytest.approx(fitted.coef_[0][0], abs=0.01)


def test_rows_of_one_group_are_drawn_together() -> None:
    rng = np.random.default_rng(4)
    longer = rng.normal(50, 100, 150)
    wins = (rng.random(150) < 0.6).astype(float)
    once = at_equal_length(wins, longer, resamples=400)
    again = np.repeat(np.arange(150), 4)
    naive = at_equal_length(wins[again], longer[again], resamples=400)
    held = at_equal_length(wins[again], longer[again], resamples=400, clusters=list(again))
    assert held.win_rate == pytest.approx(once.win_rate, abs=0.01)
    assert held.interval == pytest.approx(once.interval, abs=0.02)
    width = held.interval[1] - held.interval[0]
    assert width > 1.6 * (naive.interval[1] - naive.interval[0])


@pytest.mark.parametrize("wins", [0.0, 0.5, 1.0])
def test_judges_that_always_say_the_same_have_finite_rates(wins: float) -> None:
    found = at_equal_length(np.full(40, wins), np.arange(40.0), resamples=50)
    assert 0 < found.win_rate < 1 and np.isfinite(found.interval).all()
    same = at_equal_length(np.full(40, wins), np.zeros(40), resamples=50)
    assert same.win_rate == pytest.approx(wins, abs=0.02)


# --- labelled pairs


def test_labelled_pairs_are_read(tmp_path: Path) -> None:
    rows = [
        {"question": "q", "first": "a", "second": "b", "label": 1},
        {"instruction": "q", "input": "x", "response1": True, "response2": "b"}
        | {"annotator1": 2, "annotator2": 2, "annotator3": 0},
        {"question": "q", "first": "a", "second": "b", "annotator1": 1, "annotator2": 2},
    ]
    path = tmp_path / "pairs.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    pairs = labelled_pairs(path)
    assert [pair.preference for pair in pairs] == [1, -1, 0]
    assert (pairs[1].question, pairs[1].first) == ("q\n\nx", "True")
    whole = tmp_path / "pairs.json"
    whole.write_text(json.dumps(rows), "utf-8")
    assert labelled_pairs(whole) == pairs


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"question": "q", "first": "a", "second": "b"}, "row 1 has no label"),
        ({"question": "q", "first": "a", "second": "b", "label": 3}, "row 1: `label` is 3"),
        ({"question": "q", "first": "a", "second": "b", "label": True}, "`label` is True"),
        ({"question": "q", "first": "a", "label": 1}, "row 1 lacks the question or an answer"),
    ],
)
def test_a_row_that_is_no_pair_is_named(tmp_path: Path, row: dict[str, Any], said: str) -> None:
    (tmp_path / "p.json").write_text(json.dumps([row]), "utf-8")
    with pytest.raises(InputError, match=said):
        labelled_pairs(tmp_path / "p.json")


def test_a_file_of_pairs_that_is_not_there_or_no_list(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        labelled_pairs(tmp_path / "p.jsonl")
    (tmp_path / "p.json").write_text("{}", "utf-8")
    with pytest.raises(InputError, match="no list of objects"):
        labelled_pairs(tmp_path / "p.json")


@pytest.mark.skipif(not DATA.is_file(), reason="the labelled pairs are not here")
def test_length_is_no_judge_of_real_answers() -> None:
    pairs = labelled_pairs(DATA)
    assert len(pairs) == 999
    found = agreement(LENGTH, pairs)
    assert found.people is not None and found.people > 0.7
    assert found.kappa < 0.4
    assert found.refusal() is not None


# --- an endpoint


@pytest.mark.parametrize(
    ("reply", "preference"),
    [
        ("A", 1),
        ("b.", -1),
        ("**C**", 0),
        ("Answer B is better because it is right.", -1),
        ("Both have merits [[A]] at first sight, but [[B]]", -1),
        ("a better answer would be longer", None),
        ("neither", None),
        ("", None),
    ],
)
def test_replies_are_read(reply: str, preference: int | None) -> None:
    assert read_reply(reply) == preference


class Server(ThreadingHTTPServer):
    """An OpenAI-compatible server that judges as told."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[tuple[str | None, dict[str, Any]]] = []
        self.failures: list[int] = []
        self.reply: str | None = None


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((self.headers["Authorization"], body))
        code = self.server.failures.pop() if self.server.failures else 200
        text = body["messages"][-1]["content"]
        first, second = text.split("[Answer A]")[1].split("[Answer B]")
        letter = {1: "A", -1: "B", 0: "C"}[int(np.sign(good(first) - good(second)))]
        said = letter if self.server.reply is None else self.server.reply
        out = json.dumps({"choices": [{"message": {"content": said}}]}).encode()
        self.send_response(code)
        self.end_headers()
        self.wfile.write(out)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as serving:
        thread = threading.Thread(target=serving.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield serving
        serving.shutdown()


def asking(server: Server, monkeypatch: pytest.MonkeyPatch | None = None) -> EndpointJudge:
    address = f"http://127.0.0.1:{server.server_port}/v1/"
    return EndpointJudge(JudgeSettings("judge-1", address, "JUDGE_KEY"), pause=0.001)


def test_an_endpoint_judges(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", "secret")
    judged = judge_blind(asking(server), DUELS)
    assert judged.preferences.tolist() == [1, -1, 0]
    key, body = server.asked[0]
    assert (key, body["model"], body["temperature"]) == ("Bearer secret", "judge-1", 0)
    assert len(server.asked) == 6


def test_an_endpoint_is_asked_again_when_it_is_busy(server: Server) -> None:
    server.failures = [503, 429]
    assert asking(server).prefer(DUELS[:1]) == [1]
    assert len(server.asked) == 3 and server.asked[0][0] is None


def test_an_endpoint_that_refuses_is_named(server: Server) -> None:
    server.failures = [401] * 9
    with pytest.raises(RunError, match=r"judge-1 at http.* cannot be asked: it replied 401"):
        asking(server).prefer(DUELS[:1])
    assert len(server.asked) == 1


def test_replies_that_name_nothing_are_ties_and_counted(server: Server) -> None:
    server.reply = "Hard to say."
    judge = asking(server)
    assert judge.prefer(DUELS) == [0, 0, 0]
    assert judge.unreadable == 3


def test_an_endpoint_that_is_not_there() -> None:
    judge = EndpointJudge(JudgeSettings("m", "http://127.0.0.1:9"), pause=0.001)
    with pytest.raises(RunError, match="cannot be asked"):
        judge.prefer(DUELS[:1])
    for address in ("", "localhost:80", "file:///etc/passwd"):
        with pytest.raises(InputError, match="is no address"):
            EndpointJudge(JudgeSettings("m", address))
