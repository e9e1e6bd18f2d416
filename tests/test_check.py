"""`luthier check`: the answer first, then why, and nothing of the data moves the terminal."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from run_samples import luthier, write_csv, write_task

from luthier import display_check
from luthier.data.linting import Finding
from luthier.examine import Examined

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def folder(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_task(tmp_path / "task", tiny_model, rows=160)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "task"


def test_the_answer_is_the_first_line_and_all_is_said(capsys: Capture, folder: Path) -> None:
    code, out, _ = luthier(capsys, "check", folder)
    assert code == 0
    lines = out.splitlines()
    assert lines[0].startswith("ok")
    assert lines[-1] == f"Next: luthier run {folder}"
    for said in ("tokens", "labels", "majority", "zero-shot", "lora", "⟦between these⟧"):
        assert said in out
    (trained,) = [line for line in lines if "⟦" in line and "between these" not in line]
    assert trained.strip().rstrip("⟧")[1:].startswith(("blue", "green", "red"))


def test_lines_keep_to_eighty_columns(capsys: Capture, folder: Path) -> None:
    write_csv(folder / "test.csv", [{"q": "item 1: a green box", "k": "green"}] * 20)
    text = (folder / "task.yaml").read_text().replace("rows.csv", "rows.csv\n  test: test.csv")
    (folder / "task.yaml").write_text(text)
    code, out, _ = luthier(capsys, "check", folder)
    assert code == 1
    lines = out.splitlines()
    assert lines[0].startswith("Not ok: ")
    until = next(n for n, line in enumerate(lines) if "⟦between" in line)
    assert max(len(line) for line in lines[:until]) <= 80
    assert "Next: mend the errors" in lines[-1]


def test_the_json_document(capsys: Capture, folder: Path) -> None:
    code, out, _ = luthier(capsys, "check", folder, "--json")
    assert code == 0
    held = json.loads(out)
    assert held.keys() >= {"ok", "answer", "findings", "tokens", "estimate", "arms", "labels",
                           "languages", "sample"}  # fmt: skip
    assert sum(held["labels"]["train"].values()) == held["tokens"]["train"]["rows"]
    assert {arm["name"] for arm in held["arms"]} == {"majority", "zero-shot", "few-shot", "lora"}
    assert all(arm["seconds"] >= 0 for arm in held["arms"])
    assert all(arm["fits"] for arm in held["arms"] if arm["name"] != "majority")
    trained = "".join(span["text"] for span in held["sample"] if span["trained"])
    assert trained.startswith(("blue", "green", "red")) and "<|im_end|>" in trained


def test_fix_writes_beside_and_looks_at_what_was_written(capsys: Capture, folder: Path) -> None:
    rows = [{"q": f"item {n}: a {c} cafÃ©", "k": c}
            for n, c in enumerate(["blue", "red"] * 60)]  # fmt: skip
    write_csv(folder / "rows.csv", [*rows, *rows[:3], {"q": "item", "k": ""}])
    source = (folder / "rows.csv").read_bytes()
    code, _, err = luthier(capsys, "check", folder)
    assert code == 2 and "blank output" in err
    code, out, _ = luthier(capsys, "check", folder, "--fix", "fixed.jsonl")
    assert code == 0
    assert "Fixed: fixed.jsonl has 120 of 124 rows" in " ".join(out.split())
    assert "encoding" not in {line.split()[-1] for line in out.splitlines() if line.strip()}
    assert "set `data.train: fixed.jsonl`" in out
    assert (folder / "rows.csv").read_bytes() == source
    assert Path("fixed.jsonl").is_file() and Path("fixed.changes.jsonl").is_file()
    code, out, err = luthier(capsys, "check", folder, "--fix", "fixed.jsonl")
    assert (code, out) == (2, "") and "is there already" in err
    code, out, _ = luthier(capsys, "check", folder, "--fix", "other.jsonl", "--json")
    assert json.loads(out)["fixed"]["rows_written"] == 120


def chat_task(folder: Path, model: Path) -> Path:
    """A chat log offered as rows for an essay."""
    import random

    import yaml

    chance = random.Random(3)
    things = ["bridge", "engine", "garden", "violin", "harbour", "market", "lantern", "kettle"]
    said = ["ok thanks", "sure, will do", "hm", "did you see the {}?", "the {} broke again {}",
            "lol the {} and the {}", "thanks!", "what about the {}, or the {}?"]  # fmt: skip

    def line() -> str:
        text = chance.choice(said)
        return text.format(*(chance.choice(things) for _ in range(text.count("{}"))))

    write_csv(folder / "rows.csv", [{"q": f"{line()} {n}", "a": line()} for n in range(300)])
    values = {
        "name": "essay",
        "kind": "generation",
        "instruction": "Write a 500 word essay about the topic.",
        "wanted": ["The sea is old. It was there before us, and it will be there after. " * 20] * 2,
        "data": {"train": "rows.csv", "input": "{{ q }}", "output": "{{ a }}"},
        "model": str(model),
        "arms": ["zero-shot"],
    }
    (folder / "task.yaml").write_text(yaml.safe_dump(values))
    return folder / "task.yaml"


def test_what_should_not_be_trained_on_is_said_first(
    capsys: Capture, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = chat_task(tmp_path, tiny_model)
    code, out, _ = luthier(capsys, "check", task)
    assert code == 1
    assert out.startswith("Do not fine-tune on this: ")
    assert "(1) Brevity" in out and "(2) Deferrals" in out
    code, out, _ = luthier(capsys, "check", task, "--json")
    held = json.loads(out)
    assert held["findings"][0]["lint"] == "unfit" and held["ok"] is False
    # a run says so before it spends time: it stops where nobody can be asked
    run = tmp_path / "run"
    code, out, err = luthier(capsys, "run", task, "--out", run)
    assert (code, out) == (2, "") and "Do not fine-tune on this: " in err
    assert not run.exists()
    # and asks where somebody can
    monkeypatch.setattr("sys.stdin", Terminal("n\n"))
    code, _, err = luthier(capsys, "run", task, "--out", run)
    assert code != 0 and "Go on all the same?" in err and not run.exists()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(examined: Examined, notes: tuple[str, ...] = (), **how: Any) -> str:
    file = io.StringIO()
    console = Console(file=file, highlight=False, width=80, **how)
    display_check.check(console, examined, notes, following="x")
    return file.getvalue()


def examined(**values: Any) -> Examined:
    sizes = {"rows": 3, "total": 30, "median": 10, "longest": 12, "overlong": 0, "sampled": 3}
    return Examined(
        **{
            "findings": (),
            "tokens": {"train": sizes},
            "estimate": {"seconds": 1.0, "peak_memory_bytes": 1},
            "sample": (("read ", False), ("trained", True)),
            **values,
        }
    )


def test_what_is_trained_is_marked_with_and_without_colours() -> None:
    assert "read ⟦trained⟧" in shown(examined())
    coloured = shown(examined(), force_terminal=True, color_system="standard")
    assert "⟦" in coloured and "\x1b[1;32mtrained" in coloured


def test_texts_of_the_data_cannot_speak_to_the_terminal() -> None:
    evil = "\x1b[2J\x1b]0;title\x07 \u202e txt\x9b1m\r"
    finding = Finding("x", "warning", 1, (f"row {evil}",), f"message {evil}", f"fix {evil}")
    said = shown(
        examined(
            findings=(finding,),
            sample=((evil, False), (evil, True)),
            labels={"train": {evil: 3}},
        ),
        (f"note {evil}",),
    )
    assert not {"\x1b", "\x07", "\x9b", "\u202e", "\r"} & set(said)
    assert "␛[2J" in said


def test_a_long_row_is_cut_in_the_middle_and_says_so() -> None:
    said = shown(examined(sample=(("a" * 9_000, False), ("end", True))))
    assert "characters are left out here" in said and "end⟧" in said
    assert len(said) < 4_000


def test_counts_of_a_sample_are_called_so() -> None:
    sizes = {"rows": 90_000, "total": 900_000, "median": 9, "longest": 12, "overlong": 5,
             "sampled": 20_000}  # fmt: skip
    said = shown(examined(tokens={"train": sizes}))
    assert "~900,000" in said and "sample" in said


@pytest.mark.parametrize(
    ("severities", "answer"),
    [
        ([], "ok: nothing was found."),
        (["note"], "ok: 1 note, none that forbids training."),
        (["error", "error", "note"], "Not ok: 2 errors and 1 note."),
    ],
)
def test_the_answer(severities: list[Any], answer: str) -> None:
    found = tuple(Finding("x", severity, 1, (), "m", "f") for severity in severities)
    assert examined(findings=found).answer == answer


DATA = Path(__file__).parents[2] / "shared" / "data"
BLOG_POSTS = [
    """Every spring the community garden on Harbour Street wakes up a little before the rest of
the city does. The first volunteers arrive while there is still frost on the paths, and they bring
thermos flasks, seed catalogues and a great many opinions about compost.

Gardening in a city is mostly an exercise in patience. The soil is thin, the light is borrowed from
between tall buildings, and the nearest tap is sixty metres away. Yet these limits teach good
habits: when water has to be carried by hand, you learn to mulch, and when space is short, you learn
to grow upwards.""",
    """Remote work was supposed to free us from the office, and in many ways it has kept that
promise. The commute has vanished, the calendar has softened, and lunch can be eaten from a proper
plate. But the freedom has a price, which is paid in small instalments of attention.

The trouble begins with boundaries. In an office, the day has edges: a door that closes, a train
that leaves, a colleague who puts on her coat. At home, the laptop sits within reach at nine in the
evening, glowing like a second fridge. Without a ritual to end the day, the day does not end.""",
]


def offered(folder: Path, model: Path, rows: list[dict[str, Any]], **task: Any) -> Path:
    """A task with these rows as its training data."""
    import yaml

    from luthier.files import write_jsonl

    folder.mkdir()
    write_jsonl(folder / "rows.jsonl", rows)
    values = {"name": "blog", "kind": "generation", "model": str(model), "arms": ["zero-shot"],
              **task, "data": {"train": "rows.jsonl", **task["data"]}}  # fmt: skip
    (folder / "task.yaml").write_text(yaml.safe_dump(values))
    return folder / "task.yaml"


@pytest.mark.skipif(not DATA.is_dir(), reason="the public data sets are not here")
def test_a_slack_channel_is_no_training_data_for_blog_posts(
    capsys: Capture, tmp_path: Path, tiny_model: Path
) -> None:
    from luthier.data.reading import read_rows

    slack = read_rows("slack/racket-2018.xml", DATA, format="slack")[::10]
    task = offered(
        tmp_path / "blog",
        tiny_model,
        [{"messages": row.values["messages"][-2:]} for row in slack],
        instruction="Write a 500 word blog post about the given topic.",
        wanted=BLOG_POSTS,
        data={"messages": "messages"},
        training={"max_tokens": 256, "overlong": "cut"},
    )
    code, out, _ = luthier(capsys, "check", task)
    assert code == 1
    said = " ".join(out.split())
    assert said.startswith("Do not fine-tune on this: 4 of 4 signs say that it teaches something")
    for sign in ("(1) Brevity: outputs have", "the instruction asks for 500",
                 "(2) Deferrals:", "(3) Unrelated replies:", "(4) Target mismatch:"):  # fmt: skip
        assert sign in said
    assert "Fix: Collect rows in which the prompt is what will be asked" in said


@pytest.mark.skipif(not DATA.is_dir(), reason="the public data sets are not here")
def test_good_instruction_data_do_not_get_that_answer(
    capsys: Capture, tmp_path: Path, tiny_model: Path
) -> None:
    rows = json.loads((DATA / "instructions" / "alpaca_5000.json").read_text("utf-8"))
    rows = [row for row in rows if row["output"].strip()]
    # outputs of the data themselves, which are then not among the rows
    wanted = [row["output"] for row in rows[:200] if 30 <= len(row["output"].split()) <= 80][:3]
    task = offered(
        tmp_path / "good",
        tiny_model,
        [row for row in rows[:500] if row["output"] not in wanted],
        instruction="Do what is asked.",
        wanted=wanted,
        data={"input": "{{ instruction }}\n{{ input }}", "output": "{{ output }}"},
        training={"max_tokens": 256, "overlong": "cut"},
    )
    code, out, _ = luthier(capsys, "check", task, "--json")
    held = json.loads(out)
    assert code == 0 and held["ok"] is True
    assert "Do not fine-tune" not in held["answer"]
    found = {finding["lint"] for finding in held["findings"]}
    assert not found & {"unfit", "target_use", "relatedness", "brevity", "wanted_length"}
