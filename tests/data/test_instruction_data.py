"""One table becomes instruction data for many tasks; and the verbs of the template library."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from run_samples import luthier

from luthier.data.instruction_data import Built, build, choose
from luthier.data.prepare import prepare
from luthier.data.reading import SourceRow, stream_rows
from luthier.data.refused import Refused
from luthier.data.template_evidence import look
from luthier.errors import InputError
from luthier.files import read_jsonl
from luthier.task import Task

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
Capture = pytest.CaptureFixture[str]


def reviews(count: int = 40) -> list[dict[str, Any]]:
    return [
        {
            "reviewText": f"Pair {n} kept both of my feet warm all winter",
            "overall": float(1 + n % 5),
            "summary": f"Warm feet {n}",
            "asin": f"B{n % 7}",
            "id": n,
        }
        for n in range(count)
    ]


def save(folder: Path, rows: list[dict[str, Any]]) -> Path:
    path = folder / "r.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def made(
    folder: Path,
    rows: list[dict[str, Any]],
    names: list[str] | None = None,
    out: str = "out.jsonl",
    **options: Any,
) -> tuple[list[dict[str, Any]], Built]:
    save(folder, rows)

    def opened(refused: Refused | None) -> Iterator[SourceRow]:
        return stream_rows("r.jsonl", folder, refused=refused)

    columns = look(opened(None))
    chosen = choose(names, columns, options.pop("fields", {}), "r.jsonl")
    built = build(opened, folder / out, chosen, columns, **options)
    return read_jsonl(folder / out), built


def test_a_table_of_reviews_is_data_for_many_tasks(tmp_path: Path) -> None:
    rows, built = made(tmp_path, reviews())
    assert len({row["template"] for row in rows}) == 8
    assert built.written == len(rows) == sum(c.total() for c in built.counts.values())
    assert built.rows == built.groups == 40
    assert built.left_out["review-recommends"] == {"three stars recommend neither": 8}
    for row in rows:
        asked, said = row["messages"]
        assert (asked["role"], said["role"]) == ("user", "assistant")
        assert row["choices"] is None or said["content"] in row["choices"]
        assert row["asin"].startswith("B") and row["version"] >= 1
    assert {row["row_id"] for row in rows} == set(range(40))
    assert len({row["id"] for row in rows}) == len(rows)
    by_template = defaultdict(set)
    for row in rows:
        by_template[row["template"]].add(row["phrasing"])
    assert all(len(names) >= 3 for names in by_template.values())


def test_the_same_seed_makes_the_same_file_and_another_does_not(tmp_path: Path) -> None:
    for name, seed in (("a.jsonl", 0), ("b.jsonl", 0), ("c.jsonl", 1)):
        made(tmp_path, reviews(), out=name, seed=seed, per_row=2)
    one, same, other = ((tmp_path / f"{n}.jsonl").read_bytes() for n in "abc")
    assert one == same != other


def test_what_a_row_becomes_does_not_depend_on_its_neighbours(tmp_path: Path) -> None:
    names = ["review-title", "review-rating"]
    before, _ = made(tmp_path, reviews(), names, per_row=1)
    after, _ = made(tmp_path, reviews()[10:], names, per_row=1)
    kept = {row["row_id"]: (row["template"], row["messages"]) for row in before}
    assert all(kept[row["row_id"]] == (row["template"], row["messages"]) for row in after)


def test_each_row_goes_through_as_many_templates_as_asked(tmp_path: Path) -> None:
    for wanted in (1, 3, 50):
        rows, _ = made(tmp_path, reviews(), per_row=wanted)
        counts = Counter(row["row_id"] for row in rows)
        # every row fits seven of the eight templates at least (three stars recommend neither)
        assert all(min(wanted, 7) <= count <= min(wanted, 8) for count in counts.values())
        assert len(counts) == 40


def test_templates_share_rows_by_weight(tmp_path: Path) -> None:
    names = ["review-title", "review-rating"]
    weights = {"review-title": 3.0}
    _, built = made(tmp_path, reviews(2000), names, per_row=1, weights=weights)
    # 3 of 4: 1,500, with a standard deviation of 19
    assert abs(built.counts["review-title"].total() - 1500) < 80
    assert built.written == 2000


def test_rows_that_cannot_be_used_are_counted_by_reason(tmp_path: Path) -> None:
    rows = reviews()
    rows[0]["reviewText"] = ""
    rows[1]["overall"] = None
    rows[2]["reviewText"] = rows[2]["summary"] = None
    rows[3]["summary"] = "Four Stars"
    done, built = made(tmp_path, rows, ["review-rating", "review-title"])
    assert built.left_out["review-rating"] == {
        "`text` (column reviewText) is blank": 2,
        "`rating` (column overall) is blank": 1,
    }
    assert built.left_out["review-title"]["the title only repeats the stars"] == 1
    assert built.unused == 2
    assert {row["row_id"] for row in done if row["template"] == "review-title"} == {
        1, *range(4, 40)
    }  # fmt: skip


def test_copies_of_a_text_share_a_group_and_rows_never_straddle(tmp_path: Path) -> None:
    rows = reviews(60)
    for n in range(0, 60, 3):
        rows[n]["reviewText"] = rows[n + 1]["reviewText"]
    out, built = made(tmp_path, rows)
    assert built.groups == 40
    task = Task.from_dict(
        {"name": "t", "kind": "generation",
         "data": {"train": "out.jsonl", "messages": "messages", "group": "group"}},
        path=tmp_path / "task.yaml",
    )  # fmt: skip
    prepared = prepare(task)
    text_of = {row["id"]: row["reviewText"] for row in out}
    seen: dict[str, str] = {}
    for name, part in prepared.splits.items():
        assert part
        for example in part:
            assert seen.setdefault(text_of[example.id], name) == name


def test_a_column_can_be_the_group(tmp_path: Path) -> None:
    rows, built = made(tmp_path, reviews(), group="asin")
    assert {row["group"] for row in rows} == {f"B{n}" for n in range(7)}
    assert built.groups == 7


def test_labels_are_those_of_the_whole_file(tmp_path: Path) -> None:
    rows = [{"text": f"line {n}", "topic": "rare" if n == 599 else "art" if n % 2 else "law"}
            for n in range(600)]  # fmt: skip
    done, _ = made(tmp_path, rows, ["topic"])
    assert all(row["choices"] == ["art", "law", "rare"] for row in done)


def test_values_are_never_evaluated_and_half_characters_are_left_out(tmp_path: Path) -> None:
    rows = reviews()
    rows[0]["reviewText"] = "{{ 7*7 }} {% if %} as it is"
    rows[1]["reviewText"] = "half of a \ud83d character"
    done, built = made(tmp_path, rows, ["review-rating"])
    assert "{{ 7*7 }} {% if %} as it is" in done[0]["messages"][0]["content"]
    assert built.left_out["review-rating"]["the text holds half of a character (a lone surrogate)"]
    assert 1 not in {row["row_id"] for row in done}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"weights": {"review-title": 2.0}}, "Give --per-row a number"),
        ({"weights": {"spam": 2.0}, "per_row": 1}, "not among the templates"),
        ({"group": "nope"}, "'nope', which the file does not have"),
        ({"names": ["spam"]}, "needs 'spam'"),
        ({"names": ["review-tile"]}, "Did you mean 'review-title'"),
        ({"fields": {"sql": "asin"}}, "a field of none of the templates"),
    ],
)
def test_wrong_wishes_are_named(tmp_path: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as caught:
        made(tmp_path, reviews(), **options)
    assert said in str(caught.value)
    assert not (tmp_path / "out.jsonl").exists()


def test_a_file_without_a_usable_row_writes_nothing(tmp_path: Path) -> None:
    rows = [{**row, "overall": 9} for row in reviews()]
    with pytest.raises(InputError, match="None of the 40 rows can be used"):
        made(tmp_path, rows, ["review-rating"], fields={"rating": "overall"})
    assert [path.name for path in tmp_path.iterdir()] == ["r.jsonl"]


def test_too_many_labels_are_no_choices(tmp_path: Path) -> None:
    rows = [{"text": f"line {n}", "topic": f"t{n}"} for n in range(600)]
    with pytest.raises(InputError, match="more than 500 values"):
        made(tmp_path, rows, ["topic"])


# ---- the verbs ---------------------------------------------------------------------------------


def test_listing(capsys: Capture, tmp_path: Path) -> None:
    code, out, err = luthier(capsys, "templates", "list")
    assert (code, err) == (0, "")
    assert all(len(line) <= 80 for line in out.splitlines())
    assert luthier(capsys, "templates")[1] == out
    held = json.loads(luthier(capsys, "templates", "list", "--group", "reviews", "--json")[1])
    assert {one["group"] for one in held} == {"reviews"}
    path = str(save(tmp_path, reviews()))
    code, out, err = luthier(capsys, "templates", "list", path)
    assert code == 0
    assert "text = reviewText, rating = overall" in out
    found = json.loads(luthier(capsys, "templates", "list", path, "--json")[1])
    assert found[0]["level"] == "fits" and len(found) > 60
    code, out, _ = luthier(capsys, "templates", "list", path, "--all")
    assert "lacks" in out


def test_showing(capsys: Capture) -> None:
    code, out, _ = luthier(capsys, "templates", "show", "review-rating")
    assert code == 0
    for word in ("version 1", "1, 2, 3, 4, 5", "4 shop  25%", "reviewText"[:6], "Example"):
        assert word in out
    code, _, err = luthier(capsys, "templates", "show", "review-ratin")
    assert (code, "Did you mean 'review-rating'?" in err) == (2, True)


def test_trying(capsys: Capture, tmp_path: Path) -> None:
    path = str(save(tmp_path, reviews()))
    code, out, _ = luthier(capsys, "templates", "try", "review-title", path, "--phrasing", "1")
    assert code == 0
    assert out.count("in  │ Write a short headline") == 3
    assert "out │ Warm feet 0" in out
    words = ["templates", "try", "review-title", path, "--phrasing", "all", "--rows", "1"]
    held = json.loads(luthier(capsys, *words, "--json")[1])
    assert [row["phrasing"] for row in held["rows"]] == ["plain", "few-words", "labelled", "editor"]
    assert held["columns"] == {"text": "reviewText", "title": "summary"}
    code, _, err = luthier(capsys, "templates", "try", "summary", path, "--field", "summary=asn")
    assert (code, "Did you mean 'asin'" in err) == (2, True)
    code, _, err = luthier(capsys, "templates", "try", "sql-to-text", path)
    assert code == 2 and "needs 'sql'" in err
    code, _, err = luthier(capsys, "templates", "try", "summary", path, "--field", "summary")
    assert code == 2 and "FIELD=COLUMN" in err


def test_building(capsys: Capture, tmp_path: Path) -> None:
    path, out = save(tmp_path, reviews()), tmp_path / "data.jsonl"
    words = ["templates", "build", str(path), "--out", str(out)]
    code, said, _ = luthier(capsys, *words, "--per-row", "2", "--weights", "review-title=2")
    assert code == 0
    assert "40 rows became 80 examples in 40 groups" in said
    shown = said[said.index("data: {") :].splitlines()[0]
    assert yaml.safe_load(shown)["data"] == {
        "train": "data.jsonl", "messages": "messages", "group": "group",
    }  # fmt: skip
    code, _, err = luthier(capsys, *words)
    assert code == 2 and "exists" in err
    held = json.loads(luthier(capsys, *words, "--force", "--json")[1])
    assert held["rows"] == 40 and held["written"] == len(read_jsonl(out))
    code, _, err = luthier(capsys, "templates", "build", str(path), "--out", str(path), "--force")
    assert code == 2 and "the source itself" in err
    for wrong in (["--per-row", "0"], ["--weights", "a=x"], ["--weights", "a=-1"],
                  ["--templates", ","]):  # fmt: skip
        assert luthier(capsys, *words, "--force", *wrong)[0] == 2


def test_the_real_reviews(tmp_path: Path) -> None:
    source = DATA / "amazon_fashion" / "reviews.jsonl"
    if not source.is_file():
        pytest.skip("the public data sets are not here")
    rows = [json.loads(line) for line in source.read_text().splitlines()]
    done, built = made(tmp_path, rows, per_row=1)
    assert built.rows == 3176
    assert len([name for name, counted in built.counts.items() if counted]) >= 5
    groups = {row["reviewText"]: row["group"] for row in done if row.get("reviewText")}
    assert all(groups[r["reviewText"]] == r["group"] for r in done if r.get("reviewText"))
