"""Probes from files and from lm-eval, text in bits per byte, and what is said of bad rows."""

from __future__ import annotations

import json
import math
import sys
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from luthier.errors import InputError
from luthier.evaluation.forgetting import (
    Measured,
    Probes,
    changed,
    choice_scores,
    drop,
    measure,
    text_bits,
)
from luthier.evaluation.probe_items import Gap, Passage, Probe, pair_ids, spread
from luthier.evaluation.probe_sources import (
    anchored_sources,
    general_passages,
    general_probes,
    read_probes,
)
from luthier.evaluation.token_likelihood import token_scores
from luthier.models.pool import ModelPool
from luthier.task import Task

DATA = Path(__file__).parents[3] / "shared" / "data" / "general"


def write(path: Path, *rows: dict[str, Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path.name


# ---- reading -----------------------------------------------------------------------------------


def test_every_form_of_row_is_read(tmp_path: Path) -> None:
    name = write(
        tmp_path / "mixed.jsonl",
        {"query": "Question: why?\n", "choices": ["so", "no"], "gold": 1},
        {"query": "It rained, therefore ", "choices": ["wet", "dry"], "gold": 0},
        {"query": "Why?", "choices": ["a", "b"], "gold": 0, "delimiter": "\n"},
        {
            "context_options": ["Ann slept so Ann", "Ann slept so Bo"],
            "continuation": "x",
            "gold": 1,
        },
        {"context": "He lit the ", "continuation": "lamp"},
        {"text": "General text."},
    )
    found = read_probes([name], tmp_path)
    assert [probe.asked(probe.gold) for probe in found.questions] == [
        ("Question: why?", "\nAnswer: no"),
        ("It rained, therefore", " wet"),
        ("Why?", "\na"),
        ("Ann slept so Bo", " x"),
    ]
    assert found.questions[0].choices == ("so", "no")
    assert [(gap.context, gap.continuation) for gap in found.gaps] == [("He lit the", " lamp")]
    assert [one.text for one in found.passages] == ["General text."]
    assert {item.area for item in found.items} == {"mixed"}
    assert len({item.id for item in (*found.items, *found.passages)}) == 6


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"query": "q", "choices": ["a"], "gold": 0}, "`choices`"),
        ({"query": "q", "choices": "ab", "gold": 0}, "`choices`"),
        ({"query": "q", "choices": ["a", 3], "gold": 0}, "`choices`"),
        ({"query": "q", "choices": ["a", "b"], "gold": 2}, "0 to 1"),
        ({"query": "q", "choices": ["a", "b"], "gold": True}, "`gold` is true"),
        ({"query": "q", "choices": ["a", "b"]}, "`gold` is missing"),
        ({"query": " ", "choices": ["a", "b"], "gold": 0}, "`query`"),
        ({"context": "c"}, "`continuation` is missing"),
        ({"question": "c"}, "no probe"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, row: dict[str, Any], said: str) -> None:
    good = {"query": "q", "choices": ["a", "b"], "gold": 0}
    name = write(tmp_path / "p.jsonl", good, row)
    with pytest.raises(InputError, match=r"p\.jsonl line 2") as error:
        read_probes([name], tmp_path)
    assert said in str(error.value)


def test_a_folder_is_its_files_and_a_limit_is_spread(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "empty").mkdir()
    rows = [{"context": f"c{i}", "continuation": f"{i}"} for i in range(10)]
    write(tmp_path / "set" / "a.jsonl", *rows)
    write(tmp_path / "set" / "b.jsonl", {"text": "t"})
    (tmp_path / "set" / "notes.md.bak").write_text("no rows")
    found = read_probes(["set"], tmp_path, limit=5)
    assert [gap.continuation for gap in found.gaps] == [" 0", " 2", " 4", " 6", " 8"]
    assert [one.area for one in found.passages] == ["b"]
    assert found.notes == ("set/a.jsonl: 5 of 10 rows are asked.",)
    with pytest.raises(InputError, match="holds no file"):
        read_probes(["empty"], tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        read_probes(["nowhere.jsonl"], tmp_path)


def test_general_is_what_comes_with_the_project(tmp_path: Path) -> None:
    name = write(tmp_path / "more.jsonl", {"text": "t"})
    found = read_probes(["general", name, "general"], tmp_path)
    assert found.questions == general_probes()
    assert found.passages == (*general_passages(), Passage("more-1", "more", "t"))
    assert found.hash != read_probes(["general"], tmp_path).hash
    assert found.hash == read_probes(["general", name], tmp_path).hash


def test_the_task_names_them(tmp_path: Path) -> None:
    values = {
        "name": "t",
        "kind": "qa",
        "data": {"train": "t.jsonl", "input": "{{ a }}", "output": "{{ b }}"},
    }
    plain = Task.from_dict(values)
    assert plain.forgetting.probes == ("general",)
    assert plain.memorisation is None  # looked for where it is asked for
    named = Task.from_dict({**values, "forgetting": {"probes": ["x.jsonl", "lm-eval:piqa"]}})
    assert anchored_sources(named.forgetting.probes, tmp_path) == [
        str(tmp_path / "x.jsonl"),
        "lm-eval:piqa",
    ]
    for bad in ({"probes": []}, {"limit": 0}, {"probe": ["general"]}):
        with pytest.raises(InputError, match="forgetting"):
            Task.from_dict({**values, "forgetting": bad})


@given(st.lists(st.integers(), max_size=50), st.integers(1, 60))
def test_spread_keeps_order_and_count(items: list[int], limit: int) -> None:
    numbered = list(enumerate(items))
    found = spread(numbered, limit)
    assert len(found) == min(limit, len(items))
    assert found == sorted(set(found))


@pytest.mark.skipif(not DATA.is_dir(), reason="the public data sets are not here")
def test_the_public_sets_are_read() -> None:
    found = read_probes([str(DATA)], Path(), limit=40)
    areas = {item.area for item in found.items}
    assert areas == {p.stem for p in DATA.glob("*.jsonl")}
    assert len(found.items) == 40 * len(areas)
    assert len(found.gaps) == 40
    winogrande = [q for q in found.questions if q.area == "winogrande"]
    assert all(len(q.contexts) == 2 for q in winogrande)
    whole = read_probes([str(DATA / "piqa.jsonl")], Path())
    assert len(whole.questions) == 1838


# ---- lm-eval -----------------------------------------------------------------------------------


@dataclass
class Instance:
    doc: dict[str, Any]
    arguments: tuple[Any, ...]
    idx: int
    doc_id: int


class FakeTask:
    """As much of lm-eval's ConfigurableTask as is used."""

    def __init__(self, kind: str, docs: list[dict[str, Any]]) -> None:
        self.OUTPUT_TYPE = kind
        self._docs = docs
        self.instances: list[Instance] = []

    def doc_to_choice(self, doc: dict[str, Any]) -> list[str]:
        return list(doc["choices"])

    def doc_to_target(self, doc: dict[str, Any]) -> Any:
        return doc["gold"]

    def doc_to_text(self, doc: dict[str, Any]) -> Any:
        return doc["answer"]

    def build_all_requests(self, *, limit: int | None, rank: int, world_size: int) -> None:
        assert (rank, world_size) == (0, 1)
        self.instances = [
            Instance(doc, pair, index, number)
            for number, doc in enumerate(self._docs[:limit])
            for index, pair in enumerate(doc["pairs"])
        ]


CHOICES = {"choices": ["yes", "no"], "gold": "no", "pairs": [("Q\nA:", " yes"), ("Q\nA:", " no")]}
WAYS = {
    "choices": ["Ann", "Bo"],
    "answer": 1,
    "gold": 0,
    "pairs": [("so Ann", " won"), ("so Bo", " won")],
}


def install(monkeypatch: pytest.MonkeyPatch, tasks: dict[str, Any]) -> None:
    class TaskManager:
        all_tasks = tuple(tasks)

    def get_task_dict(names: list[str], manager: Any) -> dict[str, Any]:
        assert isinstance(manager, TaskManager)
        if isinstance(tasks[names[0]], Exception):
            raise tasks[names[0]]
        return {names[0]: tasks[names[0]]}

    module = types.ModuleType("lm_eval.tasks")
    module.TaskManager = TaskManager  # type: ignore[attr-defined]
    module.get_task_dict = get_task_dict  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "lm_eval", types.ModuleType("lm_eval"))
    monkeypatch.setitem(sys.modules, "lm_eval.tasks", module)


def test_tasks_of_lm_eval_become_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    more = {**CHOICES, "pairs": [*CHOICES["pairs"], ("", " yes"), ("", " no")]}
    install(
        monkeypatch,
        {
            "piqa": FakeTask("multiple_choice", [CHOICES, more, CHOICES]),
            "group": {
                "wino": FakeTask("multiple_choice", [WAYS]),
                "lambada": FakeTask("loglikelihood", [{"pairs": [("He lit the", " lamp")]}]),
                "wiki": FakeTask("loglikelihood_rolling", [{"pairs": [("Text.",)]}]),
            },
        },
    )
    found = read_probes(["lm-eval:piqa", "lm-eval:group"], Path(), limit=2)
    piqa = [probe for probe in found.questions if probe.area == "piqa"]
    assert [probe.asked(probe.gold) for probe in piqa] == [("Q\nA:", " no")] * 2
    assert piqa[1].choices == ("yes", "no")
    (wino,) = (probe for probe in found.questions if probe.area == "wino")
    assert wino.asked(wino.gold) == ("so Bo", " won")
    assert [(g.area, g.context, g.continuation) for g in found.gaps] == [
        ("lambada", "He lit the", " lamp")
    ]
    assert [one.text for one in found.passages] == ["Text."]


def test_what_lm_eval_cannot_give_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    install(
        monkeypatch,
        {
            "gsm8k": FakeTask("generate_until", [{"pairs": [("q", {})]}]),
            "piqa": ConnectionError("no route to the hub"),
        },
    )
    with pytest.raises(InputError, match="answered by writing"):
        read_probes(["lm-eval:gsm8k"], Path())
    with pytest.raises(InputError, match="no route to the hub"):
        read_probes(["lm-eval:piqa"], Path())
    with pytest.raises(InputError, match="Did you mean 'piqa'"):
        read_probes(["lm-eval:piqua"], Path())
    monkeypatch.setitem(sys.modules, "lm_eval.tasks", None)
    with pytest.raises(InputError, match="lm-eval is not installed"):
        read_probes(["lm-eval:piqa"], Path())


# ---- measuring ---------------------------------------------------------------------------------


def logprobs(loaded: Any, context: list[int], scored: list[int]) -> torch.Tensor:
    """(scored, vocabulary), one row alone and no batch."""
    with torch.inference_mode():
        logits = loaded.model(torch.tensor([context + scored])).logits[0].double()
    return torch.log_softmax(logits[len(context) - 1 : -1], dim=-1)


def test_token_scores_are_those_of_the_model(tiny_model: Path) -> None:
    loaded = ModelPool().causal(str(tiny_model))
    rng = np.random.default_rng(0)
    rows = [
        (rng.integers(0, 250, size=n).tolist(), rng.integers(0, 250, size=m).tolist())
        for n, m in ((1, 3), (9, 1), (4, 30), (2, 0), (17, 8))
    ]
    counted: list[int] = []
    found = token_scores(loaded.model, rows, batch_tokens=40, progress=counted.append)
    assert sum(counted) == len(rows)
    for (context, scored), own in zip(rows, found, strict=True):
        assert len(own.logprob) == len(scored)
        if not scored:
            continue
        log = logprobs(loaded, context, scored)
        share = log.exp()
        mean = (share * log).sum(-1)
        deviation = (share * log.square()).sum(-1).sub(mean.square()).sqrt()
        own_log = log[torch.arange(len(scored)), torch.tensor(scored)]
        assert np.allclose(own.logprob, own_log, atol=1e-4)
        assert np.allclose(own.mean, mean, atol=1e-4)
        assert np.allclose(own.deviation, deviation, atol=1e-4)
        assert own.greedy.tolist() == (log.argmax(-1) == torch.tensor(scored)).tolist()
        assert own.total == pytest.approx(float(own_log.sum()), abs=1e-3)
    with pytest.raises(ValueError, match="no tokens"):
        token_scores(loaded.model, [([], [1])])


def test_bits_of_a_text_longer_than_the_context(tiny_model: Path) -> None:
    generator = ModelPool().generator(str(tiny_model))
    loaded = ModelPool().causal(str(tiny_model))
    text = "Grüße aus dem Tal. " * 40  # about 850 tokens of a byte each; 512 fit
    ids = loaded.tokenizer(text, add_special_tokens=False)["input_ids"]
    assert len(ids) > 512
    first = loaded.tokenizer.bos_token_id
    nats = 0.0
    for start, before in ((0, first), (511, ids[510])):
        window = ids[start : start + 511]
        log = logprobs(loaded, [before], window)
        nats -= float(log[torch.arange(len(window)), torch.tensor(window)].sum())
    (bits,) = text_bits(generator, [Passage("1", "a", text)])
    assert bits == pytest.approx(nats / math.log(2), rel=1e-5)


def test_ways_to_begin_are_scored_with_their_own_context(tiny_model: Path) -> None:
    pool = ModelPool()
    loaded, generator = pool.causal(str(tiny_model)), pool.generator(str(tiny_model))
    plain = Probe("1", "a", "The sky is", ("blue", "a cow"), 0, " ")
    ways = Probe("2", "a", "", ("won.", "won."), 0, " ", ("so Ann", "so the old Bo"))
    overlong = Probe("3", "a", "x" * 600, ("a", "b"), 0, " ")
    found = choice_scores(generator, [plain, ways, overlong])
    assert found[2] is None
    for probe, row in zip((plain, ways), found, strict=False):
        assert row is not None
        for choice, value in enumerate(row):
            before, after = pair_ids(loaded.tokenizer, *probe.asked(choice))
            log = logprobs(loaded, before, after)
            wanted = float(log[torch.arange(len(after)), torch.tensor(after)].sum())
            assert value == pytest.approx(wanted, abs=1e-3)


def test_a_gap_is_right_where_greedy_writes_it(tiny_model: Path) -> None:
    pool = ModelPool()
    loaded, generator = pool.causal(str(tiny_model)), pool.generator(str(tiny_model))
    context = "He lit the"
    ids = loaded.tokenizer(context, add_special_tokens=False)["input_ids"]
    written = list(ids)
    for _ in range(200):
        with torch.inference_mode():
            written.append(int(loaded.model(torch.tensor([written])).logits[0, -1].argmax()))
        text = loaded.tokenizer.decode(written[len(ids) :])
        if not text.isascii() or loaded.tokenizer.bos_token_id in written:
            break
        if len(text) == 2:
            break
    right = Gap("1", "a", context, loaded.tokenizer.decode(written[len(ids) :]))
    again = loaded.tokenizer(context + right.continuation, add_special_tokens=False)["input_ids"]
    known = again == written  # what greedy writes may not be a text that reads as the same tokens
    wrong = Gap("2", "a", context, " lamp, 3 of them")
    overlong = Gap("3", "a", "y" * 600, " z")
    found = measure(generator, Probes(gaps=(right, wrong, overlong)))
    assert found.right[1:] == (False, None)
    if known:
        assert found.right[0] is True


def test_the_change_by_hand() -> None:
    probes = Probes(
        questions=tuple(Probe(str(i), "a", "?", ("x", "y"), 0) for i in range(4)),
        gaps=(Gap("g", "b", "c", "d"), Gap("h", "b", "c", "d")),
        passages=(Passage("p", "news", "abcd"), Passage("q", "story", "ab")),
    )
    before = Measured((True, True, True, False, True, True), (8.0, 4.0))
    after = Measured((True, False, False, False, False, None), (8.0, 7.0))
    found = changed(probes, before, after, seed=0)
    # five items are paired: two questions lost, 2 each, and a gap, 1
    assert found["drop"] == pytest.approx((2 + 2 + 1) / 5)
    assert found["left_out"] == 1
    assert found["probes"]["b"]["n"] == 1
    bits = found["bits_per_byte"]
    assert (bits["before"], bits["after"], bits["n"]) == (2.0, 2.5, 2)
    assert bits["change"] == 0.5
    assert bits["probes"]["news"]["change"] == 0
    assert bits["probes"]["story"]["change"] == 1.5
    low, high = bits["interval"]
    assert low <= 0.5 <= high
    assert Measured.from_dict(before.to_dict()) == before
    only_text = changed(
        Probes(passages=probes.passages),
        Measured((), before.bits),
        Measured((), before.bits),
        seed=0,
    )
    assert only_text["drop"] is None
    assert only_text["bits_per_byte"]["interval"] == [0, 0]


@pytest.mark.parametrize(("share", "count"), [(0.3, 15), (0.9, 15), (0.5, 60)])
def test_the_interval_of_an_area_covers(share: float, count: int) -> None:
    """Nothing was forgotten: 95 % of the intervals have 0 in them; of 60 at least 52."""
    rng = np.random.default_rng(0)
    probes = [Probe(str(i), "a", "?", ("x", "y", "z", "w"), 0) for i in range(count)]
    held = 0
    for _ in range(60):
        before, after = (rng.random(count) < share for _ in range(2))
        low, high = drop(probes, before.tolist(), after.tolist(), seed=0)["probes"]["a"]["interval"]
        held += low <= 0 <= high
    assert held >= 52
