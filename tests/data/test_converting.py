"""Converting: what is written and read again is equal, and what is lost or refused is said."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from luthier.data import converting, row_plans, spool
from luthier.data.converting import Converted, convert_file
from luthier.data.format import FORMATS, Written
from luthier.data.reading import read_rows
from luthier.data.row_plans import Wish
from luthier.errors import InputError

Turns = list[dict[str, Any]]


def convert(base: Path, source: str, out: str, to: str, **how: Any) -> Converted:
    wish = Wish(to, how.pop("given", None), how.pop("columns", {}))
    return convert_file(source, base, base / out, wish, force=True, **how)


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


# csv holds no NUL; texts that look like JSON must stay texts
TEXTS = st.one_of(
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=30),
    st.sampled_from(
        ['[{"role": "user", "content": "x"}]', "[1]", "{}", '"', "a,b\r\nc\rd", "true"]
    ),
).filter(str.strip)


@st.composite
def conversations(draw: Callable[[Any], Any]) -> Turns:
    """A system turn perhaps, then user and assistant in turn."""
    made = [turn("system", draw(TEXTS))] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(1, 3))):
        made += [turn("user", draw(TEXTS)), turn("assistant", draw(TEXTS))]
    return made


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "parquet", "arrow"])
@pytest.mark.parametrize(
    "to", ["alpaca", "sharegpt", "openai", "prompt-completion", "kto", "preference"]
)
def test_what_is_written_in_a_format_and_read_again_is_equal(
    tmp_path: Path, to: str, kind: str
) -> None:
    # a file of columns is tried in a process of its own, which takes its time
    tries = 3 if kind in ("parquet", "arrow") else 30

    @settings(deadline=None, max_examples=tries, suppress_health_check=list(HealthCheck))
    @given(st.lists(conversations(), min_size=1, max_size=4))
    def holds(talks: list[Turns]) -> None:
        rows = [
            {"messages": talk, "label": number % 2 == 0, "chosen": talk[-1]["content"],
             "rejected": f"not {talk[-1]['content']}"}
            for number, talk in enumerate(talks)
        ]  # fmt: skip
        kept = {"kto": ("messages", "label"), "preference": ("messages", "chosen", "rejected")}
        rows = [{name: row[name] for name in kept.get(to, ("messages",))} for row in rows]
        # a row of ours says less than the format's own where an answer reads as turns
        write = FORMATS.get("preference").write
        held = [write(row).values for row in rows] if to == "preference" and write else rows
        write_rows(tmp_path / "in.jsonl", held)
        given = to if to in kept else "openai"
        done = convert(tmp_path, "in.jsonl", f"out.{kind}", to, given=given)
        assert done.rows == len(rows) and done.refused.count == 0
        read = read_rows(f"out.{kind}", tmp_path, format=to)
        assert [row.values for row in read] == rows

    holds()


VALUES = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False),
        st.text(st.characters(codec="utf-8"), max_size=8),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from("xyz"), inner, max_size=3)
    ),
    max_leaves=6,
)  # fmt: skip


@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(st.dictionaries(st.sampled_from("abc"), VALUES, min_size=1), min_size=1, max_size=4)
)
def test_any_table_comes_back_from_json(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    write_rows(tmp_path / "in.jsonl", rows)
    convert(tmp_path, "in.jsonl", "out.json", "json")
    assert [row.values for row in read_rows("out.json", tmp_path)] == rows


@settings(
    deadline=None, max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.fixed_dictionaries({"a": VALUES, "b": VALUES}), min_size=1, max_size=4))
def test_any_table_comes_back_from_parquet_or_what_is_lost_is_said(
    tmp_path: Path, rows: list[dict[str, Any]]
) -> None:
    write_rows(tmp_path / "in.jsonl", rows)
    lost = convert(tmp_path, "in.jsonl", "out.parquet", "parquet").lost
    for name in "ab":
        read = [row.values[name] for row in read_rows("out.parquet", tmp_path)]
        if any(f"{name!r}" in what for what in lost):
            was = [row[name] for row in rows]
            read = [
                value if value is None or isinstance(one, str) else json.loads(value)
                for value, one in zip(read, was, strict=True)
            ]
        assert [without_nulls(value) for value in read] == [
            without_nulls(row[name]) for row in rows
        ]


def without_nulls(value: Any) -> Any:
    """Keys that an object of a column lacks are null."""
    if isinstance(value, dict):
        return {key: without_nulls(one) for key, one in value.items() if one is not None}
    return [without_nulls(one) for one in value] if isinstance(value, list) else value


def test_columns_are_mapped_to_roles(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("text,label,id\nhello,greeting,7\n")
    columns = {"prompt": "text", "completion": "label"}
    convert(tmp_path, "t.csv", "o.jsonl", "prompt_completion", columns=columns)
    assert read_rows("o.jsonl", tmp_path)[0].values == {
        "prompt": "hello", "completion": "greeting", "id": "7",
    }  # fmt: skip
    convert(tmp_path, "t.csv", "o.jsonl", "openai", columns={**columns, "system": "id"})
    assert read_rows("o.jsonl", tmp_path)[0].values["messages"][0] == turn("system", "7")
    for wrong, said in (
        ({"prompt": "txt", "completion": "label"}, "Did you mean 'text'"),
        ({"promt": "text"}, "Did you mean 'prompt'"),
        ({"prompt": "text"}, "completion"),
        ({"prompt": "text", "completion": "id", "label": "text"}, "label"),
    ):
        with pytest.raises(InputError) as caught:
            convert(tmp_path, "t.csv", "o.jsonl", "openai", columns=wrong)
        assert said in str(caught.value)


def test_what_is_lost_is_counted(tmp_path: Path) -> None:
    talk = [turn("user", "a"), {**turn("assistant", "b"), "weight": 0.5}]
    write_rows(tmp_path / "in.jsonl", [{"messages": talk}] * 3)
    assert convert(tmp_path, "in.jsonl", "o.jsonl", "alpaca").lost == {"turn weights": 3}
    assert not convert(tmp_path, "in.jsonl", "s.jsonl", "sharegpt").lost
    assert read_rows("s.jsonl", tmp_path, format="auto")[0].values == {"messages": talk}
    assert not convert(tmp_path, "in.jsonl", "p.jsonl", "prompt-completion").lost


def test_refused_rows_are_counted_and_listed(tmp_path: Path) -> None:
    good = json.dumps({"messages": [turn("user", "a"), turn("assistant", "b")]})
    bad = json.dumps({"messages": [turn("user", "a"), turn("tool", "b")]})
    half = json.dumps({"messages": [turn("user", "\ud800"), turn("assistant", "b")]})
    (tmp_path / "in.jsonl").write_text("\n".join([good, "{", bad, good, half]) + "\n")
    done = convert(tmp_path, "in.jsonl", "o.csv", "alpaca", refused_file=tmp_path / "refused.jsonl")
    assert (done.rows, done.refused.count) == (2, 3)
    listed = [json.loads(line) for line in (tmp_path / "refused.jsonl").open()]
    assert [row["source"] for row in listed] == [f"in.jsonl line {n}" for n in (2, 3, 5)]
    assert all(row["reason"] for row in listed)


def test_nothing_is_replaced_unasked_and_never_the_source(tmp_path: Path) -> None:
    write_rows(tmp_path / "in.jsonl", [{"a": 1}])
    (tmp_path / "o.csv").write_text("kept")
    with pytest.raises(InputError, match="there already"):
        convert_file("in.jsonl", tmp_path, tmp_path / "o.csv", Wish("csv"))
    assert (tmp_path / "o.csv").read_text() == "kept"
    with pytest.raises(InputError, match="the source itself"):
        convert(tmp_path, "in.jsonl", "in.jsonl", "jsonl")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "o.csv"]


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_a_conversion_that_was_killed_is_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    talk = [turn("user", "a"), turn("assistant", "b")]
    rows: list[dict[str, Any]] = [{"messages": talk, "n": n} for n in range(100)]
    for number in (5, 50, 95):
        rows[number] = {"messages": [turn("tool", "x")], "n": number}
    write_rows(tmp_path / "in.jsonl", rows)
    whole = convert(tmp_path, "in.jsonl", f"whole.{kind}", "sharegpt")
    monkeypatch.setattr(spool, "_EVERY", 10)
    shaped: list[int] = []
    real = row_plans._writing

    def counting(dies_at: int) -> Callable[..., Any]:
        def writing(*given: Any) -> Callable[..., Written]:
            shape = real(*given)

            def write(row: Any) -> Written:
                shaped.append(row.values["n"])
                if row.values["n"] == dies_at:
                    raise KeyboardInterrupt
                return shape(row)

            return write

        return writing

    monkeypatch.setattr(row_plans, "_writing", counting(77))
    with pytest.raises(KeyboardInterrupt):
        convert(tmp_path, "in.jsonl", f"o.{kind}", "sharegpt")
    assert not (tmp_path / f"o.{kind}").exists()
    shaped.clear()
    monkeypatch.setattr(row_plans, "_writing", counting(-1))
    listed = tmp_path / "refused.jsonl"
    done = convert(tmp_path, "in.jsonl", f"o.{kind}", "sharegpt", refused_file=listed)
    assert min(shaped) > 60  # what was done is not done again
    assert (tmp_path / f"o.{kind}").read_bytes() == (tmp_path / f"whole.{kind}").read_bytes()
    assert (done.rows, done.refused.count) == (97, 3) == (whole.rows, whole.refused.count)
    assert done.refused.rows == whole.refused.rows and len(listed.read_text().splitlines()) == 3
    assert not list(tmp_path.glob(".*"))


def test_a_source_that_changed_is_converted_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_rows(tmp_path / "in.jsonl", [{"n": n} for n in range(30)])
    monkeypatch.setattr(spool, "_EVERY", 10)
    with monkeypatch.context() as broken:

        def stop(*_: Any) -> None:
            raise KeyboardInterrupt

        broken.setattr(converting, "finish", stop)
        with pytest.raises(KeyboardInterrupt):
            convert(tmp_path, "in.jsonl", "o.json", "json")
    write_rows(tmp_path / "in.jsonl", [{"n": -n} for n in range(1, 41)])
    assert convert(tmp_path, "in.jsonl", "o.json", "json").rows == 40
    assert read_rows("o.json", tmp_path)[0].values == {"n": -1}
