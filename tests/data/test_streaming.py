"""Large sources: rows that lie in a file, the same as those in memory, read once."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from distinct_texts import text
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from luthier.data import prepare as prepare_module
from luthier.data import streaming
from luthier.data.examples import Example, Message
from luthier.data.prepare import Prepared, prepare
from luthier.data.stored import (
    Chosen,
    Joined,
    Stored,
    chosen_from,
    decode_example,
    encode_example,
    store,
)
from luthier.data.streaming import is_large
from luthier.errors import InputError
from luthier.progress import Reporter
from luthier.task import Task

TALK = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LUTHIER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "rows"


def write(folder: Path, held: list[dict[str, Any]], name: str = "train.jsonl") -> None:
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in held), "utf-8")


def task(folder: Path, kind: str = "generation", **data: Any) -> Task:
    ways = {} if "messages" in data else {"input": "{{ q }}", "output": "{{ a }}"}
    return Task.from_dict(
        {"name": "t", "kind": kind, "data": {"train": "train.jsonl", **ways, **data}},
        path=folder / "task.yaml",
    )


def both(made: Task, monkeypatch: pytest.MonkeyPatch) -> tuple[Prepared, Prepared]:
    """(prepared in memory, prepared through a file)."""
    whole = prepare(made)
    assert isinstance(whole.splits.train, tuple)
    monkeypatch.setattr(streaming, "LARGE", 0)
    kept = prepare(made)
    assert isinstance(kept.splits.train, Chosen)
    return whole, kept


def alike(made: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, kept = both(made, monkeypatch)
    for (name, one), (_, other) in zip(whole.splits.items(), kept.splits.items(), strict=True):
        assert list(one) == list(other), name
    assert whole.labels == kept.labels
    assert whole.notes == kept.notes


def rows(count: int) -> list[dict[str, Any]]:
    return [
        {
            "q": text(n),
            "a": " ab"[n % 2 + 1] + " ",
            "who": f"g{n // 3}",
            "n": n,
            "day": f"2021-{n % 12 + 1:02}-03",
        }
        for n in range(count)
    ]


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("generation", {}),
        ("classification", {}),
        ("classification", {"limit": {"train": 30, "test": 10}}),
        ("generation", {"group": "who"}),
        ("generation", {"split": {"time": "day", "test": 0.2}}),
        ("generation", {"split": {"stratify": "who", "test": 30}}),
        ("classification", {"split": {"lock": "here.lock"}}),
    ],
)
def test_the_same_examples_ids_and_splits_as_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, data: dict[str, Any]
) -> None:
    repeats = [{"q": "the same each time", "a": "a", "who": "x", "n": 0, "day": "2021-01-03"}] * 3
    write(tmp_path, [*repeats, *rows(100)])
    if "lock" in data.get("split", {}):
        prepare(task(tmp_path, kind, **data))  # what it writes is read by both
    alike(task(tmp_path, kind, **data), monkeypatch)


def test_given_files_and_own_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, [{**row, "id": f"own-{n}"} for n, row in enumerate(rows(40))])
    write(tmp_path, rows(60)[40:], "test.jsonl")
    alike(task(tmp_path, test="test.jsonl"), monkeypatch)


def test_conversations_with_weights_and_anything_in_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = ["\u2028\x0b\x1c\x85 lines", "ünï 😀", 'quotes " and \\', "\ttab\r\nnext"]
    talks = [
        [*TALK, {"role": "assistant", "content": f"{said[n % 4]} {n}", "weight": n % 2}]
        for n in range(40)
    ]
    write(
        tmp_path,
        [
            {"m": [{**t, "content": f"{t['content']} {n}"} for t in talk]}
            for n, talk in enumerate(talks)
        ],
    )
    alike(task(tmp_path, "chat", messages="m"), monkeypatch)


@pytest.mark.parametrize(
    "broken",
    [
        {"q": "x", "a": " "},
        {"q": "", "a": "x"},
        {"q": "x"},
        {"q": "\ud83d", "a": "x"},
        {"q": "x", "a": "b", "id": "1"},
    ],
)
def test_what_is_refused_in_memory_is_refused_in_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path, broken: dict[str, Any]
) -> None:
    write(tmp_path, [{"q": "first", "a": "x", "id": "1"}, *rows(20), broken])
    with pytest.raises(InputError) as whole:
        prepare(task(tmp_path))
    monkeypatch.setattr(streaming, "LARGE", 0)
    with pytest.raises(InputError) as kept:
        prepare(task(tmp_path))
    if "same id" in str(whole.value):  # only one of the two places is still known
        assert "train.jsonl line 22 has the same id '1'" in str(kept.value)
    else:
        assert str(kept.value) == str(whole.value)
    assert not list(cache.iterdir())  # nothing half made is left


# ---- the cache ---------------------------------------------------------------------------------


class Said(Reporter):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


def reads(made: Task) -> bool:
    """Whether preparing it reads the rows, and does not take them from the cache."""
    said = Said()
    prepare(made, said)
    return not any("taken from the cache" in line for line in said.lines)


def test_a_file_is_read_once_until_it_or_its_recipe_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "LARGE", 0)
    write(tmp_path, rows(50))
    assert reads(task(tmp_path))
    assert not reads(task(tmp_path))
    # what decides on the cut alone does not need the rows anew
    assert not reads(task(tmp_path, "classification", split={"test": 0.3}, limit={"train": 5}))
    assert reads(task(tmp_path, split={"stratify": "who"}))
    assert reads(task(tmp_path, group="who"))
    assert reads(task(tmp_path, output="{{ n }}"))
    write(tmp_path, [*rows(49), {**rows(50)[49], "a": "c"}])
    assert reads(task(tmp_path))
    assert "c" in {e.output for _, part in prepare(task(tmp_path)).splits.items() for e in part}


def test_an_interrupted_reading_leaves_nothing_and_is_begun_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    monkeypatch.setattr(streaming, "LARGE", 0)
    write(tmp_path, rows(50))
    original = streaming.stream_rows

    def stopped(*args: Any, **kwargs: Any) -> Iterator[Any]:
        for number, row in enumerate(original(*args, **kwargs)):
            if number == 30:
                raise KeyboardInterrupt
            yield row

    monkeypatch.setattr(streaming, "stream_rows", stopped)
    with pytest.raises(KeyboardInterrupt):
        prepare(task(tmp_path))
    assert not list(cache.iterdir())
    monkeypatch.setattr(streaming, "stream_rows", original)
    assert reads(task(tmp_path))
    assert sum(len(part) for _, part in prepare(task(tmp_path)).splits.items()) == 50
    assert not reads(task(tmp_path))


def test_an_interruption_behind_the_reading_repeats_no_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "LARGE", 0)
    write(tmp_path, rows(50))
    monkeypatch.setattr("luthier.data.prepare.make_splits", lambda *a, **k: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        prepare(task(tmp_path))
    monkeypatch.undo()
    monkeypatch.setenv("LUTHIER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(streaming, "LARGE", 0)
    assert not reads(task(tmp_path))


def test_the_cache_keeps_the_sources_that_were_used_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    monkeypatch.setattr(streaming, "LARGE", 0)
    monkeypatch.setattr(streaming, "_KEPT", 2)
    write(tmp_path, rows(50))
    prepare(task(tmp_path))
    for entry in cache.iterdir():
        os.utime(entry, (1000, 1000))
    part = cache / ".killed.part"
    part.mkdir()
    os.utime(part, (1000, 1000))
    prepare(task(tmp_path, output="{{ n }}"))
    assert not part.exists()
    assert not reads(task(tmp_path))  # used now, so the other one goes first
    for entry in cache.iterdir():
        held = (entry / "rows.jsonl").read_text("utf-8")
        if '"49"' in held:
            os.utime(entry, (2000, 2000))
    prepare(task(tmp_path, output="{{ day }}"))
    assert len(list(cache.iterdir())) == 2
    assert not reads(task(tmp_path))
    assert reads(task(tmp_path, output="{{ n }}"))


def test_what_is_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "LARGE", 1000)
    (tmp_path / "a.csv").write_bytes(b"x" * 1000)
    assert not is_large("a.csv", tmp_path)
    (tmp_path / "b.parquet").write_bytes(b"x" * 300)  # packed text
    assert is_large("b.parquet", tmp_path)
    assert is_large("", tmp_path)  # all of a folder together
    for nowhere in ("none.csv", "hub:a/b", "nul\0.csv", "~nobody-there/x.csv"):
        assert not is_large(nowhere, tmp_path)


# ---- sequences ---------------------------------------------------------------------------------

TEXT = st.text(max_size=20)
FIELDS = st.none() | st.dictionaries(TEXT, TEXT | st.integers() | st.booleans(), max_size=3)
WEIGHT = st.none() | st.floats(0, 1)
TURN = st.builds(Message, st.sampled_from(["system", "user", "assistant"]), TEXT, WEIGHT)
EXAMPLES = st.lists(
    st.builds(
        Example,
        id=TEXT,
        messages=st.lists(TURN, max_size=3).map(tuple),
        output=TEXT,
        group=st.none() | TEXT,
        source=TEXT,
        fields=FIELDS,
        weight=WEIGHT,
    ),
    max_size=12,
)


def kept(folder: Path, examples: list[Example]) -> Stored[Example]:
    return store(folder / "held", map(encode_example, examples), decode_example)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(EXAMPLES, st.data())
def test_stored_rows_behave_like_a_list(
    tmp_path: Path, examples: list[Example], data: st.DataObject
) -> None:
    held = kept(tmp_path, examples)
    assert list(held) == examples
    assert len(held) == len(examples)
    assert list(reversed(held)) == examples[::-1]
    bounds = st.none() | st.integers(-15, 15)
    cut = slice(data.draw(bounds), data.draw(bounds), data.draw(bounds.filter(lambda n: n != 0)))
    assert list(held[cut]) == examples[cut]
    places = data.draw(
        st.lists(st.integers(0, len(examples) - 1), max_size=9) if examples else st.just([])
    )
    chosen = chosen_from(held, places)
    expected = [examples[place] for place in places]
    assert list(chosen) == [chosen[n] for n in range(len(chosen))] == expected
    assert list(chosen[cut]) == expected[cut]
    joined = Joined(chosen, tuple(examples), held)
    whole = [*expected, *examples, *examples]
    assert list(joined) == [joined[n] for n in range(-len(whole), 0)] == whole
    assert list(joined[cut]) == whole[cut]
    for row in (len(examples), -len(examples) - 1):
        with pytest.raises(IndexError):
            held[row]
    for one, other in zip(held, examples, strict=True):
        assert repr(one) == repr(other)
        assert one.to_row() == other.to_row()


def test_blocks_of_any_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    examples = [Example(str(n), (Message("user", "x" * (n * 37 % 400)),), "o") for n in range(50)]
    held = kept(tmp_path, examples)
    for size in (1, 100, 1000, 1 << 20):
        monkeypatch.setattr("luthier.data.stored._BLOCK", size)
        assert list(held) == examples


def test_a_view_of_a_tuple_is_a_tuple() -> None:
    assert chosen_from("abc", [2, 0]) == ("c", "a")


def test_rows_whose_number_nobody_knows_go_into_a_file_when_they_are_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    """As those of a hub, which has no file to be looked at before."""
    write(tmp_path, [*rows(150), {"q": "blank", "a": ""}])
    monkeypatch.setattr(prepare_module, "is_large", lambda *_: False)
    made = task(tmp_path, refused="skip")
    whole = prepare(made)
    assert isinstance(whole.splits.train, tuple)
    monkeypatch.setattr(streaming, "LARGE", 1000)
    for _ in range(2):
        kept = prepare(made)
        assert isinstance(kept.splits.train, Chosen)
        pairs = zip(whole.splits.items(), kept.splits.items(), strict=True)
        assert all(list(one) == list(other) for (_, one), (_, other) in pairs)
        assert kept.refused.count == 1
        assert len([path for path in cache.iterdir() if path.is_dir()]) == 1
    with pytest.raises(InputError, match="blank output"):
        prepare(task(tmp_path))
    assert len(list(cache.iterdir())) == 1
