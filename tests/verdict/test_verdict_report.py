"""The report says what the run folder holds, whatever the run folder holds."""

from __future__ import annotations

import ast
import json
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from html_pages import Page, check_accessible, check_self_contained
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sample_run import write_sample_run

from luthier.errors import InputError, RunError
from luthier.verdict.report import build_report


def page_of(folder: Path) -> Page:
    return Page(build_report(folder).read_text(encoding="utf-8"))


def change(path: Path, edit: Callable[[Any], None]) -> None:
    value = json.loads(path.read_text(encoding="utf-8"))
    edit(value)
    path.write_text(json.dumps(value), encoding="utf-8")


def change_rows(path: Path, edit: Callable[[int, dict[str, Any]], None]) -> None:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for index, row in enumerate(rows):
        edit(index, row)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sample_run(tmp_path_factory.mktemp("runs") / "sample", n_test=40)


@pytest.fixture
def run(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "run"))


def test_the_headline_comes_first_and_the_status_after(run: Path) -> None:
    verdict = json.loads((run / "verdict.json").read_text())
    page = page_of(run)
    body = [(path, " ".join(data.split())) for path, data in page.said if data.strip()]
    first = next(i for i, (path, _) in enumerate(body) if "h1" in path.split(">"))
    assert body[first][1] == verdict["headline"]  # split() joins non-breaking spaces, too
    assert [data for path, data in body[:first] if "body" in path] == ["Skip to the scores"]
    assert "Deploy" in [data for path, data in body[first + 1 : first + 4]]
    assert len(page.all("h1")) == 1
    for reason in verdict["reasons"]:
        assert reason in page.text()
    assert "This test can tell apart arms that differ by about 9 points." in page.text()


def test_scores_are_sorted_and_the_recommended_one_is_marked(run: Path) -> None:
    html = build_report(run).read_text()
    verdict = json.loads((run / "verdict.json").read_text())
    scored = sorted(
        (arm for arm in verdict["arms"] if arm["failed"] is None), key=lambda arm: -arm["score"]
    )
    plot = html[html.index('<svg class="dots wide-only"') :]
    plot = plot[: plot.index("</svg>")]
    names = re.findall(r'class="dot-name"[^>]*>([^<]+)', plot)
    assert [name.strip() for name in names] == [arm["name"] for arm in scored]
    marked = plot[plot.index('class="dot marked"') :]
    assert marked.index("lora") < marked.index("recommended") < marked.index("</g>")
    assert "wanted: at least 80" in plot
    assert "<title id=" in plot and "<desc id=" in plot
    places = [float(x) for x in re.findall(r'<circle cx="([\d.]+)"', plot)]
    assert places == sorted(places, reverse=True)
    # places are linear in the score
    first, last = scored[0]["score"], scored[-1]["score"]
    for arm, place in zip(scored, places, strict=True):
        share = (arm["score"] - last) / (first - last)
        assert place == pytest.approx(places[-1] + share * (places[0] - places[-1]), abs=0.11)


def test_tables_hold_the_numbers_of_the_verdict(run: Path) -> None:
    def edit(verdict: dict[str, Any]) -> None:
        encoder = next(arm for arm in verdict["arms"] if arm["name"] == "encoder")
        encoder |= {"score": 0.815, "interval": [0.755, 0.863], "invalid_rate": 0.0004}
        encoder["versus_best"] |= {
            "arm": "lora", "difference": -0.085, "interval": [-0.138, 0.0319],
            "p": 0.00194, "p_adjusted": 0.21,
        }  # fmt: skip

    change(run / "verdict.json", edit)
    said = page_of(run).text()
    assert "encoder 81.5 % 75.5 to 86.3 % −8.5 −13.8 to +3.2 0.002 0.21 < 0.1 %" in said
    assert "lora recommended 1 min 34 s 631 4.88 M of 139 M (3.5 %) 104 ms 48 2.50 GB –" in said


def test_break_even_is_where_both_have_taken_the_same_time(run: Path) -> None:
    said = page_of(run).text()
    # zero-shot 0.21 s an answer; lora 94.2 s, then 0.104 s: 94.2 / 0.106 = 888.7
    assert "610 MB from 889 answers on" in said
    # few-shot 31 s, 0.74 s an answer: (94.2 - 31) / (0.74 - 0.104) = 99.4
    assert "830 MB from 100 answers on" in said
    assert "412 MB never" in said


def test_a_failed_arm_and_one_that_was_left_out_are_listed_with_their_reasons(run: Path) -> None:
    said = page_of(run).text()
    assert "failed: out of memory: full fine-tuning needs about 31 GB here" in said
    assert "retrieval left out: the task names no documents" in said


def test_forgetting_is_told_from_unchanged_and_from_not_measured(run: Path) -> None:
    def edit(record: dict[str, Any]) -> None:
        del record["changes_weights"]

    change(run / "arms" / "encoder" / "arm.json", edit)
    said = page_of(run).text()
    said = said[said.index("What was forgotten Gen") :]
    assert "lora recommended 1.2 −2.1 to 4.5" in said
    assert "everyday knowledge 100 questions 62.0 % → 61.0 %" in said
    still = "Weights unchanged, so nothing can be forgotten: few-shot, zero-shot and majority."
    assert still in said
    assert "encoder not measured" in said
    assert "allowed: 5 points" in said  # a line in the drawing


def test_what_the_recommended_arm_got_wrong_comes_first(run: Path) -> None:
    html = build_report(run).read_text()
    shown = re.findall(r'<li class="case" data-tags="([^"]*)">(.*?)</li>', html, re.DOTALL)
    assert len(shown) == 40
    lora = [re.search(r'<div class="(\w+)"><dt>lora</dt>', body) for _, body in shown]
    states = [found.group(1) for found in lora if found]
    rows = [json.loads(x) for x in (run / "arms/lora/predictions.jsonl").read_text().splitlines()]
    wrong = sum(row["score"] == 0 for row in rows)
    assert 0 < wrong < 40
    assert states == ["wrong"] * wrong + ["right"] * (40 - wrong)
    disagree = ["disagree" in tags for tags, _ in shown[wrong:]]
    assert disagree == sorted(disagree, reverse=True)
    assert f"lora got {wrong} of 40 test rows wrong" in Page(html).text()
    # marked by more than colour, and in words for those who do not see the sign
    wrong_cell = shown[0][1][shown[0][1].index('<div class="wrong">') :]
    assert "✗" in wrong_cell and "<i>wrong</i>" in wrong_cell


def test_the_confusion_table_counts_every_answer_of_the_recommended_arm(run: Path) -> None:
    change_rows(
        run / "arms" / "lora" / "predictions.jsonl",
        lambda index, row: row.update(prediction="no idea", score=0.0) if index == 0 else None,
    )
    rows = [json.loads(x) for x in (run / "arms/lora/predictions.jsonl").read_text().splitlines()]
    html = build_report(run).read_text()
    table = html[html.index('<table class="confusion">') :]
    table = table[: table.index("</table>")]
    cells = [int(x) for x in re.findall(r"<td[^>]*>(\d+)</td>", table)]
    assert sum(cells) == 40
    same = [int(x) for x in re.findall(r'<td class="same">(\d+)</td>', table)]
    assert sum(same) == sum(row["score"] for row in rows)
    assert "no label" in table


@pytest.mark.parametrize(
    ("decision", "word", "other"),
    [
        ("undecided", "Undecided", "The evidence does not settle it."),
        ("none", "None", "Nothing here is worth deploying by the task's own terms."),
    ],
)
def test_verdicts_without_a_winner(tmp_path: Path, decision: str, word: str, other: str) -> None:
    run = write_sample_run(tmp_path / "run", n_test=20, decision=decision)
    page = page_of(run)
    assert word in page.text("strong")
    assert other in page.text()
    assert "recommended" not in page.text()


ATTACK = '</script><script>alert(1)</script><img src=x onerror="alert(2)">&amp;\x00\ud800'


def test_text_from_the_data_stays_text(run: Path) -> None:
    """The attack in every place that text comes from adds no tag and no attribute."""
    before = page_of(run)

    def everywhere(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: everywhere(item) for key, item in value.items()}
        if isinstance(value, list):
            return [everywhere(item) for item in value]
        return value + ATTACK if isinstance(value, str) and value not in keep else value

    keep = {"deploy", "lora", "encoder", "few-shot", "zero-shot", "majority", "full"}
    keep |= {"error", "warning", "note", "classification"}
    for path in [*run.glob("*.json"), *run.glob("arms/*/arm.json")]:
        path.write_text(json.dumps(everywhere(json.loads(path.read_text()))))
    for path in run.glob("**/*.jsonl"):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        ids = [row["id"] for row in rows]
        rows = [everywhere(row) | {"id": key} for row, key in zip(rows, ids, strict=True)]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = run / "task.yaml"
    task.write_text(task.read_text().replace("Route a", "'</script><script>alert(1)</script> a"))
    html = build_report(run).read_text(encoding="utf-8")
    page = Page(html)
    assert "alert(1)" in page.text()  # it is there, as text
    assert len(page.all("script")) == len(before.all("script")) == 1
    assert page.all("img") == []
    assert {name for _, found in page.tags for name in found if name.startswith("on")} == set()
    assert "\x00" not in html


def test_the_page_loads_nothing_and_runs_only_its_own_script(run: Path) -> None:
    check_self_contained(page_of(run))


def test_it_can_be_used_without_a_mouse_or_eyes(run: Path) -> None:
    check_accessible(page_of(run))


def luminance(colour: str) -> float:
    """Relative luminance (WCAG 2.2)."""
    digits = colour.lstrip("#")
    digits = "".join(c * 2 for c in digits) if len(digits) == 3 else digits
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_every_text_colour_has_contrast_on_every_ground(run: Path) -> None:
    page = page_of(run)
    style = "".join(data for path, data in page.said if path.endswith("style"))
    themes = re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    assert len(themes) == 3  # light, dark, print
    for theme in themes:
        colours = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]+)", theme))
        for ink in ("ink", "quiet", "accent", "good", "fair", "bad"):
            for ground in ("paper", "panel", "wash"):
                pair = sorted(luminance(colours[name]) for name in (ink, ground))
                assert (pair[1] + 0.05) / (pair[0] + 0.05) >= 4.5, (ink, ground)


def test_every_colour_of_the_style_sheet_is_one_of_those(run: Path) -> None:
    """So that no text has another colour than those whose contrast is known."""
    style = "".join(data for path, data in page_of(run).said if path.endswith("style"))
    rules = re.sub(r":root \{.*?\}", "", style, flags=re.DOTALL)
    assert not re.findall(r"#[0-9a-fA-F]{3,8}\b(?![^{]*\{)", rules)
    inks = set(re.findall(r"(?<![-\w])(?:color|fill): var\(--([a-z-]+)\)", rules))
    # strong-rule draws bars and the bullets of lists, panel the room of a bar
    assert inks <= {"ink", "quiet", "accent", "good", "fair", "bad", "strong-rule", "panel"}
    for found in re.findall(
        r"([^{}]*)\{[^{}]*(?<![-\w])(?:color|fill): var\(--strong-rule\)", rules
    ):
        assert "marker" in found or "bar-fill" in found
    # the edge of a field is seen
    assert re.search(r"input, select \{[^}]*border: 1px solid var\(--quiet\)", rules)


def test_a_thousand_long_rows_stay_under_two_megabytes(tmp_path: Path) -> None:
    run = write_sample_run(tmp_path / "run", n_test=1000)
    for path in run.glob("arms/*/predictions.jsonl"):
        change_rows(path, lambda _, row: row.update(prediction="<&\"'" * 2000))
    change_rows(run / "data" / "test.jsonl", lambda _, row: row.update(input="é<&" * 3000))
    report = build_report(run)
    assert report.stat().st_size < 2_000_000
    said = page_of(run).text()
    found = re.search(r"Shown here: (\d+) of 1,000; all rows are in arms/\*/predictions", said)
    assert found and 20 <= int(found.group(1)) <= 200
    assert "Long texts are cut where marked." in said
    assert "7,680 characters more" in said  # 4 * 2000 less the 320 shown


def test_a_verdict_alone_is_enough(tmp_path: Path) -> None:
    (tmp_path / "verdict.json").write_text("{}")
    page = page_of(tmp_path)
    assert page.text("h1") == "Undecided."
    assert "No arm has a score." in page.text()
    (tmp_path / "verdict.json").write_text('{"arms": [{"name": "lora", "score": 0.5}]}')
    assert "lora 50.0 % –" in page_of(tmp_path).text()


def test_broken_files_are_named_not_fatal(run: Path) -> None:
    (run / "lint.json").write_text("{")
    (run / "task.yaml").write_text("a: [")
    (run / "arms" / "lora" / "arm.json").write_bytes(b"\xff\xfe")
    with (run / "arms" / "lora" / "predictions.jsonl").open("a") as rows:
        rows.write('{"id": "x", "inp')
    said = page_of(run).text()
    assert "lint.json cannot be read." in said
    assert "task.yaml cannot be read." in said
    assert "arms/lora/arm.json cannot be read." in said
    assert "arms/lora/predictions.jsonl: 1 line cannot be read" in said


def test_no_run_folder_and_no_verdict_are_said_plainly(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is not a run folder"):
        build_report(tmp_path / "nowhere")
    with pytest.raises(RunError, match=r"has no verdict\.json") as caught:
        build_report(tmp_path)
    assert "--resume" in caught.value.fix
    (tmp_path / "verdict.json").write_text("{")
    with pytest.raises(InputError, match="not valid JSON"):
        build_report(tmp_path)


def test_an_arm_name_cannot_lead_out_of_the_folder(run: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "arm.json").write_text('{"notes": ["a secret note"]}')
    change(
        run / "verdict.json",
        lambda verdict: verdict["arms"].append({"name": "../../secret", "score": 0.4}),
    )
    said = page_of(run).text()
    assert "../../secret" in said and "a secret note" not in said


def test_graded_metrics_show_their_scores_instead_of_signs(run: Path) -> None:
    for path in run.glob("arms/*/predictions.jsonl"):
        change_rows(path, lambda index, row: row.update(score=(index % 10) / 10))
    change(run / "verdict.json", lambda verdict: verdict.update(metric="rougeL"))
    said = page_of(run).text()
    assert "ROUGE-L of each arm" in said
    assert "lora scores below one half on 20 of 40 test rows" in said
    assert "✗" not in said


def test_curl_and_python_ask_the_first_question_exactly(run: Path) -> None:
    question = 'It\'s "odd": $HOME `x` \\n ü\nnext'
    change_rows(
        run / "data" / "test.jsonl",
        lambda index, row: row.update(input=question) if index == 0 else None,
    )
    html = build_report(run).read_text(encoding="utf-8")
    page = Page(html)
    snippets = "".join(data for path, data in page.said if path.endswith("pre>code"))
    curl = snippets[snippets.index("curl ") : snippets.index("from openai")]
    body = json.loads(shlex.split(curl.replace("\\\n", " "))[-1])
    assert body["messages"] == [{"role": "user", "content": question}]
    code = ast.parse(snippets[snippets.index("from openai") :])
    strings = [node.value for node in ast.walk(code) if isinstance(node, ast.Constant)]
    assert question in strings


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["lora", 0.5, 1e308, -1, 0, 10**400, [0.2, 0.1], {"arm": "lora"}]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=4,
)
FILES = ("verdict.json", "manifest.json", "lint.json", "arms/lora/arm.json", "task.yaml")


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place inside a JSON value."""
    found = [path] if path else []
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            found += places(item, (*path, key))
    return found


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_no_value_anywhere_makes_it_fail(original: Path, tmp_path: Path, data: Any) -> None:
    """One to eight values of the run folder replaced by something of any type, or removed."""
    run = tmp_path / "fuzzed"
    shutil.rmtree(run, ignore_errors=True)
    shutil.copytree(original, run)
    for _ in range(data.draw(st.integers(1, 8))):
        name = data.draw(st.sampled_from(FILES))
        value = yaml.safe_load((run / name).read_text(encoding="utf-8"))
        path = data.draw(st.sampled_from(places(value) or [()]))
        if not path:
            continue
        inside = value
        for key in path[:-1]:
            inside = inside[key]
        if data.draw(st.booleans()):
            inside[path[-1]] = data.draw(JSON)
        elif isinstance(inside, dict):
            del inside[path[-1]]
        (run / name).write_text(json.dumps(value), encoding="utf-8")
    Page(build_report(run).read_text(encoding="utf-8"))


@settings(max_examples=40, deadline=None)
@given(rows=st.lists(JSON, max_size=4))
def test_no_row_makes_it_fail(original: Path, tmp_path_factory: Any, rows: list[Any]) -> None:
    run = tmp_path_factory.mktemp("rows") / "run"
    shutil.copytree(original, run)
    odd = [{"id": row, "score": row, "prediction": row, "output": row} for row in rows]
    written = "".join(json.dumps(row) + "\n" for row in [*rows, *odd])
    (run / "data" / "test.jsonl").write_text(written)
    (run / "arms" / "lora" / "predictions.jsonl").write_text(written)
    Page(build_report(run).read_text(encoding="utf-8"))


def test_an_arm_that_was_held_against_the_floor_alone(run: Path) -> None:
    """The sentence on what the test can tell does not speak of arms where there is one."""
    path = run / "verdict.json"
    verdict = json.loads(path.read_text())
    best = next(arm for arm in verdict["arms"] if arm["name"] == verdict["recommendation"])
    verdict["arms"] = [best, *(arm for arm in verdict["arms"] if arm.get("floor"))]
    path.write_text(json.dumps(verdict))
    said = page_of(run).text()
    assert "This test can tell an arm from the floor by about 9 points." in said
