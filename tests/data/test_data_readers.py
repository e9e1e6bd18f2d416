"""Readers: what is read, and what is said when it cannot be."""

from __future__ import annotations

import csv
import io
import json
import sys
import types
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.data.reading import endings, read_rows
from luthier.errors import InputError, LuthierError, ModelError


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def failure(source: str, base: Path) -> str:
    with pytest.raises(LuthierError) as caught:
        read_rows(source, base)
    return str(caught.value)


def test_every_format_is_found_by_its_ending() -> None:
    tables = {".arrow", ".csv", ".feather", ".json", ".jsonl", ".parquet", ".tsv", ".xlsx", ".xml"}
    texts = {".bio", ".conll", ".iob", ".iob2", ".log", ".txt"}
    assert tables | texts <= set(endings())


def test_csv_values_are_text_and_rows_count_from_one(tmp_path: Path) -> None:
    write(tmp_path, "data/t.csv", 'text,n\n"a, ""b""\nc",1\n\nd,\n')
    rows = read_rows("data/t.csv", tmp_path)
    assert [row.values for row in rows] == [{"text": 'a, "b"\nc', "n": "1"}, {"text": "d", "n": ""}]
    assert [row.source for row in rows] == ["data/t.csv row 1", "data/t.csv row 2"]


def test_csv_with_windows_lines_and_a_byte_order_mark(tmp_path: Path) -> None:
    write(tmp_path, "t.csv", b"\xef\xbb\xbfa,b\r\n1,\xc3\xa9\r\n")
    assert read_rows("t.csv", tmp_path)[0].values == {"a": "1", "b": "é"}


def test_an_index_column_without_a_name_gets_one(tmp_path: Path) -> None:
    write(tmp_path, "t.csv", ",a\n0,x\n")
    assert read_rows("t.csv", tmp_path)[0].values == {"column_1": "0", "a": "x"}


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(*[st.text(st.characters(codec="utf-8", exclude_characters="\0")) for _ in "ab"]),
        min_size=1,
    )
)
def test_csv_gives_back_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, cells: list[tuple[str, str]]
) -> None:
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL).writerows([("a", "b"), *cells])
    folder = tmp_path_factory.mktemp("csv")
    write(folder, "t.csv", text.getvalue())
    rows = read_rows("t.csv", folder)
    assert [tuple(row.values.values()) for row in rows] == cells


def test_tsv_takes_quotes_as_text_where_they_are_text(tmp_path: Path) -> None:
    write(tmp_path, "t.tsv", 'a\tb\n"Oh" he said\t5" nail\nx\ty\n')
    assert read_rows("t.tsv", tmp_path)[0].values == {"a": '"Oh" he said', "b": '5" nail'}


def test_tsv_reads_quotes_as_csv_where_every_one_is_quoting(tmp_path: Path) -> None:
    write(tmp_path, "t.tsv", 'a\tb\n"he said ""oh"""\tx\n')
    assert read_rows("t.tsv", tmp_path)[0].values == {"a": 'he said "oh"', "b": "x"}
    write(tmp_path, "u.tsv", 'a\tb\n"two\tcells"\tx\n')
    assert read_rows("u.tsv", tmp_path)[0].values == {"a": "two\tcells", "b": "x"}


def test_jsonl_keeps_types_and_names_lines(tmp_path: Path) -> None:
    write(tmp_path, "t.jsonl", '{"a": 1, "b": [true, null]}\n\n{"a": NaN, "b": "x\u2028y"}\n')
    rows = read_rows("t.jsonl", tmp_path)
    assert [row.values for row in rows] == [
        {"a": 1, "b": [True, None]},
        {"a": None, "b": "x\u2028y"},
    ]
    assert [row.source for row in rows] == ["t.jsonl line 1", "t.jsonl line 3"]


def test_json_array_and_object_with_one_list(tmp_path: Path) -> None:
    write(tmp_path, "a.json", '[{"x": 1}, {"x": 2.5}]')
    write(tmp_path, "b.json", '{"version": 1, "tags": ["t"], "data": [{"x": 1}, {"x": 2.5}]}')
    expected = [{"x": 1}, {"x": 2.5}]
    assert [row.values for row in read_rows("a.json", tmp_path)] == expected
    assert [row.values for row in read_rows("b.json", tmp_path)] == expected


def test_parquet_keeps_types_and_turns_nan_into_none(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet

    table = arrow.table({"t": ["a", None], "n": [1.5, float("nan")], "l": [["x"], []]})
    pyarrow.parquet.write_table(table, tmp_path / "t.parquet")
    rows = read_rows("t.parquet", tmp_path)
    assert [row.values for row in rows] == [
        {"t": "a", "n": 1.5, "l": ["x"]},
        {"t": None, "n": None, "l": []},
    ]
    assert rows[1].source == "t.parquet row 2"


def test_a_broken_parquet_file_is_one_line(tmp_path: Path) -> None:
    write(tmp_path, "t.parquet", b"PAR1 but no more")
    assert "t.parquet cannot be read as Parquet" in failure("t.parquet", tmp_path)
    write(tmp_path, "e.parquet", b"")
    assert "e.parquet is empty" in failure("e.parquet", tmp_path)


def test_a_folder_is_read_in_order_of_names(tmp_path: Path) -> None:
    write(tmp_path, "d/2.csv", "a\nsecond\n")
    write(tmp_path, "d/1.csv", "a\nfirst\n")
    write(tmp_path, "d/README.md", "about")
    write(tmp_path, "d/.hidden.csv", "b\nno\n")
    rows = read_rows("d/", tmp_path)
    assert [(row.values["a"], row.source) for row in rows] == [
        ("first", "d/1.csv row 1"),
        ("second", "d/2.csv row 1"),
    ]


def test_a_folder_of_two_formats_or_none(tmp_path: Path) -> None:
    write(tmp_path, "d/1.csv", "a\nx\n")
    write(tmp_path, "d/2.jsonl", "{}")
    assert "several formats: .csv, .jsonl" in failure("d", tmp_path)
    write(tmp_path, "e/notes.pdf", "x")
    assert "holds no file with rows" in failure("e", tmp_path)


def test_a_missing_file_names_what_is_near(tmp_path: Path) -> None:
    write(tmp_path, "data/train.csv", "a\nx\n")
    message = failure("data/trian.csv", tmp_path)
    assert "data/trian.csv does not exist" in message
    assert "Did you mean train.csv?" in message
    assert "there is no folder" in failure("nowhere/train.csv", tmp_path)


def test_a_blank_source_is_not_the_folder_of_the_task(tmp_path: Path) -> None:
    write(tmp_path, "t.csv", "a\nx\n")
    assert "No file is named" in failure(" ", tmp_path)


def test_an_unknown_ending_names_the_known_ones(tmp_path: Path) -> None:
    write(tmp_path, "t.ods", b"x")
    message = failure("t.ods", tmp_path)
    assert "'.ods'" in message
    assert all(f"{name}," in message for name in (".csv", ".jsonl", ".parquet"))
    write(tmp_path, "noending", b"x")
    assert "has no file ending" in failure("noending", tmp_path)
    assert "Download the file" in failure("https://example.org/t.csv", tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("t.csv", "", "t.csv is empty"),
        ("t.csv", " \n\n", "t.csv is empty"),
        ("t.csv", "a,b\n", "has a header (a, b) and no rows"),
        ("t.tsv", "a\tb\n", "has a header (a, b) and no rows"),
        ("t.csv", "a,b\n1,2\n1\n", "row 2 (line 3) has 1 field, and the header has 2: a, b"),
        ("t.csv", 'a,b\n"1\n2",2\n1,2,3\n', "row 2 (line 4) has 3 fields"),
        ("t.tsv", "a\tb\n1\t2\t3\n", "row 1 (line 2) has 3 fields"),
        ("t.csv", 'a,b\n1,2\n"x,2\n3,4\n', "line 3: a quoted field is opened and never closed"),
        ("t.csv", 'a,b\n"x"y,2\n', "line 2: broken quoting"),
        ("t.csv", "a,b,a\n1,2,3\n", "two columns called 'a'"),
        ("t.jsonl", "", "is empty"),
        ("t.jsonl", '{"a": 1}\n{"a": \n', "t.jsonl line 2: broken JSON"),
        ("t.jsonl", '{"a": 1}\n[1]\n', "line 2 holds a list"),
        ("t.jsonl", '{"a": 1, "a": 2}\n', "line 1: broken JSON: an object has two keys called 'a'"),
        ("t.jsonl", '[\n{"a": 1}\n]\n', "end the file's name in .json"),
        ("t.jsonl", "[" * 100_000, "nested too deeply"),
        ("t.json", '{"a": 1}\n{"a": 2}\n', "end the file's name in .jsonl"),
        ("t.json", '[{"a": 1},\n{"a" 2}]', "line 2, column 6: broken JSON"),
        ("t.json", "[]", "holds an empty list"),
        ("t.json", "[1, 2]", "row 1 is no object"),
        ("t.json", '{"a": [{}], "b": [{}]}', "several lists of objects: a, b"),
        ("t.json", '{"a": {"0": "x"}}', "holds no rows"),
        ("t.json", "3", "holds no rows"),
    ],
)
def test_broken_files_are_named_with_the_place(
    tmp_path: Path, name: str, content: str, expected: str
) -> None:
    write(tmp_path, name, content)
    message = failure(name, tmp_path)
    assert expected in message
    assert name in message


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"a,b\nx,caf\xe9\n", "t.csv line 2: byte 9 (0xE9) is not UTF-8; the file is probably WIN"),
        (b"\xef\xbb\xbfa,b\nx,caf\xe9 y\n", "byte 12 (0xE9)"),
        ("a,b\nx,y\n".encode("utf-16"), "is UTF-16 (its byte order mark"),
        ("a,b\nx,y\n".encode("utf-16-le"), "iconv -f UTF-16LE"),
        ("a,b\nx,y\n".encode("utf-16-be"), "iconv -f UTF-16BE"),
        ("a\nпривет мир\n".encode("cp1251"), "its encoding is unclear"),
        (b"a,b\nx,y\0z and much more text\n", "t.csv line 2: byte 7 is NUL"),
        ("a,b\nx,é".encode()[:-1], "ends in the middle of a character (byte 6)"),
    ],
)
def test_bytes_that_are_not_utf8_are_named(tmp_path: Path, content: bytes, expected: str) -> None:
    write(tmp_path, "t.csv", content)
    assert expected in failure("t.csv", tmp_path)


@settings(deadline=None)
@given(st.binary(max_size=200), st.sampled_from([".csv", ".tsv", ".jsonl", ".json", ".parquet"]))
def test_no_bytes_end_in_a_traceback(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, ending: str
) -> None:
    folder = tmp_path_factory.mktemp("any")
    write(folder, f"t{ending}", content)
    try:
        rows = read_rows(f"t{ending}", folder)
    except InputError as error:
        assert f"t{ending}" in str(error)
    else:
        assert rows


@settings(deadline=None)
@given(
    st.lists(
        st.dictionaries(st.text(max_size=5), st.none() | st.booleans() | st.integers() | st.text()),
        min_size=1,
        max_size=5,
    )
)
def test_jsonl_gives_back_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, items: list[dict[str, object]]
) -> None:
    folder = tmp_path_factory.mktemp("any")
    write(folder, "t.jsonl", "".join(json.dumps(item) + "\n" for item in items))
    assert [row.values for row in read_rows("t.jsonl", folder)] == items


class _Names:
    def int2str(self, number: int) -> str:
        return ["neg", "pos"][number]


class _Loaded(list):  # type: ignore[type-arg]
    def __init__(self, items: list[dict[str, object]]) -> None:
        super().__init__(items)
        nested = types.SimpleNamespace(feature=_Names())
        self.features = {"text": object(), "label": _Names(), "tags": nested}


def hub(monkeypatch: pytest.MonkeyPatch, load: object) -> None:
    module = types.ModuleType("datasets")
    module.load_dataset = load  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", module)


def test_hub_rows_have_class_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = []

    def load(name: str, config: str | None, split: str) -> _Loaded:
        asked.append((name, config, split))
        return _Loaded([{"text": "x", "label": 1, "tags": [0, 1]}, {"text": "y", "label": -1}])

    hub(monkeypatch, load)
    rows = read_rows("hub:owner/name:en:test", tmp_path)
    assert rows[0].values == {"text": "x", "label": "pos", "tags": ["neg", "pos"]}
    assert rows[1].values["label"] is None
    assert rows[1].source == "hub:owner/name:en:test row 2"
    for source in ("hub:owner/name", "hub:owner/name:test", "hub:owner/name:en", "hub:o/n::dev2"):
        read_rows(source, tmp_path)
    assert asked == [
        ("owner/name", "en", "test"),
        ("owner/name", None, "train"),
        ("owner/name", None, "test"),
        ("owner/name", "en", "train"),
        ("o/n", None, "dev2"),
    ]


def test_hub_failures_are_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def raising(error: Exception) -> object:
        def load(*_: object, **__: object) -> object:
            raise error

        return load

    hub(monkeypatch, raising(ConnectionError("Couldn't reach it\nat all")))
    with pytest.raises(ModelError, match=r"could not be fetched: Couldn't reach it\. Check"):
        read_rows("hub:owner/name", tmp_path)
    hub(monkeypatch, raising(ValueError("Unknown split")))
    assert "could not be loaded: Unknown split" in failure("hub:owner/name", tmp_path)
    assert "names no data set" in failure("hub:", tmp_path)
    assert "too many parts" in failure("hub:a/b:c:d:e", tmp_path)
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert "pip install 'luthier[hub]'" in failure("hub:owner/name", tmp_path)
