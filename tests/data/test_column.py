"""Columns and sorting give the same in files as in memory, and the cuts that rest on them too."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from run_samples import luthier
from split_cases import CASES, GOLDEN, outcome

from luthier.data import column, cutting, near_keys, shares, stratify, units, words
from luthier.data.column import Column, in_order, record, records
from luthier.data.split_files import Wish, split_file
from luthier.data.units import join, own_labels
from luthier.progress import Bar, Reporter
from luthier.task_sections import Split

_RECORD = record(np.uint64, row=np.int32)


@pytest.fixture
def little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """So little that five rows go to files."""
    for module, name, value in (
        (column, "IN_MEMORY", 5), (column, "BLOCK", 7), (column, "RUN", 16),
        (column, "_WAITING", 3),
        (units, "BLOCK", 7), (units, "_LINKS", 11), (units, "_TABLE", 8), (stratify, "BLOCK", 40),
        (stratify, "_AT_ONCE", 4), (shares, "_AT_ONCE", 6), (cutting, "_AT_ONCE", 5),
        (words, "BATCH", 9), (words, "CHARACTERS", 300), (words, "HASHED", 100),
        (words, "IN_MEMORY", 0),
        (near_keys, "AT_ONCE", 400), (near_keys, "MOST_FILES", 3),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, value)


@pytest.mark.parametrize("way", list(CASES))
def test_files_are_cut_as_in_memory(way: str, little_memory: None) -> None:
    held = json.loads(GOLDEN.read_text("utf-8"))[way]
    some = range(0, CASES[way], 4)
    assert [number for number in some if outcome(way, number) != held[number]] == []


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_column_is_an_array(data: st.DataObject) -> None:
    numbers = st.integers(-(2**31), 2**31 - 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(column, "IN_MEMORY", data.draw(st.sampled_from([0, 4, 1000])))
        patch.setattr(column, "BLOCK", data.draw(st.sampled_from([1, 3, 1000])))
        held: list[int] = []
        made = Column(np.int32)
        for _ in range(data.draw(st.integers(0, 4))):
            some = data.draw(st.lists(numbers, max_size=12))
            made.append(np.array(some, np.int32))
            held += some
            one = data.draw(numbers)
            made.add(one)
            held.append(one)
        assert len(made) == len(held)
        assert list(made) == made.array().tolist() == held
        places = data.draw(st.lists(st.integers(0, len(held) - 1), max_size=20)) if held else []
        at = np.array(places, np.int64)
        assert made.take(at).tolist() == [held[place] for place in places]
        values = list(range(len(places)))
        made.put(at, np.array(values))
        for place, value in zip(places, values, strict=True):
            held[place] = value
        assert list(made) == held
        made.put(at, -1)
        assert all(made[place] == -1 for place in places)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 9), max_size=30), max_size=12), st.sampled_from([1, 4, 9, 999])
)
def test_sorting_keeps_the_order_of_equal_ones(lots: list[list[int]], run: int) -> None:
    rows = [(key, row) for row, key in enumerate(key for lot in lots for key in lot)]
    given_ = []
    done = 0
    for lot in lots:
        row = np.arange(done, done + len(lot))
        given_.append(records(_RECORD, key=np.array(lot, np.uint64), row=row))
        done += len(lot)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(column, "RUN", run)
        found = [pair for lot in in_order(iter(given_)) for pair in lot.tolist()]
    assert found == sorted(rows)


@settings(max_examples=100, deadline=None)
@given(
    st.integers(1, 30),
    st.lists(st.lists(st.tuples(st.integers(0, 29), st.integers(0, 29)), max_size=8), max_size=6),
)
def test_sets_are_joined_and_known_by_their_first(
    size: int, lots: list[list[tuple[int, int]]]
) -> None:
    label, expected = own_labels(size), list(range(size))
    for lot in lots:
        pairs = [(a % size, b % size) for a, b in lot]
        both = np.array(pairs, np.int64).reshape(-1, 2)
        join(label, both[:, 0], both[:, 1])
        for a, b in pairs:
            one, other = sorted((expected[a], expected[b]))
            expected = [one if held == other else held for held in expected]
    assert list(label) == expected


def test_a_full_disk_names_the_folder_of_temporary_files(
    tmp_path: Path,
    little_memory: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = [json.dumps({"text": f"the row of number {n} says so", "n": n}) for n in range(60)]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines), "utf-8")

    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    code, _, said = luthier(capsys, "split", tmp_path / "rows.jsonl", "--out", tmp_path / "out")
    said = " ".join(said.split())
    assert code == 2
    assert "TMPDIR" in said and "No space left" in said and "Traceback" not in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.jsonl"]


class _Stopped(Bar):
    def advance(self, amount: float = 1) -> None:
        raise KeyboardInterrupt


class _StopsWhileWriting(Reporter):
    @contextlib.contextmanager
    def work(self, what: str, total: float) -> Iterator[Bar]:
        yield _Stopped() if what == "writing" else Bar()


def test_nothing_is_left_behind_by_ctrl_c(
    tmp_path: Path, little_memory: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    rows = [json.dumps({"text": f"the row of number {n} says so"}) for n in range(60)]
    (tmp_path / "rows.jsonl").write_text("\n".join(rows), "utf-8")
    wish = Wish(Split(test=0.2, validation=0.1))
    with pytest.raises(KeyboardInterrupt):
        split_file("rows.jsonl", tmp_path, tmp_path / "out", wish, _StopsWhileWriting())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.jsonl", "temporary"]
    assert list((tmp_path / "temporary").iterdir()) == []
