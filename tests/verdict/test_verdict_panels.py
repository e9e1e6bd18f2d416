"""Panels of the report: slices, confidence, behaviour, costs; and runs that are older than them."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sample_run import write_sample_run
from test_verdict_report import JSON, Page, change, page_of

from luthier.data.examples import Example, Splits
from luthier.evaluation.behaviour import behaviour
from luthier.evaluation.scoring import METRICS
from luthier.files import read_jsonl, write_json
from luthier.generation.answers import Answer
from luthier.measures import complete, measures_of_arm, measures_of_run
from luthier.results import prediction_row
from luthier.runs import Run
from luthier.task import Task
from luthier.task_sections import Prices
from luthier.verdict.compare import ArmResult
from luthier.verdict.report import build_report

Edit = Callable[[dict[str, Any]], None]


def with_measures(folder: Path, *, prices: Prices | None = None) -> Path:
    """Add to a sample run what a comparison adds to verdict.json, computed from its rows.

    lora is surest where it is right, and the channel "fax" is where it is wrong.
    """
    verdict = json.loads((folder / "verdict.json").read_text())
    rows = {
        arm["name"]: read_jsonl(folder / "arms" / arm["name"] / "predictions.jsonl")
        for arm in verdict["arms"]
        if not arm["failed"]
    }
    wrong = {row["id"] for row in rows["lora"] if row["score"] < 1}
    results = []
    for arm in verdict["arms"]:
        if arm["failed"]:
            continue
        own = rows[arm["name"]]
        if arm["name"] in ("lora", "encoder"):
            for index, row in enumerate(own):
                row["confidence"] = 0.55 + 0.4 * row["score"] + (index % 5) / 100
        record = json.loads((folder / "arms" / arm["name"] / "arm.json").read_text())
        arm |= measures_of_arm(
            "classification",
            own,
            record=record,
            stored=folder / "arms" / arm["name"] / "model",
            base=None,
            wanted=(),
            prices=prices or Prices(),
        )
        scores = np.array([row["score"] for row in own])
        table = np.stack([scores, np.ones_like(scores)], axis=1)
        results.append(
            ArmResult(
                arm["name"], table, row_scores=scores, costs=record["costs"], floor=arm["floor"]
            )
        )
    test = []
    for index, row in enumerate(read_jsonl(folder / "data" / "test.jsonl")):
        held = Example.from_row({**row, "messages": [*row["messages"], row["messages"][0]]})
        channel = "fax" if held.id in wrong or index % 25 == 0 else ("app", "mail")[index % 2]
        test.append(Example(**{**vars(held), "fields": {"channel": channel}}))
    task = Task.load(folder / "task.yaml")
    if prices:
        task = task.changed(prices=prices)
        (folder / "task.yaml").write_text(yaml.safe_dump(task.to_dict()))
    verdict |= measures_of_run(
        verdict,
        results,
        task,
        metric=METRICS.get("accuracy"),
        splits=Splits(test, (), test),
        clusters=None,
    )
    write_json(folder / "verdict.json", verdict)
    return folder


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_measures(write_sample_run(tmp_path_factory.mktemp("runs") / "sample"))


@pytest.fixture(scope="module")
def few_rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_measures(write_sample_run(tmp_path_factory.mktemp("runs") / "few", n_test=24))


@pytest.fixture
def run(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "run"))


def test_the_answer_is_still_the_first_line(run: Path) -> None:
    verdict = json.loads((run / "verdict.json").read_text())
    page = page_of(run)
    said = [data for path, data in page.said if data.strip() and "body" in path.split(">")]
    assert " ".join(said[1].split()) == verdict["headline"]
    links = {link["href"] for link in page.all("a")}
    assert {"#slices", "#confidence"} <= links
    assert "#behaviour" not in links  # a classification's answers are labels
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(set(ids)) == len(ids)
    assert {link[1:] for link in links if link} <= set(ids)


def test_the_part_where_the_arm_is_wrong_is_named_first(run: Path) -> None:
    verdict = json.loads((run / "verdict.json").read_text())
    fax = next(p for p in verdict["slices"]["parts"] if p["value"] == "fax")
    assert fax["arms"]["lora"]["worse"]
    html = build_report(run).read_text()
    page = Page(html)
    said = page.text()
    assert "lora is weaker, by more than chance, on channel: fax (" in said
    assert f"{fax['n']} rows" in said
    plot = html[html.index("plot-slices-wide-t") :]
    names = re.findall(r'class="dot-name"[^>]*>([^<]+)', plot[: plot.index("</svg>")])
    assert names[0].strip() == "channel: fax"
    table = html[html.index('class="plain slices"') :]
    listed = re.findall(r'<th scope="row">([^<]+)', table[: table.index("</table>")])
    assert listed[0].strip() == "channel: fax"
    assert len(listed) == len(verdict["slices"]["parts"])
    heads = re.findall(r'<th scope="col" class="num">([^<]+)', table)
    assert heads[:3] == ["Rows", "lora", "encoder"]  # the runner-up, not the floor


def test_where_a_floor_is_wrong_is_not_told(run: Path) -> None:
    def edit(verdict: dict[str, Any]) -> None:
        # nothing but the floor is left beside the recommended arm
        verdict["arms"] = [a for a in verdict["arms"] if a["name"] in ("lora", "majority")]
        for part in verdict["slices"]["parts"]:
            part["arms"]["majority"] = {**part["arms"]["lora"], "worse": True}

    change(run / "verdict.json", edit)
    build_report(run)
    said = page_of(run).text()
    assert "lora is weaker" in said
    assert "majority is weaker" not in said


def test_small_parts_are_grey_and_come_last(run: Path) -> None:
    def edit(verdict: dict[str, Any]) -> None:
        part = {"by": "label", "value": "tiny", "n": 3, "arms": {}}
        part["arms"]["lora"] = {
            "score": 0.0, "interval": [0.0, 0.56], "p_adjusted": None, "worse": False,
        }  # fmt: skip
        verdict["slices"]["parts"].insert(0, part)

    change(run / "verdict.json", edit)
    html = build_report(run).read_text()
    rows = re.findall(r'<tr( class="\w+")?><th scope="row">label: tiny', html)
    assert rows == [' class="few"']
    table = html[html.index('class="plain slices"') :]
    listed = re.findall(
        r'<tr(?: class="(\w+)")?><th scope="row">', table[: table.index("</table>")]
    )
    assert listed == sorted(listed, key=["worse", "", "few"].index)
    assert "on label: tiny" not in Page(html).text()


def test_confidence_says_what_leaving_out_gains(run: Path) -> None:
    verdict = json.loads((run / "verdict.json").read_text())
    lora = next(arm for arm in verdict["arms"] if arm["name"] == "lora")
    kept = lora["calibration"]["selective"]["accuracy_of_kept"]
    assert kept > lora["score"]
    said = page_of(run).text()
    assert (
        f"lora answers only the surest 80 %: accuracy {100 * kept:.1f} %, against "
        f"{100 * lora['score']:.1f} % when it answers everything." in said
    )
    html = (run / "report.html").read_text()
    assert '<title id="plot-selective">' in html
    drawing = html[html.index('<title id="plot-selective">') :]
    assert drawing[: drawing.index("</svg>")].count("<polyline") == 2  # zero-shot does not tell


def test_the_break_even_plot_meets_where_the_table_says(run: Path) -> None:
    html = build_report(run).read_text()
    said = Page(html).text()
    assert "lora costs less than encoder: never; " in said
    assert "than zero-shot: from about 889 answers" in said
    verdict = json.loads((run / "verdict.json").read_text())
    against = {one["arm"]: one for one in verdict["break_even"]["against"]}
    assert verdict["break_even"]["unit"] == "seconds" and "majority" not in against
    assert against["zero-shot"]["answers"] == pytest.approx(94.2 / 0.106)
    assert against["encoder"] == {"arm": "encoder", "when": "never", "answers": None}
    drawing = html[html.index('<title id="plot-break-even">') :]
    drawing = drawing[: drawing.index("</svg>")]
    assert drawing.count('class="line-dot"') == 2  # zero-shot and few-shot
    assert "Machine time of training and answering" in said


def test_prices_of_the_user_are_what_is_drawn(tmp_path: Path) -> None:
    prices = Prices(per_hour=3.6, per_million_prompt_tokens=100.0)
    run = write_sample_run(tmp_path / "run", n_test=40)
    for path in run.glob("arms/*/arm.json"):
        change(path, lambda arm: arm.get("costs", {}).update(completion_tokens_per_answer=2.0))
    with_measures(run, prices=prices)
    verdict = json.loads((run / "verdict.json").read_text())
    lora = next(arm for arm in verdict["arms"] if arm["name"] == "lora")
    assert lora["costs"]["training_price"] == pytest.approx(94.2 * 0.001)
    each = 0.104 * 0.001 + 48.2 * 1e-4
    assert lora["costs"]["price_per_answer"] == pytest.approx(each)
    assert verdict["break_even"]["unit"] == "price"
    said = page_of(run).text()
    assert "Price of training and answering together" in said
    assert "Price per 1,000 answers" in said and f"{1000 * each:.2f}" in said


def test_texts_have_a_table_of_behaviour_beside_the_references(run: Path) -> None:
    def edit(verdict: dict[str, Any]) -> None:
        for arm in verdict["arms"]:
            if arm["name"] == "lora":
                arm["behaviour"] = behaviour(
                    "chat", ["one two three four"] * 4, ["one two"] * 3 + ["ok"],
                    endings=["stop"] * 3 + ["length"],
                )  # fmt: skip

    change(run / "verdict.json", edit)
    said = page_of(run).text()
    said = said[said.index("How the answers are written") :]
    assert "lora recommended 2 × 0.44 – 75.0 %" in said
    assert "25.0 %" in said and "references – × 1.00 0.0 %" in said


def test_an_older_run_renders_without_panels(tmp_path: Path) -> None:
    run = write_sample_run(tmp_path / "run", n_test=30)
    assert "slices" not in json.loads((run / "verdict.json").read_text())
    page = page_of(run)
    links = {link["href"] for link in page.all("a")}
    assert not {"#slices", "#confidence", "#behaviour"} & links
    assert "Parts of the test" not in page.text()
    # arms that this version does not know stay what they were
    assert complete(Run.open(run)) is False


def test_the_page_of_a_thousand_rows_is_small(tmp_path: Path) -> None:
    run = with_measures(write_sample_run(tmp_path / "run", n_test=1000))
    report = build_report(run)
    assert report.stat().st_size < 2_000_000
    assert '<section id="slices"' in report.read_text()


def test_what_a_row_of_predictions_says_of_confidence() -> None:
    example = Example("1", (), "a")
    told = prediction_row(
        example, Answer("a", 0.1, extra={"probabilities": {"a": 0.8, "b": 0.2}}), 1.0
    )
    assert told["confidence"] == 0.8
    assert "confidence" not in prediction_row(example, Answer("a", 0.1), 1.0)


BROKEN = ("slices", "break_even")
BROKEN_OF_ARM = ("calibration", "behaviour", "costs")


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_the_page_stands_whatever_the_panels_hold(few_rows: Path, data: st.DataObject) -> None:
    kept = (few_rows / "verdict.json").read_text()
    verdict = json.loads(kept)

    def broken(value: Any, depth: int = 0) -> Any:
        """The value with one part of it replaced by anything."""
        if isinstance(value, dict) and value and data.draw(st.booleans() if depth else st.just(1)):
            key = data.draw(st.sampled_from(sorted(value)))
            return {**value, key: broken(value[key], depth + 1)}
        if isinstance(value, list) and value and data.draw(st.booleans()):
            place = data.draw(st.integers(0, len(value) - 1))
            return [*value[:place], broken(value[place], depth + 1), *value[place + 1 :]]
        return data.draw(JSON)

    for key in BROKEN:
        verdict[key] = broken(verdict[key])
    for arm in verdict["arms"]:
        for key in BROKEN_OF_ARM:
            if arm.get(key):
                arm[key] = broken(arm[key])
    (few_rows / "verdict.json").write_text(json.dumps(verdict))
    try:
        page_of(few_rows)
    finally:
        (few_rows / "verdict.json").write_text(kept)


def test_an_older_run_of_known_arms_is_completed(tmp_path: Path) -> None:
    run = write_sample_run(tmp_path / "run", n_test=60)
    known = {"encoder": "linear-probe"}
    (run / "arms" / "encoder").rename(run / "arms" / "linear-probe")

    def edit(verdict: dict[str, Any]) -> None:
        kept = [arm for arm in verdict["arms"] if arm["name"] in ("majority", "encoder", "lora")]
        for arm in kept:
            arm["name"] = known.get(arm["name"], arm["name"])
        verdict["arms"] = kept

    change(run / "verdict.json", edit)
    names = ["majority", "linear-probe", "lora"]
    change(run / "manifest.json", lambda held: held.update(arms=[{"name": n} for n in names]))
    for split in ("train", "validation", "test"):
        path = run / "data" / f"{split}.jsonl"
        rows = read_jsonl(path)
        for row in rows:
            row["messages"].append({"role": "assistant", "content": row["output"]})
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    before = json.loads((run / "verdict.json").read_text())
    assert complete(Run.open(run)) is True
    after = json.loads((run / "verdict.json").read_text())
    assert {key: after[key] for key in before if key != "arms"} == {
        key: value for key, value in before.items() if key != "arms"
    }
    labels = Counter(row["output"] for row in read_jsonl(run / "data" / "test.jsonl"))
    found = {p["value"]: p["n"] for p in after["slices"]["parts"] if p["by"] == "label"}
    assert found == dict(labels)
    lora = next(arm for arm in after["arms"] if arm["name"] == "lora")
    assert lora["score"] == after["slices"]["overall"]["lora"]
    assert complete(Run.open(run)) is False  # once
    assert "Parts of the test" in page_of(run).text()


def test_the_calibration_error_stands_beside_what_chance_gives(run: Path) -> None:
    verdict = json.loads((run / "verdict.json").read_text())
    held = next(arm["calibration"] for arm in verdict["arms"] if arm["name"] == "lora")
    mean, high = (f"{100 * end:.1f}" for end in held["ece_by_chance"])
    said = page_of(run).text().replace("\N{NO-BREAK SPACE}", " ")
    assert f"calibrated: {mean} %, up to {high} %" in said
    for arm in verdict["arms"]:
        if arm.get("calibration"):
            del arm["calibration"]["ece_by_chance"]
    write_json(run / "verdict.json", verdict)
    assert "calibrated:" not in page_of(run).text()


def test_how_much_is_known_by_heart_stands_beside_the_auc(tmp_path: Path) -> None:
    from luthier.evaluation.memorisation.judging import judge
    from luthier.evaluation.memorisation.membership import told_apart

    rng = np.random.default_rng(0)
    held_out, untuned = -rng.gamma(9, 0.2, 100), (-rng.gamma(9, 0.5, 100), -rng.gamma(9, 0.5, 100))
    found = told_apart({"loss": 0.7 * held_out}, {"loss": held_out}, untuned)
    extraction = {"tried": 100, "extracted": 0, "p": 1.0, "rows": []}

    def memorised(verdict: dict[str, Any]) -> None:
        for one in verdict["arms"]:
            if one["name"] == "lora":
                one["memorisation"] = judge({"extraction": extraction, "membership": found})

    folder = write_sample_run(tmp_path / "run")
    change(folder / "verdict.json", memorised)
    page = page_of(folder)
    assert "30 % known" in page.text().replace("\N{NO-BREAK SPACE}", " ")
    assert "not memorised" in page.text()
    assert "can be told all the same" in page.text()
