"""A run with a judge: held against people first, then asked about every answer."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from run_samples import read_jsonl, write_task

import luthier
from luthier.errors import InputError
from luthier.evaluation.judging import JUDGES, Duel, Judge
from luthier.task import Task


class Honest(Judge):
    """Finds the answer better that holds a colour's name; counts what it was asked."""

    name = "honest"

    def __init__(self) -> None:
        self.asked: list[Duel] = []

    def prefer(self, duels: Sequence[Duel], progress: Any = None) -> list[int]:
        self.asked += duels
        holds = [
            [any(c in text for c in ("blue", "green", "red")) for text in (d.first, d.second)]
            for d in duels
        ]
        return [int(first) - int(second) for first, second in holds]


@pytest.fixture
def judge(monkeypatch: pytest.MonkeyPatch) -> Honest:
    JUDGES.names()
    made = Honest()
    monkeypatch.setitem(JUDGES._pieces, "local", lambda settings: made)
    return made


def labelled(folder: Path, pairs: int = 60, right: float = 1.0) -> str:
    """A file of labelled pairs, of which a share is labelled as the honest judge would."""
    rng = random.Random(0)
    rows = []
    for i in range(pairs):
        label = 1 + i % 2
        texts = ("red", "rot")[:: 1 if label == 1 else -1]
        said = label if rng.random() < right else 3 - label
        rows.append({"question": f"q{i}", "first": texts[0], "second": texts[1], "label": said})
    (folder / "pairs.json").write_text(json.dumps(rows), "utf-8")
    return "pairs.json"


def chat(folder: Path, model: Path, right: float = 1.0, **changes: Any) -> Path:
    wanted = {"model": "strong", "labelled": labelled(folder, right=right)}
    values = {"kind": "chat", "arms": ["zero-shot"], "metric": "win_rate", "judge": wanted}
    return write_task(folder, model, **{**values, **changes})


def test_a_judge_decides(tiny_model: Path, tmp_path: Path, judge: Honest) -> None:
    path = chat(tmp_path, tiny_model, generation={"max_new_tokens": 4})
    run = luthier.run(path, out=tmp_path / "run")
    verdict = run.verdict
    assert verdict["metric"] == "win_rate"
    assert verdict["judge"]["refused"] is None
    assert verdict["judge"]["agreement"]["kappa"] == 1
    rows = read_jsonl(run.folder / "arms" / "zero-shot" / "predictions.jsonl")
    assert [row["judged"] for row in rows] == [row["score"] for row in rows]
    (arm,) = verdict["arms"]
    assert arm["failed"] is None
    assert arm["score"] == pytest.approx(sum(row["judged"] for row in rows) / len(rows))
    assert arm["judged"]["win_rate"] == pytest.approx(arm["score"])
    assert 0 < arm["judged"]["at_equal_length"] < 1
    # both ways round: 60 labelled pairs, and every answer that is not its reference itself
    assert len(judge.asked) == 2 * (60 + sum(r["prediction"] != r["reference"] for r in rows))
    # the judge was asked about people's pairs once
    before = len(judge.asked)
    luthier.run(path, out=tmp_path / "run", resume=True)
    assert len(judge.asked) == before


def test_a_judge_that_people_disagree_with_may_not_decide(
    tiny_model: Path, tmp_path: Path, judge: Honest
) -> None:
    path = chat(tmp_path, tiny_model, right=0.6)
    with pytest.raises(InputError, match="The judge honest agrees too little with people") as told:
        luthier.run(path, out=tmp_path / "run")
    assert "the lower end must reach 0.4" in str(told.value)
    assert len(judge.asked) == 120  # and no arm was run
    assert not (tmp_path / "run" / "verdict.json").exists()
    # beside a metric that needs no judge, it is said
    path = chat(tmp_path, tiny_model, right=0.6, metric="rougeL")
    verdict = luthier.run(path, out=tmp_path / "other").verdict
    assert verdict["metric"] == "rougeL"
    assert "agrees too little" in verdict["judge"]["refused"]
    assert "win_rate" in verdict["arms"][0]["metrics"]


def test_what_is_wrong_with_a_judge_is_said_at_once(
    tiny_model: Path, tmp_path: Path, judge: Honest
) -> None:
    wanted = {"model": "strong", "labelled": labelled(tmp_path, pairs=20)}
    path = write_task(tmp_path, tiny_model, kind="chat", arms=["zero-shot"], judge=wanted)
    with pytest.raises(InputError, match="holds 20 labelled pairs"):
        luthier.run(path, out=tmp_path / "run")
    with pytest.raises(InputError, match="`metric: win_rate` needs a `judge`"):
        Task.load(write_task(tmp_path, tiny_model, kind="chat", metric="win_rate"))
    with pytest.raises(InputError, match="`judge` belongs to kind: chat"):
        Task.load(write_task(tmp_path, tiny_model, judge=wanted))
    assert not judge.asked
