"""Readers on hostile bytes: reading ends in rows or in an `InputError`, soon, in little memory."""

from __future__ import annotations

import random
import resource
import time
import tracemalloc
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import openpyxl
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from luthier.data import lines
from luthier.data.formats import conll
from luthier.data.reading import SourceRow, endings, read_rows, stream_rows
from luthier.data.refused import Refused
from luthier.data.writing import WRITERS
from luthier.errors import InputError

BINARY = (".arrow", ".feather", ".parquet", ".xlsm", ".xlsx")
TEXT = [ending for ending in endings() if ending not in BINARY]


def outcome(path: Path, refused: Refused | None = None) -> list[SourceRow] | InputError:
    """The rows or the error; any other exception fails the test."""
    try:
        return list(stream_rows(path.name, path.parent, refused=refused))
    except InputError as error:
        return error


def refusal(path: Path) -> str:
    found = outcome(path)
    assert isinstance(found, InputError), found
    return str(found)


HOSTILE = {
    "byte order marks": b"\xef\xbb\xbf" * 3 + b'{"a": "b"}\n',
    "NUL": b'{"a": "\0"}\n\0\0,\n',
    "mixed newlines": b"a,b\r\n1,2\r3,4\n5,6\r\r\n\n\r7,8",
    "lone surrogates": b'{"a": "\\ud800", "b": "\\udc00x"}\n[{"a": "\\ud800"}]\n',
    "surrogates as bytes": b"a,b\n\xed\xa0\x80,x\n",
    "deep objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "deep lists": b"[" * 200_000 + b"]" * 200_000,
    "a deep value": b'[{"a":' + b"[" * 100_000,
    "many digits": b'{"a":' + b"9" * 100_000 + b"}\n",
    "a large exponent": b'[{"a": 1e99999}]',
    "an unclosed quote": b'a,b\n"unclosed,1\n2,3\n' + b"x,y\n" * 2000,
    "quotes": b'"' * 50_001,
    "many columns": b"," * 100_000 + b"\n1\n",
    "carriage returns": b"\r" * 20_000,
    "blank lines": b"\n" * 20_000,
    "brackets": b"<" * 100_000,
    "a key twice of many": b"{" + b",".join(b'"k%d":1' % i for i in range(20_000)) + b',"k1":2}\n',
    "every byte": bytes(range(256)) * 200,
    "UTF-16": "a,b\n1,2".encode("utf-16"),
    "UTF-32": "a,b\n1,2".encode("utf-32"),
    "deep XML": b"<a>" * 100_000,
    "XML in punycode": b'<?xml version="1.0" encoding="punycode"?><l/>',
    "spaces": b" " * 200_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_every_text_reader_survives(tmp_path: Path, name: str) -> None:
    begun = time.process_time()
    for ending in TEXT:
        path = tmp_path / f"t{ending}"
        path.write_bytes(HOSTILE[name])
        outcome(path)
        outcome(path, Refused())
    assert time.process_time() - begun < 20


@settings(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    ending=st.sampled_from([*TEXT, ".xlsx"]),
    parts=st.lists(
        st.one_of(
            st.binary(max_size=6),
            st.sampled_from(
                [b"\xef\xbb\xbf", b"\0", b"\r", b"\n", b"\r\n", b'"', b",", b"\t", b"[", b"]", b"{",
                 b'{"a":', b"}", b"1", b'"\\ud800"', b"<a>", b"</a>", b"<a b='c'/>", b"&x;",
                 b"<!DOCTYPE a>", b"PK\x03\x04"]
            ),
        ),
        max_size=40,
    ),
)  # fmt: skip
def test_any_bytes_end_in_rows_or_in_a_refusal(
    tmp_path: Path, ending: str, parts: list[bytes]
) -> None:
    path = tmp_path / f"t{ending}"
    path.write_bytes(b"".join(parts))
    outcome(path)
    outcome(path, Refused())


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".jsonl", ".txt"])
def test_a_line_over_the_cap_is_refused_and_the_next_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    monkeypatch.setattr(lines, "LONGEST", 1000)
    whole = {
        ".csv": b"a,b\n%s,1\n2,3\n",
        ".tsv": b"a\tb\n%s\t1\n2\t3\n",
        ".jsonl": b'{"a": "%s"}\n{"a": "2"}\n',
        ".txt": b"%s\n2\n",
    }
    path = tmp_path / f"t{ending}"
    path.write_bytes(whole[ending] % (b"x" * 5000))
    refused = Refused()
    rows = outcome(path, refused)
    assert isinstance(rows, list) and len(rows) == 1 and "2" in rows[0].values.values()
    assert refused.count == 1 and "longer than" in refused.rows[0].reason


def test_a_line_of_100_megabytes_is_never_held_whole(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    with path.open("wb") as file:
        file.write(b'{"a": "')
        for _ in range(100):
            file.write(b"x" * 2**20)
        file.write(b'"}\n{"a": "y"}\n')
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused = Refused()
    rows = outcome(path, refused)
    assert isinstance(rows, list) and [row.values for row in rows] == [{"a": "y"}]
    assert refused.count == 1
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown < 2.5 * 64  # the cap is 64 MB


def test_xml_entities_are_neither_put_in_nor_fetched(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    path = tmp_path / "t.xml"
    for declared in (
        '<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">',
        f'<!ENTITY b SYSTEM "{secret.as_uri()}">',
        f'<!ENTITY % b SYSTEM "{secret.as_uri()}"> %b;',
    ):
        path.write_text(f"<!DOCTYPE l [{declared}]><l><r><x>&b;</x></r></l>")
        assert "entity is declared" in refusal(path)


def workbook(path: Path, *rows: list[object]) -> Path:
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    book.save(path)
    return path


def test_formulas_are_never_computed(tmp_path: Path) -> None:
    path = workbook(
        tmp_path / "t.xlsx", ["a", "b"], ["x", "=1+1"], ["y", '=WEBSERVICE("http://x")']
    )
    rows = read_rows(path.name, tmp_path)
    assert [row.values["b"] for row in rows] == ["=1+1", '=WEBSERVICE("http://x")']


def test_a_workbook_that_unpacks_to_gigabytes_is_refused(tmp_path: Path) -> None:
    path = workbook(tmp_path / "t.xlsx", ["a"], ["x"])
    with (
        zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as book,
        book.open("xl/worksheets/sheet2.xml", "w") as member,
    ):
        for _ in range(64):
            member.write(b" " * 2**20)
    begun = time.process_time()
    assert "fill a machine's memory" in refusal(path)
    assert time.process_time() - begun < 5


def test_a_workbook_with_an_entity_is_refused(tmp_path: Path) -> None:
    path = workbook(tmp_path / "t.xlsx", ["a"], ["x"])
    with zipfile.ZipFile(path, "a") as book:
        book.writestr("xl/bad.xml", '<!DOCTYPE l [<!ENTITY a "ha">]><l>&a;</l>')
    assert "document type" in refusal(path)


def test_texts_in_lists_of_a_large_parquet_file_are_read(tmp_path: Path) -> None:
    """Its columns change their dictionary inside a group of rows, and from one to the next."""
    chance = random.Random(0)
    rows = [
        {"id": n, "talk": [{"role": "user", "said": f"{n} {chance.random()}" * (n % 90)}] * (n % 3)}
        for n in range(2500)
    ]
    table = pyarrow.Table.from_pylist(rows)
    path = tmp_path / "t.parquet"
    pyarrow.parquet.write_table(
        table, path, row_group_size=1100, dictionary_pagesize_limit=2**14, data_page_size=2**12
    )
    with pytest.raises(pyarrow.ArrowNotImplementedError):
        list(
            pyarrow.parquet.ParquetFile(
                path, read_dictionary=["talk.list.element.said"]
            ).iter_batches(batch_size=1024)
        )
    assert [row.values for row in read_rows(path.name, tmp_path)] == rows


@pytest.mark.parametrize("changes", [False, True])
def test_lists_that_unpack_to_gigabytes_are_refused(tmp_path: Path, changes: bool) -> None:
    texts = ["x" * 2**19, *(str(n) * 2**11 for n in range(200 if changes else 1))]
    places = [0] * 8000 + list(range(1, len(texts)))
    held = pyarrow.DictionaryArray.from_arrays(pyarrow.array(places, "int32"), texts)
    column = pyarrow.ListArray.from_arrays(list(range(len(places) + 1)), held)
    path = tmp_path / "t.parquet"
    pyarrow.parquet.write_table(
        pyarrow.table({"a": column}), path, dictionary_pagesize_limit=2**19 + 2**17
    )
    assert path.stat().st_size < 2**21
    begun = time.process_time()
    assert "fill a machine's memory" in refusal(path)
    assert time.process_time() - begun < 5


@pytest.mark.parametrize("ending", [".parquet", ".arrow"])
def test_columns_that_unpack_to_gigabytes_are_refused(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"t{ending}"
    text = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * 2000, "int32"), ["x" * 2**20])
    table = pyarrow.table({"a": text})
    if ending == ".parquet":
        pyarrow.parquet.write_table(table, path)
    else:
        with pyarrow.OSFile(str(path), "wb") as sink, pyarrow.ipc.new_file(sink, table.schema) as w:
            w.write_table(table)
    assert "fill a machine's memory" in refusal(path)


@settings(
    deadline=None, max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(ending=st.sampled_from([".parquet", ".arrow"]), seed=st.integers(0, 10**6))
def test_damaged_columns_end_in_rows_or_in_a_refusal(
    tmp_path: Path, ending: str, seed: int
) -> None:
    path = tmp_path / f"t{ending}"
    rows = [{"text": f"row {i}", "n": i, "tags": ["x"] * (i % 3)} for i in range(200)]
    WRITERS.get(ending).write(lambda: iter(rows), path, Counter())
    outcome(damaged(path, seed))


def damaged(path: Path, seed: int) -> Path:
    chance, data = random.Random(seed), bytearray(path.read_bytes())
    for _ in range(chance.choice([1, 2, 8])):
        # more of them near the end, where the sizes and places are written
        back = 1 + min(len(data) - 1, int(chance.expovariate(1 / 600)))
        place = len(data) - back if chance.random() < 0.6 else chance.randrange(len(data))
        data[place] = chance.randrange(256)
    path.write_bytes(data[: chance.choice([len(data), len(data), chance.randrange(len(data))])])
    return path


def test_a_file_that_ends_the_library_does_not_end_this_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import subprocess

    path = tmp_path / "t.parquet"
    WRITERS.get(".parquet").write(lambda: iter([{"a": "x"}]), path, Counter())
    aborted = subprocess.CompletedProcess([], -6, b"", b"terminate called")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: aborted)
    assert "it is damaged" in refusal(path)


def test_parallel_names_stay_in_their_folder(tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    for name in ("a.en", "b.en"):
        (tmp_path / name).write_text("secret\n")
    for name in ("{../a,../b}.en", "{a/../../a,b}.en"):
        with pytest.raises(InputError):
            read_rows(f"inside/{name}", tmp_path)


def test_a_folder_never_reads_through_a_link_that_leads_out(tmp_path: Path) -> None:
    (tmp_path / "secret.jsonl").write_text('{"a": "secret"}\n')
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "own.jsonl").write_text('{"a": "own"}\n')
    (inside / "way-out.jsonl").symlink_to(tmp_path / "secret.jsonl")
    with pytest.raises(InputError, match="outside the folder"):
        read_rows("inside", tmp_path)


#: What stands before a long line, the long line itself, and what stands behind it, by the format.
LONG_LINES: dict[str, tuple[str, bytes, bytes, bytes]] = {
    "text": ("t.txt", b"one\n\ntwo\n\n", b"%s", b"\n\nthree\n"),
    "conll": ("t.conll", b"EU B-ORG\nsays O\n\n", b"%s", b"\n\nBonn B-LOC\nis O\n"),
    "irc": (
        "t.log",
        b"10:00 <a> hi\n10:01 <b> ho\n",
        b"10:02 <a> %s",
        b"\n10:03 <b> well\n10:04 <a> three\n",
    ),
    "whatsapp": (
        "t.txt",
        b"12/31/20, 10:00 - Ann: hi\n12/31/20, 10:01 - Bob: ho\n",
        b"12/31/20, 10:02 - Ann: %s",
        b"\n12/31/20, 10:03 - Ann: well\n12/31/20, 10:04 - Bob: three\n",
    ),
    "alpaca": (
        "t.jsonl",
        b'{"instruction": "a", "output": "b"}\n',
        b'{"instruction": "c", "output": "%s"}',
        b'\n{"instruction": "d", "output": "three"}\n',
    ),
    "alpaca:": (
        "t.json",
        b'[{"instruction": "a", "output": "b"},',
        b'{"instruction": "c", "also": [1, {"n": "}\\"]"}], "output": "%s\\\\"}',
        b',{"instruction": "d", "output": "three"}]',
    ),
    "squad": (
        "s.json",
        b'{"version": "2.0", "data": [{"title": "t", "paragraphs": [{"context": "one", "qas": '
        b'[{"id": "1", "question": "q", "answers": [{"text": "one", "answer_start": 0}]}]}]},',
        b'{"title": "t", "paragraphs": [{"context": "%s", "qas": []}]}',
        b',{"title": "t", "paragraphs": [{"context": "three", "qas": '
        b'[{"id": "2", "question": "q", "answers": [{"text": "three", "answer_start": 0}]}]}]}]}',
    ),
    "openai": (
        "t.jsonl",
        b'{"messages": [{"role": "user", "content": "a"},'
        b' {"role": "assistant", "content": "b"}]}\n',
        b'{"messages": [{"role": "user", "content": "%s"}]}',
        b'\n{"messages": [{"role": "user", "content": "a"},'
        b' {"role": "assistant", "content": "three"}]}\n',
    ),
}
#: Files that are one value: a part that is too long ends the reading, in one line.
LONG_VALUES: dict[str, tuple[str, bytes]] = {
    "alpaca": ("t.json", b'{"about": "%s", "rows": [{"instruction": "a", "output": "b"}]}'),
    "squad": ("s.json", b'{"version": "%s", "data": []}'),
    "slack": (
        "t.xml",
        b"<slack><message><ts>2018-01-01T00:00:00</ts><user>a</user><text>%s</text></message>"
        b"</slack>",
    ),
    "parallel": ("p.en", b"one\n%s\nthree\n"),
}


def grown(work: Callable[[], object], long: int) -> float:
    """How many bytes were held at most, as a share of the long line."""
    work()  # what is loaded once is not counted
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1] / long
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("format", LONG_LINES)
def test_no_format_of_lines_holds_a_line_over_the_cap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: str
) -> None:
    monkeypatch.setattr(lines, "LONGEST", 2**14)
    name, before, line, behind = LONG_LINES[format]
    (tmp_path / name).write_bytes(before + line % (b"x" * 2**24) + behind)
    found: list[SourceRow] = []
    refused = Refused()

    def read() -> None:
        form = format.rstrip(":")
        found[:] = stream_rows(name, tmp_path, format=form, refused=refused)

    assert grown(read, 2**24) < 0.5
    assert "three" in str(found[-1].values) or "Bonn" in str(found[-1].values)
    assert len(found) >= 2
    assert refused.count == 2  # once in each reading
    assert "is longer than" in refused.rows[0].reason
    assert name in refused.rows[0].source


@pytest.mark.parametrize("format", LONG_VALUES)
def test_no_format_holds_a_value_over_the_cap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: str
) -> None:
    monkeypatch.setattr(lines, "LONGEST", 2**14)
    name, content = LONG_VALUES[format]
    (tmp_path / name).write_bytes(content % (b"x" * 2**24))
    if format == "parallel":
        (tmp_path / "p.de").write_bytes(b"eins\nzwei\ndrei\n")

    def read() -> None:
        with pytest.raises(InputError, match=rf"{name} line \d.*longer than"):
            list(stream_rows(name, tmp_path, format=format, refused=Refused()))

    assert grown(read, 2**24) < 0.5


def test_a_sentence_or_a_text_without_an_end_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "LONGEST", 2**14)
    monkeypatch.setattr(conll, "MOST_WORDS", 1000)
    for name, start, line, end in (
        ("t.conll", "EU B-ORG\nsays O\n\n", "EU B-ORG\n", "\nBonn B-LOC\nis O\n"),
        ("t.txt", "one\n\n", "more of the same\n", "\ntwo\n"),
    ):
        (tmp_path / name).write_text(start + line * 50_000 + end)
        refused = Refused()
        rows = list(stream_rows(name, tmp_path, format="auto", refused=refused))
        assert len(rows) == 2
        assert refused.count == 1
