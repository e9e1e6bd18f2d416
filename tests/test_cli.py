"""The command line: its surface, its exit codes, and one clear line for whatever is wrong."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from run_samples import (
    colour_rows,
    few_probes,
    files_below,
    luthier,
    read_jsonl,
    with_context,
    write_csv,
    write_task,
)

from luthier.errors import RunError
from luthier.serving.offer import offer
from luthier.starters import kinds

Capture = pytest.CaptureFixture[str]

# ---- the surface: scripts rely on it -----------------------------------------------------------

SURFACE = {
    "init": {"DIR", "--kind"},
    "check": {"TASK", "--json", "--fix", "--refused"},
    "run": {
        *("TASK", "--out", "--arms", "--seed", "--minutes", "--resume"),
        *("--yes", "-y", "--json", "--track", "--tune"),
        "--seeds",
        "--learning-curve",
        "--no-learning-curve",
    },
    "train": {
        *("TASK", "--out", "--method", "--from", "--resume", "--json"),
        *("--find-rate", "--track"),
    },
    "evaluate": {"MODEL_OR_RUN", "TASK", "--json"},
    "report": {"RUN"},
    "compare": {"RUN RUN...", "--out", "--json"},
    "serve": {
        "RUN_OR_MODEL",
        "--port",
        "--host",
        "--api-key",
        "--group",
        "--keys",
        "--model",
        "--quarantine",
        "--quote",
        "--no-quote",
    },
    "models": {"--json"},
    "doctor": {"--json"},
}


def test_the_verbs_and_their_options() -> None:
    import typer

    from luthier.cli import app

    command: Any = typer.main.get_command(app)
    found = {}
    for name, verb in command.commands.items():
        words: set[str] = set()
        for parameter in verb.params:
            if parameter.param_type_name == "argument":
                words.add(parameter.metavar)
            else:
                words |= {*parameter.opts, *parameter.secondary_opts}
        found[name] = words
    assert {name: words & SURFACE.get(name, words) for name, words in found.items()} == found
    assert {name: found.get(name) for name in SURFACE} == SURFACE


def test_help_is_quick_to_import() -> None:
    program = (
        "import sys\n"
        "sys.argv = ['luthier', '--help']\n"
        "from luthier.cli import main\n"
        "try:\n    main()\n"
        "except SystemExit as stop:\n    assert not stop.code, stop.code\n"
        "heavy = ('torch', 'transformers', 'pydantic', 'numpy', 'sklearn', 'fastapi', 'pyarrow')\n"
        "print([name for name in heavy if name in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert "Usage: luthier" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("verb", sorted(SURFACE))
def test_every_verb_explains_itself(capsys: Capture, verb: str) -> None:
    code, out, err = luthier(capsys, verb, "--help")
    assert (code, err) == (0, "")
    for word in SURFACE[verb]:
        assert word in out


def test_version_and_no_words_at_all(capsys: Capture) -> None:
    code, out, _ = luthier(capsys, "--version")
    assert code == 0
    assert out.startswith("luthier ")
    code, out, err = luthier(capsys)
    assert (code, out) == (2, "")
    assert err.startswith("Usage: luthier")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["chek", "task.yaml"], "No such command 'chek'. Did you mean 'check'?"),
        (["check"], "Missing argument 'TASK'."),
        (["check", "task.yaml", "--jsn"], "No such option: --jsn"),
        (["run", "task.yaml", "--seed", "many"], "Invalid value for '--seed'"),
        (["run", "task.yaml", "extra"], "unexpected extra argument"),
        (["train", "task.yaml"], "Missing option '--out'."),
        (["serve", "x", "--port", "http"], "Invalid value for '--port'"),
    ],
)
def test_wrong_words(capsys: Capture, words: list[str], said: str) -> None:
    code, out, err = luthier(capsys, *words)
    assert (code, out) == (2, "")
    assert err.startswith("luthier: ")
    assert said in err
    assert "Traceback" not in err


# ---- what is wrong with a task -----------------------------------------------------------------


def edit(folder: Path, **changes: Any) -> None:
    """Change task.yaml; `data` is merged."""
    path = folder / "task.yaml"
    values = yaml.safe_load(path.read_text())
    values["data"] |= changes.pop("data", {})
    path.write_text(yaml.safe_dump({**values, **changes}, sort_keys=False))


def rows_as(text: str | bytes, name: str = "rows.csv") -> Callable[[Path], None]:
    """Write the training rows, and point the task to them."""

    def change(folder: Path) -> None:
        data = text.encode() if isinstance(text, str) else text
        (folder / name).write_bytes(data)
        edit(folder, data={"train": name})

    return change


def task_text(text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / "task.yaml").write_text(text) and None


def with_row(row: dict[str, str]) -> Callable[[Path], None]:
    return lambda folder: write_csv(folder / "rows.csv", [*colour_rows(), row]) and None


def twice_the_same_id(folder: Path) -> None:
    rows = [{"id": str(min(i, 30)), **row} for i, row in enumerate(colour_rows(32))]
    write_csv(folder / "rows.csv", rows)


def jsonl(broken: str) -> str:
    lines = [json.dumps(row) for row in colour_rows()]
    return "\n".join([*lines[:6], broken, *lines[6:]])


LATIN = "q,k\nUne boîte verte,green\n".encode("latin-1")

BAD: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "missing task file": (
        lambda folder: (folder / "task.yaml").unlink(),
        ["task.yaml does not exist", "luthier init DIR"],
    ),
    "missing data file": (
        lambda folder: (folder / "rows.csv").rename(folder / "row.csv"),
        ["rows.csv", "row.csv"],
    ),
    "missing column in a template": (
        lambda folder: edit(folder, data={"input": "{{ question }}"}),
        ["data.input", "'question'", "rows.csv"],
    ),
    "missing column of a group": (
        lambda folder: edit(folder, data={"group": "author"}),
        ["data.group", "'author'"],
    ),
    "a template that is none": (
        lambda folder: edit(folder, data={"input": "{{ q "}),
        ["data.input"],
    ),
    "empty file": (rows_as(""), ["rows.csv"]),
    "a header alone": (rows_as("q,k\n"), ["rows.csv"]),
    "broken JSON": (rows_as(jsonl('{"q": "x", "k": '), "rows.jsonl"), ["rows.jsonl line 7"]),
    "JSON that is no object": (rows_as(jsonl("[1, 2]"), "rows.jsonl"), ["rows.jsonl line 7"]),
    "wrong encoding": (rows_as(LATIN), ["rows.csv line 2", "not UTF-8", "iconv"]),
    "an unknown format": (rows_as("q", "rows.xls"), ["rows.xls"]),
    "a label outside labels": (
        lambda folder: edit(folder, labels=["blue", "green", "rod"]),
        ["rows.csv row", "'red'", "`labels`", "'rod'"],
    ),
    "a class with one row": (
        with_row({"q": "a violet box", "k": "violet"}),
        ["1 class has one row: 'violet' (rows.csv row 41)"],
    ),
    "one label only": (
        rows_as("q,k\n" + "".join(f"thing {i},red\n" for i in range(30))),
        ["'red'", "two labels"],
    ),
    "too few rows": (rows_as("q,k\na,red\nb,red\nc,blue\nd,blue\n"), ["4 training rows"]),
    "duplicate ids": (twice_the_same_id, ["rows.csv row 31", "rows.csv row 32", "id '30'"]),
    "an unknown arm": (
        lambda folder: edit(folder, arms=["lorra"]),
        ["task.yaml: `arms` names 'lorra'", "'lora'"],
    ),
    "an arm that does not suit": (
        lambda folder: edit(folder, kind="generation", arms=["linear-probe"]),
        ["linear-probe", "generation"],
    ),
    "an unknown metric": (lambda folder: edit(folder, metric="acuracy"), ["'acuracy'"]),
    "a metric of another kind": (lambda folder: edit(folder, metric="chrf"), ["'chrf'"]),
    "an unknown model": (
        lambda folder: edit(folder, model="smollm2"),
        ["'smollm2'", "smollm2-135m-instruct"],
    ),
    "an instruction longer than the context": (
        lambda folder: edit(folder, instruction="Name the colour. " * 40),
        ["`instruction` has 679 tokens", "512"],
    ),
    "rows longer than the context": (
        with_row({"q": "x" * 600, "k": "red"}),
        ["512", "rows.csv row 41"],
    ),
    "an unknown key": (
        lambda folder: edit(folder, modle="x"),
        ["unknown key `modle`", "'model'"],
    ),
    "an unknown key in data": (
        lambda folder: edit(folder, data={"tran": "x"}),
        ["unknown key `data.tran`", "'train'"],
    ),
    "broken YAML": (task_text("name: a\nkind: [b\ndata: x\n"), ["task.yaml line 3"]),
    "a key given twice": (
        task_text("name: a\nkind: chat\nname: b\n"),
        ["task.yaml line 3", "`name` is given twice, first in line 1"],
    ),
    "a NUL byte in YAML": (task_text("name: a\nkind: \0\n"), ["task.yaml line 2", "NUL"]),
    "labels that YAML reads as true and false": (
        lambda folder: (folder / "task.yaml").write_text(
            (folder / "task.yaml").read_text() + "labels: [yes, no]\n"
        ),
        ["`labels`", "put quotes around"],
    ),
    "arms as a word": (
        lambda folder: edit(folder, arms="lora"),
        ["`arms`: a list of names, or auto, is expected, not 'lora'"],
    ),
}


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    with few_probes():
        yield


@pytest.fixture
def folder(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A task of two quick arms, in a working directory of its own."""
    write_task(tmp_path / "task", tiny_model, arms=["majority", "zero-shot"])
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "task"


def is_one_clear_line(err: str) -> str:
    """The line; findings may come before it, a fix after it."""
    assert "Traceback" not in err
    lines = err.strip().splitlines()
    starts = [i for i, line in enumerate(lines) if line.startswith("luthier: ")]
    assert len(starts) == 1, err
    said = lines[starts[0] :]
    assert len(said) <= 2, err
    assert all(line.startswith("  ") for line in said[1:])
    return "\n".join(said)


#: What check does not look at.
OF_RUNS = {
    "a metric of another kind",
    "an arm that does not suit",
    "an unknown arm",
    "an unknown metric",
}


@pytest.mark.parametrize(
    ("what", "verb"),
    [(w, v) for w in sorted(BAD) for v in ("run", "check") if v == "run" or w not in OF_RUNS],
)
def test_bad_input_gets_a_clear_line(capsys: Capture, folder: Path, what: str, verb: str) -> None:
    change, expected = BAD[what]
    change(folder)
    before = files_below(folder.parent)
    words = [verb, folder / "task.yaml", *(["--out", folder.parent / "out"] * (verb == "run"))]
    code, out, err = luthier(capsys, *words)
    if verb == "check" and what == "rows longer than the context":
        assert code == 1  # check lists it among its findings
        assert "rows.csv row 41" in " ".join(out.split())
    else:
        assert code == 2
        said = is_one_clear_line(err)
        shown = err if what == "rows longer than the context" else said
        for text in expected:
            assert text in shown
        assert out == ""
    assert files_below(folder.parent) == before
    assert not (folder.parent / "out").exists()


@pytest.mark.parametrize("what", ["missing data file", "an unknown model", "a key given twice"])
@pytest.mark.parametrize("verb", ["train", "evaluate"])
def test_the_other_verbs_say_the_same(
    capsys: Capture, folder: Path, what: str, verb: str, tiny_model: Path
) -> None:
    change, expected = BAD[what]
    change(folder)
    before = files_below(folder)
    out = folder.parent / "stage"
    task = folder / "task.yaml"
    if verb == "train":
        words = [verb, task, "--out", out]
    else:
        model = "smollm2" if what == "an unknown model" else tiny_model
        words = [verb, model, task]
    code, printed, err = luthier(capsys, *words)
    assert (code, printed) == (2, "")
    said = is_one_clear_line(err)
    for text in expected:
        assert text in said
    assert files_below(folder) == before


def test_test_rows_identical_to_training_rows_are_reported(capsys: Capture, folder: Path) -> None:
    write_csv(folder / "test.csv", [*colour_rows(12), {"q": "a new red one", "k": "red"}])
    edit(folder, data={"test": "test.csv"})
    code, out, _ = luthier(capsys, "check", folder / "task.yaml", "--json")
    assert code == 1
    found = json.loads(out)
    assert found["ok"] is False
    leaks = [f for f in found["findings"] if f["lint"] == "leakage"]
    assert leaks[0]["severity"] == "error"
    assert "also in training" in leaks[0]["message"]
    # validation is cut from the training rows, so some are found there
    named = {row for leak in leaks for row in leak["rows"]}
    assert named == {f"test.csv row {i}" for i in range(1, 13)}
    assert sum(leak["count"] for leak in leaks) == 12
    # a run stops there, unless it is told to go on
    before = files_below(folder.parent)
    code, out, err = luthier(capsys, "run", folder / "task.yaml", "--out", "out")
    assert (code, out) == (2, "")
    assert "the data has errors, named above" in err
    assert leaks[0]["rows"][0] in err
    assert files_below(folder.parent) == before
    code, out, err = luthier(capsys, "run", folder / "task.yaml", "--out", "out", "--yes", "--json")
    assert code == 0
    assert any("also in training" in text for text in json.loads(out)["warnings"])
    assert json.loads(Path("out/lint.json").read_text())["ok"] is False


def test_folders_that_hold_something_else(capsys: Capture, folder: Path) -> None:
    task = folder / "task.yaml"
    assert luthier(capsys, "run", task, "--out", "out")[0] == 0
    before = files_below(Path("out"))

    code, _, err = luthier(capsys, "run", task, "--out", "out")
    assert code == 2
    assert "already holds a run of this task" in is_one_clear_line(err)
    assert "--resume" in err
    edit(folder, instruction="Another one.")
    for resume in ([], ["--resume"]):
        code, _, err = luthier(capsys, "run", task, "--out", "out", *resume)
        assert code == 2
        said = is_one_clear_line(err)
        assert f"{Path('out').absolute()} holds another run (task 'colours'" in said
        assert "Choose another folder with --out." in said
    code, _, err = luthier(capsys, "run", task, "--out", folder)
    assert code == 2
    assert "is not empty and holds no run" in is_one_clear_line(err)
    code, _, err = luthier(capsys, "run", task, "--out", task)
    assert code == 2
    assert "task.yaml" in is_one_clear_line(err)
    code, _, err = luthier(capsys, "train", task, "--out", "out")
    assert code == 2
    assert "is not empty" in is_one_clear_line(err)
    assert files_below(Path("out")) == before

    (Path("out") / "manifest.json").write_text("{")
    code, _, err = luthier(capsys, "run", task, "--out", "out", "--resume")
    assert code == 2
    assert "manifest.json is not valid JSON" in is_one_clear_line(err)


def test_a_port_in_use(capsys: Capture, folder: Path) -> None:
    assert luthier(capsys, "run", folder / "task.yaml", "--out", "out")[0] == 0
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, out, err = luthier(capsys, "serve", "out", "--port", port)
    assert (code, out) == (2, "")
    assert is_one_clear_line(err) == (
        f"luthier: Port {port} is already in use.\n  Choose another with --port."
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["serve", "nowhere"], "No model 'nowhere'"),
        (["report", "nowhere"], "nowhere does not exist"),
        (["report", "."], "holds no run"),
        (["init", "x", "--kind", "clasification"], "Did you mean 'classification'?"),
        (["evaluate", "nowhere", "../task"], "No model 'nowhere'"),
        (["train", "../task", "--out", "s", "--method", "lorra"], "Unknown method 'lorra'"),
        (["train", "../task", "--out", "s", "--from", "nowhere"], "No model 'nowhere'"),
        (["run", "../task", "--arms", "majority,lorra"], "`arms` names 'lorra', which is no arm"),
        (["run", "../task", "--arms", ","], "`arms` is empty"),
        (["run", "../task", "--minutes", "0"], "`budget.minutes` must be more than 0"),
        (["run", "../task", "--seed", "-1"], "`seed` must be at least 0"),
        (["run", "../task", "--resume"], "There is no run of 'colours'"),
    ],
)
def test_names_of_nothing(capsys: Capture, folder: Path, words: list[str], said: str) -> None:
    code, out, err = luthier(capsys, *words)
    assert (code, out) == (2, "")
    assert said in is_one_clear_line(err)
    assert not list(Path().iterdir())


def test_init_refuses_a_folder_with_files(capsys: Capture, folder: Path) -> None:
    before = files_below(folder)
    code, _, err = luthier(capsys, "init", folder)
    assert code == 2
    assert "is not empty" in is_one_clear_line(err)
    assert files_below(folder) == before


def test_a_run_without_a_verdict(capsys: Capture, folder: Path) -> None:
    assert luthier(capsys, "run", folder / "task.yaml", "--out", "out")[0] == 0
    (Path("out") / "verdict.json").unlink()
    for words in (["report", "out"], ["serve", "out"], ["evaluate", "out", folder]):
        code, out, err = luthier(capsys, *words)
        assert (code, out) == (2, "")
        said = is_one_clear_line(err)
        assert "has no verdict yet" in said
        assert "--resume" in said
    assert luthier(capsys, "run", "out/task.yaml", "--out", "out", "--resume")[0] == 0
    assert luthier(capsys, "report", "out")[0] == 0


# ---- one JSON document and nothing else --------------------------------------------------------


def test_json_prints_one_document(capsys: Capture, folder: Path, tiny_model: Path) -> None:
    task = folder / "task.yaml"
    code, out, _ = luthier(capsys, "check", task, "--json")
    assert code == 0
    checked = json.loads(out)
    assert checked.keys() >= {"ok", "findings", "tokens", "estimate"}
    assert checked["tokens"].keys() == {"train", "validation", "test"}
    assert checked["estimate"].keys() == {"seconds", "peak_memory_bytes"}
    for finding in checked["findings"]:
        assert finding.keys() >= {"lint", "severity", "count", "rows", "message", "fix"}

    code, out, err = luthier(capsys, "run", task, "--out", "out", "--json")
    assert code == 0
    verdict = json.loads(out)
    assert verdict == json.loads(Path("out/verdict.json").read_text())
    assert "zero-shot: accuracy" in err  # progress goes elsewhere

    code, out, _ = luthier(capsys, "train", task, "--out", "stage", "--json")
    assert code == 0
    trained = json.loads(out)
    assert trained == json.loads(Path("stage/train.json").read_text())
    assert trained.keys() >= {
        *("method", "objective", "tokens", "seconds", "tokens_per_second", "peak_memory_bytes"),
        *("steps", "final_loss", "trained_parameters", "total_parameters"),
    }
    assert any(event["event"] == "step" for event in read_jsonl(Path("stage/events.jsonl")))

    for model in ("out", "stage", tiny_model):
        code, out, _ = luthier(capsys, "evaluate", model, task, "--json")
        assert code == 0
        arm = json.loads(out)
        # one object, whatever was scored: an arm of verdict.json
        assert arm.keys() == verdict["arms"][0].keys()
        assert arm["versus_best"] is None
        assert arm["costs"].keys() == verdict["arms"][0]["costs"].keys()
        assert arm["metrics"].keys() >= {"accuracy", "macro_f1", "mcc"}

    code, out, _ = luthier(capsys, "models", "--json")
    assert code == 0
    assert {row["name"] for row in json.loads(out)} >= {"smollm2-135m-instruct"}
    code, table, _ = luthier(capsys, "models")
    assert code == 0
    assert all(row["name"] in table for row in json.loads(out))
    code, out, _ = luthier(capsys, "doctor", "--json")
    assert code in (0, 1)
    assert all(check.keys() >= {"name", "ok"} for check in json.loads(out))


def test_evaluating_a_run_scores_its_recommended_arm(capsys: Capture, folder: Path) -> None:
    task = folder / "task.yaml"
    assert luthier(capsys, "run", task, "--out", "out")[0] == 0
    _, out, _ = luthier(capsys, "evaluate", "out", task, "--json")
    arm = json.loads(out)
    verdict = json.loads(Path("out/verdict.json").read_text())
    (same,) = [a for a in verdict["arms"] if a["name"] == arm["name"]]
    assert arm["name"] == (verdict["recommendation"] or "zero-shot")
    for key in ("score", "interval", "invalid_rate", "prompt_tokens_per_answer", "metrics"):
        assert arm[key] == same[key]
    assert arm["calibration"] == same["calibration"]
    assert arm["costs"]["stored_bytes"] == same["costs"]["stored_bytes"]
    assert arm["costs"]["base_model_bytes"] == same["costs"]["base_model_bytes"]


# ---- one verb after another --------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["classification", "extraction"])
def test_init_check_run(
    capsys: Capture,
    tmp_path: Path,
    tiny_model: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, _ = luthier(capsys, "init", "new", "--kind", kind)
    assert code == 0
    assert "luthier check new" in out
    model = with_context(tiny_model, tmp_path / "tiny", 4096)
    text = Path("new/task.yaml").read_text()
    Path("new/task.yaml").write_text(text.replace("smollm2-135m-instruct", str(model)))
    code, out, err = luthier(capsys, "check", "new")
    assert code == 0, err
    assert out.startswith("ok")
    assert "<|im_start|>system" in out  # the rendered sample
    code, out, err = luthier(capsys, "run", "new", "--arms", "majority,zero-shot", "--yes")
    assert code == 0, err
    headline = json.loads(next(Path("runs").glob("*/verdict.json")).read_text())["headline"]
    assert headline in out.replace("\n", " ")
    assert "luthier serve runs/" in out


def test_there_is_a_starter_for_every_kind() -> None:
    from luthier.task import KINDS

    assert set(kinds()) == set(KINDS)


def test_train_then_evaluate_then_train_on(capsys: Capture, folder: Path) -> None:
    task = folder / "task.yaml"
    code, out, _ = luthier(capsys, "train", task, "--out", "one")
    assert code == 0
    assert f"luthier evaluate one {task}" in out
    assert luthier(capsys, "train", task, "--out", "one")[0] == 2  # it is finished
    code, out, _ = luthier(capsys, "evaluate", "one", task)
    assert code == 0
    assert out.startswith("one: accuracy ")
    code, _, err = luthier(capsys, "train", task, "--out", "two", "--from", "one")
    assert code == 0, err
    first, second = (json.loads(Path(f"{n}/train.json").read_text()) for n in ("one", "two"))
    assert second["final_loss"] < first["final_loss"]  # it went on from what was learned
    code, out, err = luthier(capsys, "evaluate", "two", task)
    assert code == 0, err


def test_train_from_a_run(capsys: Capture, folder: Path) -> None:
    task = folder / "task.yaml"
    assert luthier(capsys, "run", task, "--out", "out")[0] == 0
    code, _, err = luthier(capsys, "train", task, "--out", "s", "--from", "out")
    assert code == 2
    assert "has no tuned model" in is_one_clear_line(err)
    assert luthier(capsys, "run", task, "--out", "tuned", "--arms", "lora")[0] == 0
    for start in ("tuned", "tuned/arms/lora"):
        name = f"from-{start.replace('/', '-')}"
        code, _, err = luthier(capsys, "train", task, "--out", name, "--from", start)
        assert code == 0, err


# ---- what can be served ------------------------------------------------------------------------


def test_a_stage_and_a_model_are_served(
    capsys: Capture, folder: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from luthier.data.examples import Message

    assert luthier(capsys, "train", folder / "task.yaml", "--out", "stage")[0] == 0
    asked = [(Message("user", "item 7: a green box"),)]
    stage = Path("stage").absolute()
    monkeypatch.chdir("/")
    texts = set()
    for place, name in ((stage, "stage"), (stage / "model", "model"), (tiny_model, "tiny")):
        servables, default = offer(str(place))
        assert list(servables) == [default] == [name]
        servable = servables[name]()
        assert servable.name == name
        assert servable.generates
        texts.add(servable.answer(asked)[0].text)
    assert len(texts) == 2  # the stage, twice, and what it was tuned from


def test_serving_nothing(folder: Path) -> None:
    from luthier.errors import ModelError

    with pytest.raises(ModelError, match="No model 'nothing'"):
        offer("nothing")
    Path("run").mkdir()
    Path("run/manifest.json").write_text("{}")
    with pytest.raises(RunError, match="has no verdict yet"):
        offer("run")


def test_arms_can_be_chosen_on_the_command_line(capsys: Capture, folder: Path) -> None:
    task = folder / "task.yaml"
    edit(folder, kind="generation", arms=["majority"], generation={"max_new_tokens": 3})
    code, out, _ = luthier(
        capsys, "run", task, "--arms", " zero-shot , majority", "--seed", 3, "--json"
    )
    assert code == 0
    verdict = json.loads(out)
    assert [arm["name"] for arm in verdict["arms"]] == ["majority", "zero-shot"]
    assert verdict["seed"] == 3
    code, out, _ = luthier(capsys, "run", task, "--arms", "auto", "--json")
    assert code == 0
    assert len(json.loads(out)["arms"]) == 4
