"""Parts of the report that other tests leave out: pairs, tone and format, structure, commands."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from html_pages import Page, check_accessible
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sample_run import write_sample_run
from test_verdict_report import JSON, change, page_of

from luthier.data.schemas import AnswerSchema, infer_schema
from luthier.evaluation.behaviour import behaviour
from luthier.evaluation.scoring import ScoringRows
from luthier.evaluation.statistics import holm
from luthier.evaluation.structure import structure
from luthier.verdict.pairs import pairs_of
from luthier.verdict.plots import ABOVE, BESIDE, Dot, _label
from luthier.verdict.report import build_report


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sample_run(tmp_path_factory.mktemp("runs") / "sample", n_test=30)


@pytest.fixture
def run(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "run"))


# ---- pairs -------------------------------------------------------------------------------------

PAIRS = [
    {"arms": ["lora", "encoder"], "difference": 0.1, "interval": [0.02, 0.18], "p": 0.01},
    {"arms": ["few-shot", "lora"], "difference": -0.4, "interval": [-0.5, -0.3], "p": 1e-6},
    {"arms": ["few-shot", "encoder"], "difference": -0.3, "interval": [-0.4, -0.2], "p": 0.2},
]


def test_every_pair_is_listed_with_the_better_arm_first(run: Path) -> None:
    change(run / "verdict.json", lambda verdict: verdict.update(pairs=PAIRS))
    page = page_of(run)
    said = page.text()
    said = said[said.index("All 3 pairs of arms") :]
    wide = said.index("lora against few-shot +40.0 +30.0 to +50.0 < 0.001 < 0.001 better")
    other = said.index(
        "encoder against few-shot +30.0 +20.0 to +40.0 0.20 0.20 no difference shown"
    )
    near = said.index("lora against encoder +10.0 +2.0 to +18.0 0.010 0.020 better")
    assert wide < other < near
    check_accessible(page)


def test_pairs_of_an_older_verdict_are_adjusted_here() -> None:
    adjusted = [pair.p_adjusted for pair in pairs_of({"pairs": PAIRS})]
    assert adjusted == holm([0.01, 1e-6, 0.2])
    known = [{**pair, "p_adjusted": 0.5} for pair in PAIRS]
    assert [pair.p_adjusted for pair in pairs_of({"pairs": known})] == [0.5] * 3
    unknown = [{**PAIRS[0], "p": None}, *PAIRS[1:]]
    assert [pair.p_adjusted for pair in pairs_of({"pairs": unknown})] == [None] * 3


# ---- tone and format ---------------------------------------------------------------------------

WANTED = [
    "The parcel left the warehouse on Monday. It will arrive within three days.",
    "The refund was sent to the card. Banks need about five days to show it.",
]
CHATTY = "Sure! I think your parcel is on its way.\n\n- it may take\n- some days"


def with_behaviour(run: Path, wanted: list[str]) -> Path:
    def edit(verdict: dict[str, Any]) -> None:
        for arm in verdict["arms"]:
            answers = {"lora": WANTED * 6, "zero-shot": [CHATTY] * 12}.get(arm["name"])
            if answers:
                arm["behaviour"] = behaviour("generation", WANTED * 6, answers, wanted=wanted)

    change(run / "verdict.json", edit)
    return run


def test_tone_and_format_beside_wanted_outputs(run: Path) -> None:
    page = page_of(with_behaviour(run, WANTED))
    said = page.text()
    said = said[said.index("Tone and format") : said.index("Costs What each arm costs")]
    assert "lora: nothing in tone or format is shown to be unlike what is wanted." in said
    assert (
        "zero-shot writes otherwise than wanted: 0 % of answers end with a mark (. ! ?) (every "
        "wanted one does), 100 % of answers have several paragraphs (no wanted one does)"
    ) in said
    assert "Ends with a mark (. ! ?) 2 of 2 100 % 76 to 100 100 % 76 to 100 0 % unlike" in said
    assert "Words to a sentence 7 7 7" in said
    assert "In no text at all: " in said and "has emoji" in said
    check_accessible(page)


def test_without_wanted_outputs_there_is_no_such_part(run: Path) -> None:
    said = page_of(with_behaviour(run, [])).text()
    assert "How the answers are written" in said and "Tone and format" not in said


# ---- structured answers ------------------------------------------------------------------------

REFERENCES = ['{"name": "Ann", "city": "York"}', '{"name": "Bo", "city": "Bath"}'] * 10
ANSWERS = ['{"name": "Ann", "city": "York"}', '{"name": 7}', "York", *REFERENCES[3:]]


def with_structure(run: Path, *, given: bool) -> Path:
    schema = infer_schema([json.loads(text) for text in REFERENCES])

    def edit(verdict: dict[str, Any]) -> None:
        verdict["kind"] = "extraction"
        verdict["answer_schema"] = {"given": given, "schema": schema}
        for arm in verdict["arms"]:
            answers = {"lora": ANSWERS, "encoder": REFERENCES}.get(arm["name"])
            if answers:
                arm |= structure(
                    ScoringRows(
                        kind="extraction",
                        inputs=REFERENCES,
                        references=REFERENCES,
                        predictions=answers,
                        schema=AnswerSchema(schema, given),
                    )
                )

    change(run / "verdict.json", edit)
    return run


@pytest.mark.parametrize("given", [True, False])
def test_the_schema_is_shown_with_how_many_answers_keep_to_it(run: Path, given: bool) -> None:
    page = page_of(with_structure(run, given=given))
    said = page.text()
    assert ("one that breaks it counts as invalid" in said) is given
    assert ("The task gives no schema." in said) is not given
    said = said[said.index("Form of the answers") :]
    assert "lora recommended 90.0 % 95.0 %" in said
    assert "encoder 100.0 % 100.0 % none" in said
    assert "lora it is not JSON 1" in said
    # of 20 names one is another and one is missing: 18 right, 19 given, 20 wanted
    assert "name wanted 20 times 92.3 % precision 95 %, recall 90 % 100.0 %" in said
    shown = "".join(data for path, data in page.said if path.endswith("pre>code"))
    schema = json.loads(shown[: shown.index("luthier run")])
    assert schema["required"] == ["name", "city"]
    assert {"#structure"} <= {link["href"] for link in page.all("a")}
    check_accessible(page)


def test_a_schema_of_the_task_file_is_shown_where_an_older_verdict_has_none(run: Path) -> None:
    with_structure(run, given=True)
    change(run / "verdict.json", lambda verdict: verdict.pop("answer_schema"))
    assert "The schema" not in page_of(run).text()
    task = yaml.safe_load((run / "task.yaml").read_text())
    (run / "task.yaml").write_text(yaml.safe_dump({**task, "schema": {"title": "of the task"}}))
    assert '"title": "of the task"' in page_of(run).text()


# ---- commands ----------------------------------------------------------------------------------


def test_the_commands_repeat_the_run(run: Path) -> None:
    home = run.rename(run.with_name("my run"))
    page = page_of(home)
    commands = [data for path, data in page.said if path.endswith("pre>code")]
    manifest = json.loads((home / "manifest.json").read_text())
    assert commands[0] == manifest["command"]
    words = [shlex.split(command) for command in commands]
    assert ["luthier", "run", "my run/task.yaml", "--out", "my run-again", "--yes"] in words
    assert ["luthier", "compare", "my run", "my run-again"] in words
    assert ["luthier", "report", "my run"] in words
    pinned = next(line for line in words if line[:2] == ["pip", "install"])
    assert not [word for word in pinned if word.startswith("luthier")]  # on no index
    assert not [word for word in pinned if "+" in word or word.startswith("python")]


# ---- drawings ----------------------------------------------------------------------------------


@given(st.text(max_size=60), st.text(max_size=60), st.sampled_from([BESIDE, ABOVE]))
def test_names_and_notes_fit_beside_their_lines(name: str, note: str, room: int) -> None:
    shown, said = _label(Dot(name, 0.0, None, note), room)
    assert len(shown) + len(said) <= room
    if len(name) + len(note) < 30:
        assert (shown, said) == (name, note)


# ---- anything at all ---------------------------------------------------------------------------


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_the_page_stands_whatever_these_parts_hold(original: Path, data: st.DataObject) -> None:
    verdict = json.loads((original / "verdict.json").read_text())
    broken = json.loads(json.dumps(verdict))
    names = JSON | st.just(["lora", "encoder"])
    pair = st.fixed_dictionaries({"arms": names, "difference": JSON, "p": JSON, "interval": JSON})
    broken["pairs"] = data.draw(JSON | st.lists(pair, max_size=3))
    broken["answer_schema"] = data.draw(JSON | st.fixed_dictionaries({"schema": JSON}))
    for arm in broken["arms"]:
        arm["schema"] = data.draw(JSON | st.fixed_dictionaries({"problems": JSON, "given": JSON}))
        arm["fields"] = data.draw(JSON | st.lists(st.fixed_dictionaries({"field": JSON})))
        manner = {"traits": {"mark": data.draw(JSON)}, "numbers": {"sentences": data.draw(JSON)}}
        arm["behaviour"] = {"manner": data.draw(st.just(manner) | JSON)}
        arm["forgetting"] = data.draw(
            JSON | st.fixed_dictionaries({"drop": JSON, "interval": JSON, "probes": JSON})
        )
    try:
        (original / "verdict.json").write_text(json.dumps(broken))
        Page(build_report(original).read_text(encoding="utf-8"))
    finally:
        (original / "verdict.json").write_text(json.dumps(verdict))


def test_no_heading_is_left_without_a_part(run: Path) -> None:
    html = build_report(with_structure(with_behaviour(run, WANTED), given=True)).read_text()
    linked = re.findall(r'href="#([a-z-]+)"', html)
    sections = re.findall(r'<section id="([a-z-]+)"', html)
    assert set(linked) == set(sections)
