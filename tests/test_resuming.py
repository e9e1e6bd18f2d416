"""Killed, interrupted, crowded and full: what is finished is kept, and the verdict is the same.

One process imports everything and forks a child for each command, which spares the imports.
"""

from __future__ import annotations

import json
import os
import random
import shlex
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from run_samples import ARMS, few_probes, files_below, read_jsonl, results, write_task

import luthier
from luthier.errors import RunError

DRIVER = """
import gc, json, os, resource, signal, sys, time

import luthier.arms.few_shot, luthier.arms.zero_shot, luthier.comparing, luthier.training.stage
import peft, sklearn.linear_model, torch
from luthier.cli import main
from luthier.evaluation import probe_sources, scoring

scoring.METRICS.names()
probe_sources.general_probes = lambda held=probe_sources.general_probes()[::10]: held
probe_sources.general_passages = lambda held=probe_sources.general_passages()[::6]: held
torch.set_num_threads(1)
# a child that collects garbage would copy all that it looks through
gc.collect()
gc.freeze()


def slow(arm, place):
    time.sleep(600)


for line in sys.stdin:
    job = json.loads(line)
    pid = os.fork()
    if pid == 0:
        os.dup2(os.open(job["stdout"], os.O_CREAT | os.O_WRONLY | os.O_TRUNC), 1)
        os.dup2(os.open(job["stderr"], os.O_CREAT | os.O_WRONLY | os.O_TRUNC), 2)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.chdir(job["cwd"])
        if job["slow"]:
            luthier.arms.few_shot.FewShot.fit = slow
        if job["bytes"]:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (job["bytes"], job["bytes"]))
        sys.argv = ["luthier", *job["words"]]
        code = 1
        try:
            main()
        except SystemExit as stop:
            code = stop.code or 0
        except BaseException:
            import traceback

            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    print(json.dumps({"pid": pid}), flush=True)
    if not job["wait"]:
        continue
    _, status = os.waitpid(pid, 0)
    print(json.dumps({"code": os.waitstatus_to_exitcode(status)}), flush=True)
"""


class Shell:
    """Runs commands in forks of one process that has imported everything."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._count = 0
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", DRIVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    def _say(self, words: tuple[object, ...], **job: Any) -> Path:
        self._count += 1
        shown = self.folder / f"{self._count}"
        message = {
            "words": [str(word) for word in words],
            "stdout": f"{shown}.out",
            "stderr": f"{shown}.err",
            "cwd": str(self.folder),
            **job,
        }
        assert self._process.stdin
        self._process.stdin.write(json.dumps(message) + "\n")
        self._process.stdin.flush()
        return shown

    def _hear(self) -> dict[str, int]:
        assert self._process.stdout
        held: dict[str, int] = json.loads(self._process.stdout.readline())
        return held

    def run(self, *words: object, most_bytes: int = 0) -> tuple[int, str, str]:
        """(exit code, standard output, standard error) of one command."""
        shown = self._say(words, wait=True, slow=False, bytes=most_bytes)
        self._hear()
        code = self._hear()["code"]
        out, err = (Path(f"{shown}.{end}").read_text() for end in ("out", "err"))
        return code, out, err

    def start(self, *words: object, slow: bool = False) -> tuple[int, Path]:
        """Start a command; gives its process id and where it writes (.out, .err).

        With `slow`, the few-shot arm takes ten minutes.
        """
        shown = self._say(words, wait=False, slow=slow, bytes=0)
        return self._hear()["pid"], shown

    def close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(timeout=20)


def gone(pid: int) -> bool:
    """Whether a child of the driver has ended (it stays a zombie until the driver ends)."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return True
    return state == "Z"


def wait_for(what: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


pytestmark = pytest.mark.skipif(
    not Path("/proc/self/stat").exists(), reason="watches processes through /proc"
)


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    with few_probes():
        yield


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    held = Shell(tmp_path_factory.mktemp("shell"))
    yield held
    held.close()


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    path = tmp_path_factory.mktemp("task")
    training = {"epochs": 3, "batch_size": 4, "checkpoint_every": 2}
    return write_task(path, tiny_model, training=training)


@pytest.fixture(scope="module")
def whole(shell: Shell, task: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """An uninterrupted run, and the seconds it took."""
    out = tmp_path_factory.mktemp("whole") / "out"
    shell.run("run", task, "--out", out.with_name("warm"))
    started = time.monotonic()
    code, _, err = shell.run("run", task, "--out", out)
    assert code == 0, err
    return out, time.monotonic() - started


def finished(out: Path) -> dict[str, int]:
    """When each finished arm was written."""
    return {path.parent.name: path.stat().st_mtime_ns for path in out.glob("arms/*/arm.json")}


def fits(out: Path) -> Counter[str]:
    events = read_jsonl(out / "events.jsonl") if (out / "events.jsonl").is_file() else []
    return Counter(event["arm"] for event in events if event["event"] == "arm")


@pytest.mark.parametrize("share", [0.02, 0.2, 0.45, 0.65, 0.8, 0.95])
def test_killed_at_any_moment_and_resumed(
    shell: Shell, task: Path, whole: tuple[Path, float], tmp_path: Path, share: float
) -> None:
    expected, seconds = whole
    moment = seconds * (share + random.uniform(-0.04, 0.04))
    out = tmp_path / "out"
    pid, _ = shell.start("run", task, "--out", out)
    time.sleep(max(0.0, moment))
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: gone(pid))
    before = finished(out)
    code, _, err = shell.run("run", task, "--out", out, "--resume")
    assert code == 0, f"killed after {moment:.2f} s: {err}"
    after = finished(out)
    assert before.items() <= after.items(), "a finished arm was written again"
    assert list(fits(out)) == ARMS
    assert all(fits(out)[name] == 1 for name in before)
    assert results(out) == results(expected)
    weights = "arms/lora/model/adapter_model.safetensors"
    assert (out / weights).read_bytes() == (expected / weights).read_bytes()
    assert files_below(out / "data") == files_below(expected / "data")


def test_killed_again_and_again(
    shell: Shell, task: Path, whole: tuple[Path, float], tmp_path: Path
) -> None:
    expected, seconds = whole
    out = tmp_path / "out"
    before: dict[str, int] = {}
    for _ in range(5):
        pid, _ = shell.start("run", task, "--out", out, "--resume")
        time.sleep(random.uniform(0.2, 0.6) * seconds)
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda pid=pid: gone(pid))
        now = finished(out)
        assert before.items() <= now.items()
        before = now
    code, _, err = shell.run("run", task, "--out", out, "--resume")
    assert code == 0, err
    assert before.items() <= finished(out).items()
    assert results(out) == results(expected)


def in_few_shot(out: Path) -> bool:
    return fits(out)["few-shot"] == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_says_how_to_go_on(
    shell: Shell, task: Path, whole: tuple[Path, float], tmp_path: Path, number: int
) -> None:
    out = tmp_path / "out put"
    pid, shown = shell.start("run", task, "--out", out, slow=True)
    wait_for(lambda: in_few_shot(out))
    # a second process has no business here
    code, printed, err = shell.run("run", task, "--out", out, "--resume")
    assert code == 2
    assert err.startswith(f"luthier: Another process is working in {out}.\n")
    assert printed == ""
    before = finished(out)
    assert sorted(before) == ["majority", "zero-shot"]
    os.kill(pid, number)
    wait_for(lambda: gone(pid))
    *_, said, command = Path(f"{shown}.err").read_text().splitlines()
    assert said == "luthier: interrupted. What is finished is kept; continue with:"
    words = shlex.split(command)
    assert words == ["luthier", "run", str(task), "--out", str(out), "--resume"]
    code, _, err = shell.run(*words[1:])
    assert code == 0, err
    assert before.items() <= finished(out).items()
    assert results(out) == results(whole[0])


def test_an_interrupted_run_exits_with_130(task: Path, tmp_path: Path) -> None:
    """In a process of its own, whose exit code can be seen."""
    program = (
        "import os, signal\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell may have it ignored
        "from luthier.arms.zero_shot import ZeroShot\n"
        "ZeroShot.fit = lambda arm, place: os.kill(os.getpid(), signal.SIGINT)\n"
        "from luthier.cli import main\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "run", str(task), "--out", str(tmp_path / "out")],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 130
    assert "continue with:\n  luthier run" in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(finished(tmp_path / "out")) == ["majority"]


# ---- a full disk -------------------------------------------------------------------------------


def test_files_that_may_not_grow(
    shell: Shell, task: Path, whole: tuple[Path, float], tmp_path: Path
) -> None:
    """The system's own limit on the size of a file stands for a disk that is full."""
    out = tmp_path / "out"
    code, printed, err = shell.run("run", task, "--out", out, most_bytes=40_000)
    assert code == 2, err
    assert printed == ""
    assert "Traceback" not in err
    last = err.strip().splitlines()[-2:]
    assert last[0].startswith(f"luthier: The disk is full: {out}/arms/lora/") or last[0].startswith(
        "luthier: The disk is full: lora could not be stored in "
    )
    assert last[1].strip().endswith("--resume continues.")
    before = finished(out)
    assert sorted(before) == ["few-shot", "majority", "zero-shot"]
    assert not [path for path in files_below(out) if path.endswith(".part")]
    code, _, err = shell.run("run", task, "--out", out, "--resume")
    assert code == 0, err
    assert before.items() <= finished(out).items()
    assert results(out) == results(whole[0])


def test_training_on_a_full_disk(shell: Shell, task: Path, tmp_path: Path) -> None:
    out = tmp_path / "stage"
    code, printed, err = shell.run("train", task, "--out", out, most_bytes=40_000)
    assert code == 2, err
    assert printed == ""
    assert "Traceback" not in err
    assert "luthier: The disk is full: " in err
    code, _, err = shell.run("train", task, "--out", out, "--resume")
    assert code == 0, err
    record = json.loads((out / "train.json").read_text())
    assert record["steps"] > 0


POINTS = [
    "test.jsonl",
    "task.yaml",
    "lint.json",
    "manifest.json",
    "predictions.jsonl",
    "arm.json",
    "probes.json",
    "model",
    "train.json",
    "verdict.json",
    "report.html",
]


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> tuple[Path, Path]:
    """A task with two arms, and its run."""
    path = write_task(tmp_path_factory.mktemp("short"), tiny_model, arms=["majority", "lora"])
    luthier.run(path, out=path.parent / "out")
    return path, path.parent / "out"


@pytest.mark.parametrize(
    ("point", "nth"),
    [
        *((point, 1) for point in POINTS),
        *((point, 2) for point in ("manifest.json", "predictions.jsonl", "arm.json")),
    ],
)
def test_the_disk_is_full_at_any_file(
    short: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    point: str,
    nth: int,
) -> None:
    task, expected = short
    out = tmp_path / "out"
    honest = Path.replace
    met = 0

    def full(self: Path, target: Path) -> Path:
        nonlocal met
        met += Path(target).name == point
        if met == nth and Path(target).name == point:
            raise OSError(28, "No space left on device", str(self))
        return honest(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", full)
        with pytest.raises(RunError, match="The disk is full") as caught:
            luthier.run(task, out=out)
    assert point in caught.value.message
    assert "--resume continues" in caught.value.fix
    if out.exists():
        assert not [path for path in files_below(out) if path.endswith(".part")]
    before = finished(out)
    luthier.run(task, out=out, resume=True)
    assert before.items() <= finished(out).items()
    assert results(out) == results(expected)


def test_no_room_for_events(
    short: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, expected = short
    honest = Path.open

    def full(self: Path, *given: Any, **named: Any) -> Any:
        if self.name == "events.jsonl":
            raise OSError(28, "No space left on device", str(self))
        return honest(self, *given, **named)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", full)
        with pytest.raises(RunError, match=r"The disk is full: .*events\.jsonl"):
            luthier.run(task, out=tmp_path / "out")
    luthier.run(task, out=tmp_path / "out", resume=True)
    assert results(tmp_path / "out") == results(expected)


def test_a_folder_that_may_not_be_written(short: tuple[Path, Path], tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    with pytest.raises(RunError, match="may not be written"):
        luthier.run(short[0], out=closed / "out")
