"""The page of several runs, and the verb that makes it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from across_runs import rows_of, write_run
from html_pages import Page, check_accessible, check_self_contained
from run_samples import luthier

from luthier.across.comparing import compare_runs
from luthier.across.page import render

ARMS = {"majority": 0.3, "zero-shot": 0.5, "lora": 0.8}
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two runs on one test, `a` and `b`, one on another, `c`, and an unfinished one, `d`."""
    test = rows_of("test", 60)
    write_run(tmp_path / "a", arms=ARMS, test=test, instruction="Name it.")
    write_run(tmp_path / "b", arms={**ARMS, "lora": 0.95}, test=test, draw=1, model="larger")
    write_run(tmp_path / "c", arms=ARMS, test=rows_of("test", 50, start=100))
    write_run(tmp_path / "d", arms=ARMS, verdict=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def page_of(*folders: Path) -> Page:
    return Page(render(compare_runs(folders)))


def test_one_page_says_who_won_what_differs_and_how_sure_that_is(home: Path) -> None:
    across = compare_runs([home / "a", home / "b"])
    page = Page(render(across))
    check_accessible(page)
    check_self_contained(page)
    said = page.text()
    assert page.text("h1").replace("\u00a0", " ") == across.headline
    assert "model tiny larger" in said
    assert "instruction Name it. Name the colour." in said
    found = across.groups[0].comparison
    for arm in found.arms:
        assert f"{100 * arm.score:.1f}" in said
    pair = found.pairs["lora of b", "lora of a"]
    change = f"{100 * pair.difference:+.1f} ({100 * pair.interval[0]:+.1f} to "
    assert change.replace("-", "−") in said.replace("\u00a0", " ")
    assert "9 pairs of arms of different runs" in said
    assert "6 pairs of arms of the same run" in said
    assert "luthier compare " in said and "luthier run task.yaml --out a" in said


def test_what_cannot_be_compared_is_said_where_the_numbers_stand(home: Path) -> None:
    page = page_of(home / "a", home / "c")
    check_accessible(page)
    said = page.text()
    assert "These runs cannot be compared" in page.text("h1")
    assert "The numbers below stand side by side for reading only." in said
    assert "have no row in common (60 and 50 rows)" in said
    for name in "ac":
        assert f"Scores of {name} alone" in said
    assert said.count("These numbers can't be compared with those of the other runs.") == 2
    assert "pairs of arms" not in said


def test_a_run_that_fits_nothing_stands_beside_those_that_are_compared(home: Path) -> None:
    page = page_of(home / "a", home / "b", home / "c")
    check_accessible(page)
    said = page.text()
    assert "Scores of c alone" in said and "Scores of a alone" not in said
    assert "have no row in common" in said


def test_other_machines_and_probes_are_told_apart(home: Path) -> None:
    write_run(
        home / "e",
        arms=ARMS,
        manifest={"machine": {"cores": 64, "memory_bytes": 5e11, "gpus": ["H100"]}},
        forgetting={"probes": ["lm-eval:piqa"]},
    )
    for run in "ae":
        verdict = json.loads((home / run / "verdict.json").read_text())
        verdict["arms"][2]["forgetting"] = {
            "drop": 0.02, "interval": [-0.01, 0.05], "probes": {"facts": {"n": 40}},
            "bits_per_byte": {"before": 1.2, "after": 1.25},
        }  # fmt: skip
        (home / run / "verdict.json").write_text(json.dumps(verdict))
    said = page_of(home / "a", home / "e").text()
    assert "different machines: times and memory cannot be compared" in said
    assert "by different probes: the drops cannot be compared" in said
    assert "lora e 2.0 −1.0 to 5.0 40 1.20 → 1.25" in said


def test_names_and_settings_stay_text(home: Path) -> None:
    attack = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
    odd = write_run(home / "x <b>bold</b>", arms=ARMS, instruction=attack, goal=attack)
    page = page_of(home / "a", odd)
    assert "alert(1)" in page.text() and "x <b>bold</b>" in page.text()
    assert len(page.all("script")) == 1 and page.all("img") == page.all("b") == []
    check_accessible(page)


def test_the_verb_writes_the_page_and_says_the_answer(capsys: Capture, home: Path) -> None:
    code, out, err = luthier(capsys, "compare", "a", "b")
    assert (code, err) == (0, "")
    assert "the runs differ in: model, instruction." in " ".join(out.split())
    assert out.rstrip().endswith("Page: compare.html")
    first = (home / "compare.html").read_text(encoding="utf-8")
    code, out, _ = luthier(capsys, "compare", "a", "b", "--out", "deep/page.html")
    assert code == 0 and (home / "deep" / "page.html").read_text(encoding="utf-8") == first


def test_json_is_one_document_and_no_file(capsys: Capture, home: Path) -> None:
    code, out, err = luthier(capsys, "compare", "a", "b", "--json")
    assert (code, err) == (0, "")
    document: dict[str, Any] = json.loads(out)
    assert document == json.loads(json.dumps(compare_runs(["a", "b"]).to_dict()))
    assert document["comparable"] and [run["name"] for run in document["runs"]] == ["a", "b"]
    assert not (home / "compare.html").exists()
    assert luthier(capsys, "compare", "a", "b", "--json", "--out", "page.html")[0] == 0
    assert (home / "page.html").is_file()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["a"], "One run alone cannot be compared."),
        ([], "No run is named."),
        (["a", "d"], "d has no verdict yet."),
        (["a", "nowhere"], "nowhere does not exist."),
        (["a", "a/data"], "a/data holds no run."),
        (["a", "a/task.yaml"], "a/task.yaml holds no run."),
        (["a", "b", "--out", "c"], "--out c is a folder."),
    ],
)
def test_wrong_use_is_one_line(capsys: Capture, home: Path, words: list[str], said: str) -> None:
    code, out, err = luthier(capsys, "compare", *words)
    assert (code, out) == (2, "")
    assert err.startswith("luthier: ") and said in err
    assert "Traceback" not in err


@pytest.mark.parametrize("name", ["task.yaml", "manifest.json", "verdict.json", "data/test.jsonl"])
def test_a_broken_file_is_named(capsys: Capture, home: Path, name: str) -> None:
    (home / "b" / name).write_text('{"a": [')
    code, _, err = luthier(capsys, "compare", "a", "b")
    assert code == 2
    assert Path(name).name in err and "Traceback" not in err
