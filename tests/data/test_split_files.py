"""`luthier split`: a file of any format into files of splits or folds."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from distinct_texts import one_word_changed, text
from run_samples import files_below, luthier, read_jsonl

from luthier.data.near_duplicates import clusters
from luthier.data.split_files import Wish, split_file
from luthier.progress import Bar, Reporter
from luthier.task_sections import Split

Capture = pytest.CaptureFixture[str]


def rows(count: int = 100, **more: Any) -> list[dict[str, Any]]:
    return [
        {"text": text(n), "label": "ab"[n % 4 == 0], "thread": n // 3, "day": 20210101 + n // 10}
        | more
        for n in range(count)
    ]


def write(path: Path, held: list[dict[str, Any]]) -> Path:
    if path.suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(held[0]))
            writer.writeheader()
            writer.writerows(held)
    elif path.suffix == ".parquet":
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(held), path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in held), encoding="utf-8")
    return path


def parts(out: Path) -> dict[str, list[dict[str, Any]]]:
    return {name: read_jsonl(out / f"{name}.jsonl") for name in ("train", "validation", "test")}


def texts(found: dict[str, list[dict[str, Any]]]) -> dict[str, set[str]]:
    return {name: {row["text"] for row in held} for name, held in found.items()}


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv", "rows.parquet"])
def test_a_file_is_cut_and_nothing_is_lost(tmp_path: Path, capsys: Capture, name: str) -> None:
    held = rows()
    code, printed, _ = luthier(
        capsys, "split", write(tmp_path / name, held), "--out", tmp_path / "o"
    )
    assert code == 0
    found = parts(tmp_path / "o")
    assert {name: len(part) for name, part in found.items()} == {
        "train": 80,
        "validation": 10,
        "test": 10,
    }
    every = [row for part in found.values() for row in part]
    if name == "rows.csv":  # a csv holds text alone
        held = [{key: str(value) for key, value in row.items()} for row in held]
    assert sorted(every, key=str) == sorted(held, key=str)
    # the order of the file is kept inside each
    order = [row["text"] for row in held]
    for part in found.values():
        assert [row["text"] for row in part] == [t for t in order if t in {r["text"] for r in part}]
    assert f"{tmp_path / 'o' / 'test.jsonl'}: 10 rows" in printed


def test_the_cut_owes_nothing_to_the_order_of_the_rows_or_the_format(tmp_path: Path) -> None:
    held = [{"text": row["text"], "label": row["label"]} for row in rows(200)]
    wish = Wish(Split(test=0.1, validation=20), seed=3)
    found = []
    for name, these in (("a.jsonl", held), ("b.jsonl", held[::-1]), ("c.csv", held)):
        write(tmp_path / name, these)
        split_file(name, tmp_path, tmp_path / name[0], wish)
        found.append(texts(parts(tmp_path / name[0])))
    assert found[0] == found[1] == found[2]
    split_file("a.jsonl", tmp_path, tmp_path / "again", wish)
    assert files_below(tmp_path / "again") == files_below(tmp_path / "a")
    split_file("a.jsonl", tmp_path, tmp_path / "other", Wish(wish.split, seed=4))
    assert texts(parts(tmp_path / "other")) != found[0]


def test_classes_groups_and_near_duplicates(tmp_path: Path, capsys: Capture) -> None:
    held = [{**row, "thread": n // 4} for n, row in enumerate(rows(400))]
    for n in range(0, 400, 80):  # near to a row of another thread
        held[n + 40]["text"] = held[n]["text"].replace("not", "else")
    path = write(tmp_path / "rows.jsonl", held)
    words = ("--test", "0.25", "--validation", "40", "--stratify", "label", "--group", "thread")
    code, _, _ = luthier(capsys, "split", path, "--out", tmp_path / "o", *words)
    assert code == 0
    found = parts(tmp_path / "o")
    assert [len(found[name]) for name in ("train", "validation", "test")] == [260, 40, 100]
    assert all(4 * sum(row["label"] == "b" for row in part) == len(part) for part in found.values())
    groups = [{row["thread"] for row in part} for part in found.values()]
    assert not groups[0] & groups[1] and not groups[0] & groups[2] and not groups[1] & groups[2]
    every = [(row["text"], name) for name, part in found.items() for row in part]
    sides: dict[int, set[str]] = {}
    near = clusters(said for said, _ in every).tolist()
    for cluster, (_, name) in zip(near, every, strict=True):
        sides.setdefault(cluster, set()).add(name)
    assert max(Counter(near).values()) > 1
    assert all(len(where) == 1 for where in sides.values())


def test_by_time(tmp_path: Path, capsys: Capture) -> None:
    path = write(tmp_path / "rows.jsonl", rows())
    code, printed, _ = luthier(capsys, "split", path, "--out", tmp_path / "o", "--time", "day")
    assert code == 0
    found = {name: {row["day"] for row in part} for name, part in parts(tmp_path / "o").items()}
    assert found == {
        "train": set(range(20210101, 20210109)),
        "validation": {20210109},
        "test": {20210110},
    }
    assert "test: 10 of 100 rows were cut, from 2021-01-10 to 2021-01-10." in printed


@pytest.mark.parametrize("grouped", [False, True])
def test_folds(tmp_path: Path, capsys: Capture, grouped: bool) -> None:
    held = rows()
    path = write(tmp_path / "rows.jsonl", held)
    words = ("--folds", 5, "--stratify", "label", *(("--group", "thread") if grouped else ()))
    code, printed, _ = luthier(capsys, "split", path, "--out", tmp_path / "o", *words)
    assert code == 0
    assert "5 folds of 100 rows; each row is held out once." in printed
    every: list[str] = []
    for fold in range(1, 6):
        train, test = (
            read_jsonl(tmp_path / "o" / f"fold-{fold}" / f"{name}.jsonl")
            for name in ("train", "test")
        )
        assert Counter(r["text"] for r in [*train, *test]) == Counter(r["text"] for r in held)
        assert abs(sum(r["label"] == "b" for r in test) - 5) <= (2 if grouped else 0)
        if grouped:
            assert not {r["thread"] for r in train} & {r["thread"] for r in test}
        every += [r["text"] for r in test]
    assert Counter(every) == Counter(r["text"] for r in held)


def test_which_text_is_compared(tmp_path: Path) -> None:
    held = [{"note": one_word_changed(n), "own": text(n)} for n in range(100)]
    write(tmp_path / "rows.jsonl", held)
    half = Split(test=0.1, validation=0.1)
    done = split_file("rows.jsonl", tmp_path, tmp_path / "own", Wish(half, text="own"))
    assert not any("near-duplicates" in note for note in done.notes)
    done = split_file("rows.jsonl", tmp_path, tmp_path / "note", Wish(half, text="note"))
    assert any("near-duplicates" in note for note in done.notes)
    assert sorted(done.rows.values()) == [10, 10, 80]


def test_a_split_without_validation(tmp_path: Path, capsys: Capture) -> None:
    path = write(tmp_path / "rows.jsonl", rows())
    code, printed, _ = luthier(
        capsys, "split", path, "--out", tmp_path / "o", "--test", "20", "--validation", "0"
    )
    assert code == 0
    assert files_below(tmp_path / "o").keys() == {"train.jsonl", "test.jsonl"}
    assert len(read_jsonl(tmp_path / "o" / "test.jsonl")) == 20
    assert len(read_jsonl(tmp_path / "o" / "train.jsonl")) == 80
    assert "validation" not in printed


def test_notes_speak_of_the_command_line_and_not_of_a_task(tmp_path: Path, capsys: Capture) -> None:
    held = [{"text": one_word_changed(n), "day": 20210101 + n % 2} for n in range(60)]
    path = write(tmp_path / "near.jsonl", held)
    few = write(tmp_path / "few.jsonl", rows(12))
    said = []
    for words in (
        [path],
        [path, "--near-duplicates"],
        [path, "--time", "day", "--no-near-duplicates", "--test", "59"],
        [few, "--test", "9"],
        [few, "--group", "label", "--test", "0.4"],
        [write(tmp_path / "f.jsonl", rows(40)), "--time", "day", "--group", "label"],
    ):
        out = tmp_path / f"o{len(said)}"
        _, printed, error = luthier(capsys, "split", *words, "--out", out)
        said.append(printed + error)
    assert "`--near-duplicates` asks for both" in said[0]
    for text_ in said:
        assert "data." not in text_
        assert "training rows" not in text_
        assert "template" not in text_


def test_a_locked_test_stays_the_test_when_the_data_grow(tmp_path: Path, capsys: Capture) -> None:
    held = rows(200)
    path, lock = write(tmp_path / "rows.jsonl", held), tmp_path / "split.lock"
    words = ("--lock", lock, "--validation", "0")
    code, printed, _ = luthier(capsys, "split", path, "--out", tmp_path / "a", *words)
    assert code == 0
    assert "split.lock: written; these rows stay test." in printed
    before = {row["text"] for row in read_jsonl(tmp_path / "a" / "test.jsonl")}
    near_to_test = sorted(before)[0] + " then"
    write(path, [*rows(400)[::-1], {**held[0], "text": near_to_test}])
    code, printed, _ = luthier(capsys, "split", path, "--out", tmp_path / "b", *words)
    assert code == 0
    assert {row["text"] for row in read_jsonl(tmp_path / "b" / "test.jsonl")} == before
    train = {row["text"] for row in read_jsonl(tmp_path / "b" / "train.jsonl")}
    assert len(train) == 380
    assert not train & (before | {near_to_test})
    assert "test: 20 rows, as split.lock says." in printed
    code, _, error = luthier(capsys, "split", path, "--out", tmp_path / "c", "--lock", lock)
    assert code == 2
    assert "locks the rows of test" in error
    code, _, error = luthier(
        capsys, "split", path, "--out", tmp_path / "c", "--lock", lock, "--folds", 3
    )
    assert code == 2


def test_rows_may_lack_a_column_that_others_have(tmp_path: Path, capsys: Capture) -> None:
    held: list[dict[str, Any]] = rows(60)
    for row in held[:3]:
        del row["text"], row["thread"]
    held[3]["text"] = held[3]["thread"] = None
    path = write(tmp_path / "rows.jsonl", held)
    words = ("--input", "text", "--group", "thread")
    code, _, error = luthier(capsys, "split", path, "--out", tmp_path / "o", *words)
    assert code == 0, error
    sides = [name for name, part in parts(tmp_path / "o").items() for row in part
             if not row.get("text")]  # fmt: skip
    assert len(sides) == 4
    assert len(set(sides)) == 1  # they are one and the same text


def test_the_rows_of_a_format(tmp_path: Path, capsys: Capture) -> None:
    lines_ = [f"10:{n // 60 % 60:02}:{n % 60:02} <{'ab'[n % 2]}> {text(n)}" for n in range(60)]
    (tmp_path / "t.log").write_text("\n".join(lines_))
    code, _, error = luthier(
        capsys, "split", tmp_path / "t.log", "--from", "irc", "--out", tmp_path / "o", "--test", 5
    )
    assert code == 0, error
    assert "messages" in parts(tmp_path / "o")["test"][0]


def test_one_json_document(tmp_path: Path, capsys: Capture) -> None:
    path = write(tmp_path / "rows.jsonl", rows())
    path.write_text(path.read_text("utf-8") + "{broken\n", encoding="utf-8")
    code, printed, _ = luthier(capsys, "split", path, "--out", tmp_path / "o", "--json")
    assert code == 0
    document = json.loads(printed)
    assert sum(document["rows"].values()) == 100
    assert document["refused"] == 1
    assert document["notes"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere.jsonl"], "nowhere.jsonl does not exist"),
        (["rows.jsonl", "--test", "0"], "--test"),
        (["rows.jsonl", "--validation", "1.5"], "--validation: is a share below 1"),
        (["rows.jsonl", "--test", "90", "--validation", "20"], "too few to cut 90 for the test"),
        (["rows.jsonl", "--group", "tread"], "Did you mean 'thread'"),
        (["rows.jsonl", "--input", "txt"], "Did you mean 'text'"),
        (["rows.jsonl", "--stratify", "lable"], "Did you mean 'label'"),
        (["rows.jsonl", "--time", "dya"], "Did you mean 'day'"),
        (["rows.jsonl", "--time", "text"], "no time that can be read"),
        (["rows.jsonl", "--time", "day", "--stratify", "label"], "not by both"),
        (["rows.jsonl", "--folds", "1"], "--folds"),
        (["rows.jsonl", "--folds", "500"], "too few for 500 folds"),
        (["bytes.bin"], "no format that rows are read from"),
        (["empty.jsonl"], "empty.jsonl is empty"),
        (["broken.jsonl"], "none of its 2 rows can be used"),
        (["few.jsonl"], "too few"),
    ],
)
def test_wrong_use_is_one_line(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, words: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "rows.jsonl", rows())
    write(tmp_path / "few.jsonl", rows(3))
    (tmp_path / "bytes.bin").write_bytes(b"\x00\x01")
    (tmp_path / "empty.jsonl").write_bytes(b"")
    (tmp_path / "broken.jsonl").write_bytes(b"{\n\xff\xfe\n")
    code, printed, error = luthier(capsys, "split", *words, "--out", "o")
    assert code == 2
    assert not printed
    assert error.startswith("luthier: ")
    assert said in error
    assert "Traceback" not in error
    assert len(error.strip().splitlines()) <= 2  # the line, and the fix under it
    assert not (tmp_path / "o").exists()
    assert not list(tmp_path.glob(".o.*"))


def test_a_folder_that_is_there_is_not_touched(tmp_path: Path, capsys: Capture) -> None:
    path = write(tmp_path / "rows.jsonl", rows())
    (tmp_path / "o").mkdir()
    (tmp_path / "o" / "mine.txt").write_text("mine")
    code, _, error = luthier(capsys, "split", path, "--out", tmp_path / "o")
    assert code == 2
    assert "is there already" in error
    assert files_below(tmp_path / "o").keys() == {"mine.txt"}
    code, _, error = luthier(capsys, "split", path, "--out", path)
    assert code == 2
    assert "is there already" in error


def test_how_far_it_is_can_be_heard(tmp_path: Path) -> None:
    held: dict[str, list[float]] = {}

    class Heard(Bar):
        def __init__(self, what: str) -> None:
            self.what = what

        def advance(self, amount: float = 1) -> None:
            held[self.what][1] += amount

    under_way: list[str] = []

    class Listener(Reporter):
        @contextmanager
        def work(self, what: str, total: float) -> Iterator[Bar]:
            assert not under_way, "a terminal draws one bar at a time"
            held[what] = [total, 0.0]
            under_way.append(what)
            yield Heard(what)
            under_way.pop()

    write(tmp_path / "rows.jsonl", rows())
    split_file(
        "rows.jsonl", tmp_path, tmp_path / "o", Wish(Split(test=10, validation=10)), Listener()
    )
    assert held == {
        "reading rows.jsonl": [100, 100.0],
        "looking for near-duplicates": [200, 200.0],
        "writing": [100, 100.0],
    }
