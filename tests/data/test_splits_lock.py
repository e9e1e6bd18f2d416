"""The lock file: the test stays the test when rows are added, removed or put in another order."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from distinct_texts import text
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from luthier.data.frozen import read_frozen
from luthier.data.prepare import Prepared, prepare
from luthier.errors import InputError
from luthier.task import Task


def rows(first: int, last: int) -> list[dict[str, Any]]:
    return [{"q": text(n), "a": f"a{n}"} for n in range(first, last)]


def write(folder: Path, held: list[dict[str, Any]], name: str = "train.jsonl") -> None:
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in held), "utf-8")


def task(folder: Path, seed: int = 0, lock: str = "splits.lock", **data: Any) -> Task:
    return Task.from_dict(
        {
            "name": "t",
            "kind": "generation",
            "seed": seed,
            "data": {
                "train": "train.jsonl",
                "input": "{{ q }}",
                "output": "{{ a }}",
                "split": {"lock": lock},
                **data,
            },
        },
        path=folder / "task.yaml",
    )


def says(part: Any) -> set[str]:
    return {example.output for example in part}


def three(made: Prepared) -> list[set[str]]:
    return [says(part) for _, part in made.splits.items()]


def failure(made: Task) -> str:
    with pytest.raises(InputError) as caught:
        prepare(made)
    return str(caught.value)


def test_what_was_cut_stays_cut_when_rows_are_added(tmp_path: Path) -> None:
    write(tmp_path, rows(0, 100))
    first = prepare(task(tmp_path))
    assert "splits.lock: written; these rows stay test and validation." in first.notes
    train, validation, test = three(first)
    write(tmp_path, [*rows(200, 260), *rows(0, 100), *rows(260, 400)])
    again = prepare(task(tmp_path))
    assert three(again)[1:] == [validation, test]
    assert three(again)[0] == train | says_of(rows(200, 400))
    assert "test: 20 rows, as splits.lock says." in again.notes
    # another seed shuffles training, and cuts nothing anew
    assert three(prepare(task(tmp_path, seed=7)))[1:] == [validation, test]


def says_of(held: list[dict[str, Any]]) -> set[str]:
    return {row["a"] for row in held}


def test_rows_in_another_order_and_removed_ones(tmp_path: Path) -> None:
    write(tmp_path, rows(0, 100))
    train, validation, test = three(prepare(task(tmp_path)))
    gone = set(sorted(test)[:5]) | set(sorted(train)[:3])
    write(tmp_path, [row for row in rows(0, 100)[::-1] if row["a"] not in gone])
    made = prepare(task(tmp_path))
    assert three(made) == [train - gone, validation, test - gone]
    assert "test: 15 rows, as splits.lock says; 5 of its rows are gone from the data." in made.notes
    # what comes back is the test again: the lock was not written anew
    write(tmp_path, rows(0, 100))
    assert three(prepare(task(tmp_path))) == [train, validation, test]


def test_the_lock_holds_no_text_and_is_written_once(tmp_path: Path) -> None:
    write(tmp_path, rows(0, 100))
    prepare(task(tmp_path))
    before = (tmp_path / "splits.lock").read_bytes()
    assert b"at all" not in before
    write(tmp_path, rows(0, 150))
    prepare(task(tmp_path))
    assert (tmp_path / "splits.lock").read_bytes() == before
    held = read_frozen(tmp_path / "splits.lock")
    assert held is not None
    assert {name: len(held.rows[name]) for name in held.rows} == {"test": 20, "validation": 16}


def test_new_rows_that_are_like_locked_ones_do_not_train(tmp_path: Path) -> None:
    write(tmp_path, rows(0, 100))
    train, validation, test = three(prepare(task(tmp_path)))
    locked = [row for row in rows(0, 100) if row["a"] in test]
    copies = [
        {"q": locked[0]["q"].upper(), "a": "equal"},
        {"q": locked[1]["q"].replace("not", "else"), "a": "near"},
    ]
    long = {"q": f"{locked[2]['q']} {locked[3]['q']}", "a": "neither"}
    write(tmp_path, [*copies, long, *rows(0, 100)])
    made = prepare(task(tmp_path))
    assert three(made) == [train | {"neither"}, validation, test]
    assert any(
        note.startswith("2 training rows repeat a locked row's input or group, or nearly so")
        for note in made.notes
    )


def test_new_rows_of_a_locked_group_do_not_train(tmp_path: Path) -> None:
    grouped = [{**row, "thread": n // 4} for n, row in enumerate(rows(0, 100))]
    write(tmp_path, grouped)
    first = prepare(task(tmp_path, group="thread"))
    held = {e.group for e in first.splits.test}
    more = [{**row, "thread": n} for n, row in enumerate(rows(100, 125))]
    write(tmp_path, [*grouped, *more])
    made = prepare(task(tmp_path, group="thread"))
    assert says(made.splits.test) == says(first.splits.test)
    assert not {e.group for e in made.splits.train} & held


def test_repeats_of_one_row_are_locked_as_often_as_they_were(tmp_path: Path) -> None:
    twice = [row for row in rows(0, 60) for _ in range(2)]
    write(tmp_path, twice)
    first = prepare(task(tmp_path))
    write(tmp_path, twice[::-1])
    again = prepare(task(tmp_path))
    assert sorted(e.output for e in again.splits.test) == sorted(
        e.output for e in first.splits.test
    )
    assert len(again.splits.test) == len(first.splits.test)


def damage(held: dict[str, Any], how: str) -> Any:
    if how == "moved":
        held["rows"]["test"].append(held["rows"]["validation"].pop())
    elif how == "removed":
        held["rows"]["test"].pop()
    elif how == "format":
        held["format"] = 99
    elif how == "text":
        held["rows"]["test"] = "all"
    elif how == "nothing":
        del held["rows"]
    return [held] if how == "list" else held


@pytest.mark.parametrize("how", ["moved", "removed", "format", "text", "nothing", "list"])
def test_a_lock_changed_by_hand_is_refused(tmp_path: Path, how: str) -> None:
    write(tmp_path, rows(0, 100))
    prepare(task(tmp_path))
    path = tmp_path / "splits.lock"
    path.write_text(json.dumps(damage(json.loads(path.read_text("utf-8")), how)), "utf-8")
    message = failure(task(tmp_path))
    assert "is no lock file of splits, or was changed by hand" in message
    assert "Put it back from version control" in message


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe\x00", b"null", b'{"rows": {"test": [1]}}']
)
def test_any_other_file_in_its_place_is_refused(tmp_path: Path, content: bytes) -> None:
    write(tmp_path, rows(0, 100))
    (tmp_path / "splits.lock").write_bytes(content)
    assert "splits.lock" in failure(task(tmp_path))
    assert (tmp_path / "splits.lock").read_bytes() == content


def test_a_folder_in_its_place_is_refused(tmp_path: Path) -> None:
    write(tmp_path, rows(0, 100))
    (tmp_path / "splits.lock").mkdir()
    assert "splits.lock" in failure(task(tmp_path))


def test_a_lock_of_other_data_is_refused(tmp_path: Path) -> None:
    write(tmp_path, rows(0, 100))
    prepare(task(tmp_path))
    write(tmp_path, rows(500, 600))
    message = failure(task(tmp_path))
    assert "locks 20 test rows, and 20 of them are not in the training rows" in message
    assert "cannot be compared with earlier ones" in message


def test_a_test_that_was_given_then_is_not_cut_now(tmp_path: Path) -> None:
    write(tmp_path, rows(0, 100))
    write(tmp_path, rows(100, 120), "test.jsonl")
    prepare(task(tmp_path, test="test.jsonl"))
    message = failure(task(tmp_path))
    assert "locks no test rows: `data.test` was a file when it was written" in message
    # the other way round, the validation rows that were locked are still used
    held = three(prepare(task(tmp_path, test="test.jsonl")))
    assert held[2] == says_of(rows(100, 120))


def test_locked_rows_alone_leave_nothing_to_train_on(tmp_path: Path) -> None:
    write(tmp_path, rows(0, 100))
    _, validation, test = three(prepare(task(tmp_path)))
    write(tmp_path, [row for row in rows(0, 100) if row["a"] in validation | test])
    assert "leaves no row to train on" in failure(task(tmp_path))


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_whatever_is_added_and_removed_no_locked_row_ever_trains(
    tmp_path: Path, data: st.DataObject
) -> None:
    (tmp_path / "splits.lock").unlink(missing_ok=True)
    write(tmp_path, rows(0, 60))
    _, validation, test = three(prepare(task(tmp_path)))
    kept = data.draw(st.lists(st.sampled_from(range(60)), min_size=45, unique=True))
    added = data.draw(st.integers(0, 40))
    changed = data.draw(st.permutations([*(rows(0, 60)[n] for n in kept), *rows(60, 60 + added)]))
    write(tmp_path, list(changed))
    here = says_of(list(changed))
    try:
        made = three(prepare(task(tmp_path)))
    except InputError as error:
        assert "of them are not in the training rows" in str(error)
        return
    assert made[1:] == [validation & here, test & here]
    assert made[0] == here - validation - test


def test_a_row_is_known_by_what_it_says(tmp_path: Path) -> None:
    # ids and other columns may change, the answer may not
    write(tmp_path, [{**row, "id": f"x{n}"} for n, row in enumerate(rows(0, 100))])
    first = three(prepare(task(tmp_path)))
    write(tmp_path, [{**row, "id": f"y{n}", "more": 1} for n, row in enumerate(rows(0, 100))])
    assert three(prepare(task(tmp_path))) == first
