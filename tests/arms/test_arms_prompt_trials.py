"""Trying prompts against each other."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from arms_samples import COLOURS, colours, workplace
from conftest import write_tiny_model
from hypothesis import given
from hypothesis import strategies as st

from luthier.arms.base import Workplace
from luthier.arms.prompt_trials import Candidate, Clock, Trials, exchange, race
from luthier.arms.prompted import instructed
from luthier.generation.answers import Answer
from luthier.generation.local import Generator


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("trials") / "model", context=512)


def named(name: str) -> Candidate:
    return Candidate(name, "", None)  # type: ignore[arg-type]


@given(st.lists(st.integers(0, 20), min_size=1, max_size=25), st.integers(1, 4))
def test_with_scores_that_do_not_change_the_best_wins_and_ties_go_to_the_first(
    scores: list[int], rungs: int
) -> None:
    field = [named(str(n)) for n in range(len(scores))]
    asked: list[tuple[str, int]] = []

    def value(candidate: Candidate, rows: int) -> float:
        asked.append((candidate.wording, rows))
        return scores[int(candidate.wording)]

    ranked = race(field, value, range(1, rungs + 1))
    assert ranked[0].wording == str(scores.index(max(scores)))
    assert sorted(ranked, key=field.index) == field  # all are there, once
    per_rung = [sum(rows == rung for _, rows in asked) for rung in range(1, rungs + 1)]
    assert per_rung[0] == len(field)
    for before, after in pairwise(per_rung):
        assert after == (before if before <= 2 else max(2, -(-before // 2)))


@given(st.lists(st.integers(0, 9), min_size=1, max_size=12), st.integers(0, 30))
def test_when_time_runs_out_the_last_whole_rung_counts(scores: list[int], calls: int) -> None:
    field = [named(str(n)) for n in range(len(scores))]
    done: list[tuple[str, int]] = []

    def value(candidate: Candidate, rows: int) -> float:
        done.append((candidate.wording, rows))
        return scores[int(candidate.wording)]

    ranked = race(field, value, [1, 2], lambda: len(done) >= calls)
    first = [name for name, rows in done if rows == 1]
    assert first  # one is always scored
    assert sorted(c.wording for c in ranked) == sorted(first)
    assert scores[int(ranked[0].wording)] == max(scores[int(name)] for name in first)


def test_nobody_to_race() -> None:
    assert race([], lambda c, n: 0.0, [1, 2]) == []


def test_an_exchange_is_kept_only_where_it_helps() -> None:
    rows = colours(0, 12)
    good = {rows[5].id, rows[7].id}

    def remade(candidate: Candidate, examples: Sequence[Any]) -> Candidate | None:
        if rows[11] in examples:  # too long, say
            return None
        return Candidate("w", "e", None, tuple(examples))  # type: ignore[arg-type]

    start = remade(named("w"), rows[:3])
    assert start is not None
    found = exchange(
        start,
        remade,
        [(0, rows[11]), (0, rows[4]), (1, rows[5]), (1, rows[6]), (2, rows[5]), (2, rows[7])],
        lambda c: sum(e.id in good for e in c.examples),
    )
    assert found.examples == (rows[0], rows[5], rows[7])
    assert exchange(start, remade, [(0, rows[5])], lambda c: 0.0, lambda: True) is start


def place_of(model: Path, folder: Path, **changes: Any) -> Workplace:
    return workplace(model, folder, **changes)


def candidates(place: Workplace) -> list[Candidate]:
    bare = instructed(place.task, place.pool)
    return [Candidate(t, "none", bare.with_instruction(t)) for t in ("Say it.", "The colour?")]


def test_a_prompt_is_asked_about_new_rows_alone_and_a_journal_goes_on(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    real = Generator.score

    def score(self: Generator, prompts: Any, *rest: Any) -> Any:
        asked.append(len(prompts))
        return real(self, prompts, *rest)

    monkeypatch.setattr(Generator, "score", score)
    place = place_of(model, tmp_path)
    journal = tmp_path / "search" / "journal.jsonl"
    rows = colours(50, 6)
    first, second = candidates(place)
    trials = Trials(place, "arm", rows, 4, journal)
    three, six = trials.value(first, 3), trials.value(first, 6)
    assert asked == [3 + 3, 3]  # three questions without content, once
    trials.value(second, 2)
    assert trials.table[first.key]["rows"] == 6 and trials.table[second.key]["rows"] == 2
    # interrupted while a line was being written
    with journal.open("a") as file:
        file.write('{"prompt": "torn')
    again = Trials(place, "arm", rows, 4, journal)
    before = len(asked)
    assert (again.value(first, 3), again.value(first, 6)) == (three, six)
    assert len(asked) == before
    again.value(second, 4)
    assert asked[-1] == 2
    third = Trials(place, "arm", rows, 4, journal)
    assert third.value(second, 4) == again.value(second, 4)
    assert len(asked) == before + 1


def test_a_journal_of_another_model_or_of_other_labels_is_not_believed(
    model: Path, tmp_path: Path
) -> None:
    place = place_of(model, tmp_path)
    journal = tmp_path / "journal.jsonl"
    (first, _), rows = candidates(place), colours(50, 4)
    Trials(place, "arm", rows, 4, journal).value(first, 4)
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    other = place_of(model, tmp_path, labels=(*COLOURS, "white"))
    Trials(other, "arm", rows, 4, journal).value(first, 4)
    after = [json.loads(line) for line in journal.read_text().splitlines()]
    assert len(after) == len(lines) + 1 and after[-1]["of"] != lines[-1]["of"]


def test_written_answers_are_scored_by_the_tasks_metric(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    how: dict[str, Any] = {"labels": None, "kind": "qa", "generation": {"max_new_tokens": 3}}
    place = place_of(model, tmp_path, **how)
    trials = Trials(place, "arm", colours(50, 4), 3, tmp_path / "journal.jsonl")
    first = candidates(place)[0]
    # red, blue, green, red are asked for: one word of three is right (F1 1/2), none, all, none
    said = iter(["red and blue", "red", "Green.", "no"])
    monkeypatch.setattr(
        Generator,
        "generate",
        lambda self, asked, *rest: [Answer(next(said), seconds=0.0) for _ in asked],
    )
    assert trials.value(first, 4) == pytest.approx((0.5 + 0 + 1 + 0) / 4)
    # whether a written answer is wrong is no question: all rows may need another example
    assert trials.wrong(first) == list(trials.rows)


def test_a_prompt_that_does_not_fit_is_worth_nothing(model: Path, tmp_path: Path) -> None:
    for how in ({}, {"labels": None, "kind": "qa", "generation": {"max_new_tokens": 3}}):
        place = place_of(model, tmp_path, **how)
        bare = instructed(place.task, place.pool)
        long = Candidate("long", "none", bare.with_instruction("x" * 600))
        trials = Trials(place, "arm", colours(50, 4), 3, tmp_path / "journal.jsonl")
        assert trials.value(long, 2) == float("-inf")
        assert trials.table[long.key]["score"] is None
        # no label was read, so none was misread; where answers are written all rows count
        assert trials.wrong(long) == ([] if place.labels else list(trials.rows))


def test_wrong_rows_are_those_whose_label_is_not_the_likeliest(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # green is always the likeliest, whatever is asked
    scores = lambda self, prompts, *rest: ([[-2.0, -1.0, -3.0]] * len(prompts), [0.0])  # noqa: E731
    monkeypatch.setattr(Generator, "score", scores)
    place = place_of(model, tmp_path)
    trials = Trials(place, "arm", colours(0, 6), 4, tmp_path / "journal.jsonl")
    first = candidates(place)[0]
    assert trials.value(first, 6) == pytest.approx(1 / 3)
    assert {row.output for row in trials.wrong(first)} == {"blue", "red"}


def test_a_clock_says_when_a_share_is_used_up() -> None:
    clock = Clock(3600)
    assert not clock.out() and not clock.out(0.5) and not clock.ran_out
    spent = Clock(0)
    assert spent.out() and spent.ran_out
