"""Pseudonyms: there and back, the same for the same value, the table apart from the data."""

from __future__ import annotations

import csv
import json
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.data.privacy import find
from luthier.data.privacy.finding import chosen_types
from luthier.data.privacy.known_values import KnownValues
from luthier.data.privacy.pseudonyms import PSEUDONYM, Pseudonyms, check_apart, table_at
from luthier.data.privacy.redacting import Wish, redact_files, redact_texts, restore_files
from luthier.errors import InputError, RunError
from luthier.files import read_jsonl

PERSONAL = chosen_types(["identifier", "person"])
VALUES = [
    "Anna Svensson",
    "anna@firma.se",
    "+46 70 174 06 58",
    "4539 1488 0343 6467",
    "Dr. Lind",
    "12 Main Street, Boston",
    "[EMAIL_aaaaaaaa]",
    "[API_KEY]",
    "[",
    "Mr. O'Neil",
    "536-90-4399",
    "DE89370400440532013000",
    "born on 12 March 1987",
    "\ud83d",
    "\0",
    "call 0701740658",
]
TEXTS = st.lists(
    st.lists(st.one_of(st.sampled_from(VALUES), st.text(max_size=6)), max_size=6).map(" ".join),
    min_size=1,
    max_size=5,
)  # fmt: skip


@settings(deadline=None, max_examples=150)
@given(TEXTS)
def test_there_and_back(texts: list[str]) -> None:
    table = Pseudonyms()
    wish = Wish(PERSONAL)
    redacted = [text for text, _ in redact_texts(texts, table, wish)]
    assert [table.restore(text) for text in redacted] == texts
    # again, it changes nothing
    assert [text for text, _ in redact_texts(redacted, table, wish)] == redacted
    for text in redacted:
        rest = PSEUDONYM.sub(" | ", text)
        assert find(rest, types=["EMAIL", "IBAN", "CREDIT_CARD"]) == []


def test_one_value_one_pseudonym() -> None:
    table = Pseudonyms()
    texts = ["mail anna@firma.se", "anna@firma.se or Anna@Firma.se", "bo@firma.se"]
    (one, _), (two, _), (three, _) = redact_texts(texts, table, Wish(PERSONAL))
    name = one.removeprefix("mail ")
    assert PSEUDONYM.fullmatch(name) and name.startswith("[EMAIL_")
    # another spelling has the same code, and its own number, so that it comes back as it was
    assert two == f"{name} or {name[:-1]}.1]"
    assert three[:-1] not in name
    assert sorted(table.values.values()) == ["Anna@Firma.se", "anna@firma.se", "bo@firma.se"]


def test_the_key_decides_and_the_code_alone_says_nothing() -> None:
    def code(key: bytes | None) -> str:
        table = Pseudonyms(key)
        return redact_texts(["anna@firma.se"], table, Wish(PERSONAL))[0][0]

    assert code(b"k" * 32) == code(b"k" * 32)
    assert len({code(None), code(None), code(b"k" * 32)}) == 3


def test_secrets_are_in_no_table() -> None:
    key = "AKIA" + "Q3EGRJ5TXP2Z7MNB"
    table = Pseudonyms()
    ((text, spans),) = redact_texts([f"{key} of anna@firma.se"], table, Wish(chosen_types(["all"])))
    assert text.startswith("[API_KEY] of [EMAIL_") and spans[0].text == key
    assert list(table.values.values()) == ["anna@firma.se"]
    assert table.restore(text) == "[API_KEY] of anna@firma.se"


def test_the_table_is_stored_for_its_owner_alone(tmp_path: Path) -> None:
    table = Pseudonyms(b"k" * 32, {"[EMAIL_abcdefgh]": "half \ud83d@ of it"})
    path = tmp_path / "keys" / "map.json"
    os.umask(0)
    table.save(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o644)
    table.save(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    held = Pseudonyms.load(path)
    assert held.values == table.values
    spans = find("bo@firma.se")
    assert held.of(spans[0]) == table.of(spans[0])


@pytest.mark.parametrize(
    "text",
    ["", "[]", "nonsense", '{"version": 2}', '{"version": 1, "key": "zz", "values": {}}',
     '{"version": 1, "key": "' + "ab" * 32 + '", "values": {"[X]": "y"}}',
     '{"version": 1, "key": "' + "ab" * 32 + '", "values": {"[EMAIL_abcdefgh]": 3}}',
     "[" * 100_000],
)  # fmt: skip
def test_what_is_no_table(tmp_path: Path, text: str) -> None:
    path = tmp_path / "map.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"map\.json is no table"):
        Pseudonyms.load(path)


def test_the_table_lies_apart_from_the_data(tmp_path: Path) -> None:
    data = [tmp_path / "data" / "train.jsonl", tmp_path / "out"]
    (tmp_path / "data").mkdir()
    (tmp_path / "run" / "arms").mkdir(parents=True)
    (tmp_path / "run" / "manifest.json").write_text("{}")
    check_apart(tmp_path / "keys" / "map.json", data)
    (tmp_path / "link").symlink_to(tmp_path / "data")
    for place in (
        "data/map.json",
        "out/map.json",
        "run/map.json",
        "run/arms/a.json",
        "link/m.json",
    ):
        with pytest.raises(InputError, match="must lie apart from the data"):
            check_apart(tmp_path / place, data)


def test_a_table_in_use_is_not_taken(tmp_path: Path) -> None:
    path = tmp_path / "map.json"
    with table_at(path), pytest.raises(RunError, match="Another process"), table_at(path):
        pass


def test_known_values_are_words_of_their_own() -> None:
    known = KnownValues([("PHONE", "+46 70 174"), ("PERSON", "Anna"), ("PERSON", "Anna Lind"),
                         ("EMAIL", "a@b.se"), ("DATE", "2021-03-04")])  # fmt: skip
    text = "+46 70 174, x+46 70 1745, Anna, Anna Lind, Anna Lindh, xa@b.se, a@b.se, 2021-03-04"
    assert [span.text for span in known.find(text)] == ["+46 70 174", "Anna Lind", "a@b.se"]
    assert all(text[span.start : span.end] == span.text for span in known.find(text))


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path, Path]:
    train, test, note = tmp_path / "train.jsonl", tmp_path / "test.csv", tmp_path / "note.md"
    rows = [
        {"q": "I am Anna Svensson, call me at 0701 74 06 58", "n": 3, "m": [{"c": "a@firma.se"}]},
        {"q": "nothing here", "n": None, "m": []},
        {"q": "0701 74 06 58", "n": 1.5, "m": [{"c": "password: Summer2024!"}]},
    ]
    train.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with test.open("w", newline="") as opened:
        csv.writer(opened).writerows(
            [["q"], ["write to a@firma.se,\nAnna Svensson"], ["Summer2024!"]]
        )
    note.write_text("# Anna Svensson\r\n\r\nashes \U0001f600 a@firma.se\r\n", newline="")
    return train, test, note


def test_files_there_and_back(files: tuple[Path, ...], tmp_path: Path) -> None:
    train, _, note = files
    before = [path.read_bytes() for path in files]
    table, out = Pseudonyms(), tmp_path / "out"
    outs = [out / "train.jsonl", out / "test.jsonl", out / "note.md"]
    wish = Wish(chosen_types(["secret", "identifier", "person"]))
    saved: list[bool] = []

    def save() -> None:
        saved.append(any(path.exists() for path in outs[:1]))

    done = redact_files([str(path) for path in files], outs, table, wish, save)
    assert done.files == {str(outs[0]): 3, str(outs[1]): 2, str(outs[2]): 1}
    assert done.counts == {"PERSON": 3, "PHONE": 2, "EMAIL": 3, "PASSWORD": 2}
    assert saved[0] is False  # the table is there before the first file is
    assert [path.read_bytes() for path in files] == before
    everything = "".join(path.read_text() for path in out.iterdir())
    for value in ("Anna", "Svensson", "0701", "74 06 58", "firma", "Summer2024"):
        assert value not in everything
    rows = read_jsonl(outs[0])
    # what was found behind "call me at" is replaced where it stands alone too
    assert rows[2]["q"] in rows[0]["q"] and PSEUDONYM.fullmatch(rows[2]["q"])
    assert rows[2]["m"] == [{"c": "password: [PASSWORD]"}] and rows[2]["n"] == 1.5
    assert rows[1] == {"q": "nothing here", "n": None, "m": []}
    assert rows[0]["m"][0]["c"] in read_jsonl(outs[1])[0]["q"]
    log = read_jsonl(out / "train.changes.jsonl")
    assert log[0] | {"written": ""} == {
        "row": f"{train} line 1", "where": "q", "type": "PERSON", "written": "",
        "confidence": 0.85, "evidence": "given name and what follows",
    }  # fmt: skip
    assert [line["where"] for line in log] == ["q", "q", "m[0].c", "q", "m[0].c"]

    backs = [tmp_path / "back" / path.name for path in outs]
    restored = restore_files([str(path) for path in outs], backs, table)
    assert (restored.restored, restored.unknown) == (8, 0)
    rows = [json.loads(line) for line in train.read_text().splitlines()]
    rows[2]["m"][0]["c"] = "password: [PASSWORD]"
    assert read_jsonl(backs[0]) == rows
    assert read_jsonl(backs[1])[0] == {"q": "write to a@firma.se,\nAnna Svensson"}
    assert backs[2].read_bytes() == note.read_bytes()
    other = restore_files([str(outs[0])], [tmp_path / "o.jsonl"], Pseudonyms())
    assert (other.restored, other.unknown) == (0, 4)


def test_nothing_is_written_over(files: tuple[Path, ...], tmp_path: Path) -> None:
    there = tmp_path / "there.jsonl"
    there.write_text("mine")
    with pytest.raises(InputError, match="there already"):
        redact_files([str(files[0])], [there], Pseudonyms(), Wish(PERSONAL), lambda: None)
    with pytest.raises(InputError, match="there already"):
        restore_files([str(files[0])], [there], Pseudonyms())
    assert there.read_text() == "mine"


def test_a_text_that_is_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"ok \xff")
    out = tmp_path / "b.txt"
    with pytest.raises(InputError, match="byte 3 is 0xff"):
        redact_files([str(tmp_path / "a.txt")], [out], Pseudonyms(), Wish(PERSONAL), lambda: None)
    assert not out.exists()
