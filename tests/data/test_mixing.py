"""`luthier mix`: shares, statistics, formats, and going on where a call was killed."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from run_samples import luthier, read_jsonl

from luthier.data import mixing, spool
from luthier.data.mixing import MixSource, MixWish, mix_files
from luthier.data.mixtures import shares, turns

Capture = pytest.CaptureFixture[str]


def write(path: Path, count: int, name: str = "") -> Path:
    name = name or path.stem
    rows = [{"text": f"{name} {n}", "n": n} for n in range(count)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


@pytest.fixture
def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a.jsonl", 60)
    write(tmp_path / "b.jsonl", 20)
    return tmp_path


def mixed(capsys: Capture, *words: Any) -> dict[str, Any]:
    code, printed, error = luthier(capsys, "mix", *words, "--out", "m.jsonl", "--json", "--force")
    assert code == 0, error
    document: dict[str, Any] = json.loads(printed)
    return document


def test_by_size_every_row_comes_once(two: Path, capsys: Capture) -> None:
    document = mixed(capsys, "a.jsonl", "b.jsonl")
    rows = read_jsonl(two / "m.jsonl")
    assert Counter(row["text"] for row in rows) == Counter(
        [*(f"a {n}" for n in range(60)), *(f"b {n}" for n in range(20))]
    )
    assert all(row["source"] == row["text"].split()[0] for row in rows)
    assert [row["n"] for row in rows if row["source"] == "a"] != list(range(60))
    assert [
        (s["name"], s["rows"], s["share"], s["draws"], s["epochs"]) for s in document["sources"]
    ]
    assert [s["draws"] for s in document["sources"]] == [60, 20]
    assert not list(two.glob(".m.*"))


def test_weights_and_repeats(two: Path, capsys: Capture) -> None:
    document = mixed(capsys, "x=a.jsonl", "y=b.jsonl", "--weight", "y=3", "--rows", "100")
    assert [s["share"] for s in document["sources"]] == [0.25, 0.75]
    assert [s["draws"] for s in document["sources"]] == [25, 75]
    assert document["sources"][1]["epochs"] == 3.75
    counts = Counter(row["n"] for row in read_jsonl(two / "m.jsonl") if row["source"] == "y")
    assert set(counts.values()) == {3, 4}  # no row again before all came
    # without a number, as many as come without a repeat
    document = mixed(capsys, "x=a.jsonl", "y=b.jsonl", "--weight", "y=3")
    assert [s["draws"] for s in document["sources"]] == [7, 20]


def test_temperature_cap_and_most(two: Path, capsys: Capture) -> None:
    document = mixed(capsys, "a.jsonl", "b.jsonl", "--temperature", "2")
    assert [s["share"] for s in document["sources"]] == shares([60, 20], temperature=2)
    document = mixed(capsys, "a.jsonl", "b.jsonl", "--cap", "20")
    assert [s["share"] for s in document["sources"]] == [0.5, 0.5]
    document = mixed(capsys, "a.jsonl", "b.jsonl", "--most", "a=5")
    assert [s["rows"] for s in document["sources"]] == [5, 20]
    assert {r["n"] for r in read_jsonl(two / "m.jsonl") if r["source"] == "a"} == set(range(5))


@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=4),
    temperature=st.none() | st.floats(0.3, 20),
    total=st.none() | st.integers(1, 120),
    buffer=st.integers(1, 50),
    seed=st.integers(0, 3),
)
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_mixture_keeps_its_shares(
    tmp_path: Path,
    sizes: list[int],
    temperature: float | None,
    total: int | None,
    buffer: int,
    seed: int,
) -> None:
    given_ = []
    for place, size in enumerate(sizes):
        write(tmp_path / f"s{place}.jsonl", size)
        given_.append(MixSource(f"s{place}", f"s{place}.jsonl"))
    wish = MixWish(temperature=temperature, rows=total, buffer=buffer, seed=seed)
    done = mix_files(given_, tmp_path, tmp_path / "m.jsonl", wish, force=True)
    rows = read_jsonl(tmp_path / "m.jsonl")
    assert len(rows) == done.rows
    if total is not None:
        assert done.rows == total
    counts = Counter(row["source"] for row in rows)
    order = Counter(turns([one.share for one in done.sources], done.rows))
    for place, (one, size) in enumerate(zip(done.sources, sizes, strict=True)):
        assert counts[one.name] == one.draws == order[place]
        each = Counter(row["n"] for row in rows if row["source"] == one.name)
        seen = one.draws // size
        assert all(each[n] in (seen, seen + 1) for n in range(size))
        if total is None:
            assert one.draws <= size
    if total is None:  # one more row would have been a repeat
        assert any(one.draws == size for one, size in zip(done.sources, sizes, strict=True))


def test_all_in_one_format(two: Path, capsys: Capture) -> None:
    alpaca = [{"instruction": f"i{n}", "input": "", "output": f"o{n}"} for n in range(5)]
    (two / "alpaca.json").write_text(json.dumps(alpaca), "utf-8")
    talk = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]
    (two / "chat.jsonl").write_text(json.dumps({"conversations": talk}) + "\n", "utf-8")
    document = mixed(capsys, "alpaca.json", "chat.jsonl", "--to", "openai")
    assert "Alpaca" in document["sources"][0]["read_as"]
    rows = read_jsonl(two / "m.jsonl")
    assert len(rows) == 6
    assert {"role": "assistant", "content": "a"} in next(
        row["messages"] for row in rows if row["source"] == "chat"
    )
    code, _, error = luthier(
        capsys, "mix", "alpaca.json", "a.jsonl", "--to", "openai", "--out", "n.jsonl"
    )
    assert code == 2
    assert "luthier convert a.jsonl --to openai" in error
    document = mixed(capsys, "alpaca.json", "chat.jsonl", "--no-source-column")
    assert all("source" not in row for row in read_jsonl(two / "m.jsonl"))


def test_rows_that_cannot_be_used_are_counted_and_listed(two: Path, capsys: Capture) -> None:
    with (two / "b.jsonl").open("a") as file:
        file.write('{"text": "cut\n{"text": "taken", "source": "web"}\n')
    document = mixed(capsys, "a.jsonl", "b.jsonl", "--refused", "no.jsonl")
    assert [s["refused"] for s in document["sources"]] == [0, 2]
    assert document["refused"] == 2
    listed = read_jsonl(two / "no.jsonl")
    assert [row["source"] for row in listed] == ["b.jsonl line 21", "b.jsonl line 22"]
    assert "--source-column" in listed[1]["reason"]
    document = mixed(capsys, "a.jsonl", "b.jsonl", "--source-column", "from")
    assert document["refused"] == 1


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, MemoryError])
def test_an_interrupted_call_is_gone_on_with(
    two: Path, monkeypatch: pytest.MonkeyPatch, interruption: type[BaseException]
) -> None:
    given_ = [MixSource("a", "a.jsonl"), MixSource("b", "b.jsonl", most=15)]
    wish = MixWish(temperature=3, rows=90, buffer=4, seed=2)
    mix_files(given_, two, two / "whole.jsonl", wish)
    monkeypatch.setattr(spool, "_EVERY", 10)
    whole = mixing.mixed
    drawn: list[int] = []

    def stops(*args: Any, **how: Any) -> Any:
        drawn.append(how["start"])
        for number, row in enumerate(whole(*args, **how)):
            if number == 47 and len(drawn) == 1:
                raise interruption
            yield row

    monkeypatch.setattr(mixing, "mixed", stops)
    with pytest.raises(interruption):
        mix_files(given_, two, two / "m.jsonl", wish)
    assert not (two / "m.jsonl").exists()
    done = mix_files(given_, two, two / "m.jsonl", wish)
    assert drawn == [0, 40]
    assert (two / "m.jsonl").read_bytes() == (two / "whole.jsonl").read_bytes()
    assert done.rows == 90
    assert not list(two.glob(".m.*"))


@pytest.mark.parametrize("ending", ["csv", "parquet", "json"])
def test_other_kinds_of_file(two: Path, capsys: Capture, ending: str) -> None:
    code, printed, _ = luthier(capsys, "mix", "a.jsonl", "b.jsonl", "--out", f"m.{ending}")
    assert code == 0
    assert f"m.{ending}: 80 rows." in printed
    assert "75.0 %" in printed


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere.jsonl"], "nowhere.jsonl does not exist"),
        (["a.jsonl", "a.jsonl"], "Two sources are called 'a'"),
        (["a.jsonl", "--weight", "c=2"], "--weight names 'c'"),
        (["a.jsonl", "--weight", "a"], "is not NAME=NUMBER"),
        (["a.jsonl", "--weight", "a=much"], "is not NAME=NUMBER"),
        (["a.jsonl", "--weight", "a=0"], "must be above 0"),
        (["a.jsonl", "--weight", "a=nan"], "must be above 0"),
        (["a.jsonl", "--weight", "a=1", "--weight", "a=2"], "twice"),
        (["a.jsonl", "b.jsonl", "--weight", "a=1", "--cap", "5"], "not both"),
        (["a.jsonl", "--temperature", "0"], "must be above 0"),
        (["a.jsonl", "--most", "a=0"], "leave none"),
        (["a.jsonl", "--rows", "0"], "--rows"),
        (["a.jsonl", "--to", "opnai"], "Unknown format"),
        (["a.jsonl", "broken.jsonl"], "none of its"),
    ],
)
def test_wrong_use_is_one_line(two: Path, capsys: Capture, words: list[str], said: str) -> None:
    (two / "broken.jsonl").write_text("{\n{\n")
    code, printed, error = luthier(capsys, "mix", *words, "--out", "m.jsonl")
    assert code == 2
    assert not printed
    assert said in error
    assert "Traceback" not in error
    assert not (two / "m.jsonl").exists()
    assert not list(two.glob(".m.*"))


def test_no_file_is_written_over(two: Path, capsys: Capture) -> None:
    before = (two / "a.jsonl").read_bytes()
    for more in ([], ["--force"]):
        code, _, error = luthier(capsys, "mix", "a.jsonl", "b.jsonl", "--out", "a.jsonl", *more)
        assert code == 2
        assert "is there already" in error or "is one of the sources" in error
    assert (two / "a.jsonl").read_bytes() == before
