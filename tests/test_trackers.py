"""Trackers: what reaches them, and that none of them can take a run down."""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from run_samples import luthier, read_jsonl, write_task

import luthier as lu
from luthier.errors import InputError
from luthier.progress import Reporter
from luthier.trackers.base import TRACKERS, Tracker, choose, flat, tracking


class FakeMlflow(types.ModuleType):
    """MLflow's fluent interface, with the rules of a tracking server that matter here."""

    def __init__(self) -> None:
        super().__init__("mlflow")
        self.__spec__ = types.SimpleNamespace(name="mlflow")  # type: ignore[assignment]
        self.uri = ""
        self.experiment = ""
        self.run: str | None = None
        self.ended: list[str] = []
        self.logged_params: dict[str, str] = {}
        self.logged_metrics: list[tuple[str, float, int | None]] = []
        self.texts: dict[str, str] = {}
        self.down = False

    def _up(self) -> None:
        assert self.run is not None, "no active run"
        if self.down:
            raise ConnectionError("the server\nis away")

    def set_tracking_uri(self, uri: str) -> None:
        self.uri = uri

    def set_experiment(self, experiment_name: str) -> None:
        self.experiment = experiment_name

    def start_run(self, run_id: str | None = None, run_name: str | None = None) -> Any:
        assert self.run is None, "a run is active"
        self.run = run_name
        return types.SimpleNamespace(info=types.SimpleNamespace(run_id="1"))

    def log_params(self, params: dict[str, Any]) -> None:
        self._up()
        assert len(params) <= 100, "a request takes 100 parameters"
        for key, value in params.items():
            assert self.logged_params.setdefault(key, value) == value, f"{key} was logged before"
            assert len(str(value)) <= 6000

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self._up()
        self.logged_metrics += [(key, float(value), step) for key, value in metrics.items()]

    def log_text(self, text: str, artifact_file: str) -> None:
        self._up()
        self.texts[artifact_file] = text

    def end_run(self, status: str = "FINISHED") -> None:
        self._up()
        self.run = None
        self.ended.append(status)


@pytest.fixture
def mlflow(monkeypatch: pytest.MonkeyPatch) -> FakeMlflow:
    fake = FakeMlflow()
    monkeypatch.setitem(sys.modules, "mlflow", fake)
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", raising=False)
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_TIMEOUT", raising=False)
    return fake


class Said(Reporter):
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.events: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)

    def event(self, kind: str, **values: object) -> None:
        self.events.append(kind)


def test_there_are_two() -> None:
    assert TRACKERS.names() == ["mlflow", "tensorboard"]


def test_an_unknown_one_and_a_missing_library(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="Unknown tracker 'tensorbord'") as e:
        choose("tensorbord:x")
    assert "tensorboard" in e.value.fix
    monkeypatch.setitem(sys.modules, "mlflow", None)  # as if it were not installed
    with pytest.raises(InputError, match="needs mlflow, which is not installed") as e:
        choose("mlflow")
    assert e.value.fix == "pip install mlflow"


@pytest.mark.parametrize(
    ("wanted", "target"),
    [("mlflow", ""), ("mlflow:http://host:5000", "http://host:5000"), ("mlflow:a/b", "a/b")],
)
def test_the_target_is_what_stands_after_the_first_colon(
    mlflow: FakeMlflow, wanted: str, target: str
) -> None:
    assert choose(wanted).target == target


def test_flat_settings() -> None:
    nested = {"a": 1, "b": {"c": None, "d": [1, 2], "e": {"f": "x"}}, "g": []}
    assert flat(nested) == {"a": "1", "b.d": "[1, 2]", "b.e.f": "x"}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tracked")


class TestMlflow:
    def test_a_run_is_logged_whole(
        self, mlflow: FakeMlflow, tiny_model: Path, tmp_path: Path
    ) -> None:
        task = write_task(tmp_path, tiny_model, arms=["majority", "lora"])
        run = lu.run(lu.Task.load(task), out=tmp_path / "out", track="mlflow:http://there")
        assert (mlflow.uri, mlflow.experiment) == ("http://there", "colours")
        assert mlflow.ended == ["FINISHED"]
        assert mlflow.logged_params["name"] == "colours"
        assert mlflow.logged_params["lora/training.config.batch_size"] == "8"
        steps = [e for e in read_jsonl(tmp_path / "out" / "events.jsonl") if e["event"] == "step"]
        for key in ("loss", "learning_rate", "grad_norm", "tokens_per_second"):
            told = [(v, s) for k, v, s in mlflow.logged_metrics if k == f"lora/{key}"]
            assert told == [(e[key], e["step"]) for e in steps]
        final = {key: value for key, value, step in mlflow.logged_metrics if step is None}
        scores = {arm["name"]: arm["score"] for arm in run.verdict["arms"]}
        assert final["lora/score"] == scores["lora"]
        assert final["majority/accuracy"] == scores["majority"]
        assert run.verdict["headline"] in mlflow.texts["verdict.md"]

    def test_a_failure_in_the_middle_is_told_once(
        self, mlflow: FakeMlflow, tiny_model: Path, tmp_path: Path
    ) -> None:
        said = Said()
        event = said.event

        def at_step_two(kind: str, **values: object) -> None:
            event(kind, **values)
            mlflow.down = mlflow.down or values.get("step") == 2

        said.event = at_step_two  # type: ignore[method-assign]
        task = write_task(tmp_path, tiny_model, arms=["lora"])
        run = lu.run(lu.Task.load(task), out=tmp_path / "out", track="mlflow", reporter=said)
        assert run.verdict["arms"][0]["score"] is not None
        told = [line for line in said.lines if "Tracking" in line]
        assert told == [
            "Tracking with mlflow has stopped (ConnectionError: the server). The run goes on; its "
            "own folder holds everything."
        ]
        assert said.events.count("tracking stopped") == 1

    def test_a_server_that_is_down_from_the_start(
        self, mlflow: FakeMlflow, tiny_model: Path, tmp_path: Path
    ) -> None:
        mlflow.down = True
        said = Said()
        task = write_task(tmp_path, tiny_model)
        lu.train(task, out=tmp_path / "o", track="mlflow", reporter=said)
        assert (tmp_path / "o" / "train.json").is_file()
        assert sum("Tracking" in line for line in said.lines) == 1

    def test_an_interruption_ends_the_run_as_killed(
        self, mlflow: FakeMlflow, tmp_path: Path
    ) -> None:
        with (
            pytest.raises(KeyboardInterrupt),
            tracking(choose("mlflow"), Reporter(), task="t", folder=tmp_path, settings={}),
        ):
            raise KeyboardInterrupt
        assert mlflow.ended == ["KILLED"]

    def test_many_and_long_settings(self, mlflow: FakeMlflow, tmp_path: Path) -> None:
        settings = {f"k{i}": "x" * 9000 for i in range(250)}
        with tracking(choose("mlflow"), Reporter(), task="t", folder=tmp_path, settings=settings):
            pass
        assert len(mlflow.logged_params) == 250

    def test_stages_and_trials_do_not_overwrite_each_other(
        self, mlflow: FakeMlflow, tmp_path: Path
    ) -> None:
        said = Said()
        with tracking(choose("mlflow"), said, task="t", folder=tmp_path, settings={}) as heard:
            heard.event("arm", arm="lora")
            for trial in (0, 1):
                heard.event("training", trial=trial, config={"rank": trial})
                heard.event("step", trial=trial, step=1, loss=float(trial))
            heard.event("arm", arm="staged")
            for rank in (4, 8):
                heard.event("training", config={"rank": rank})
                heard.event("step", step=1, loss=float(rank))
            heard.event("step", step=2, loss=float("nan"))
        assert not said.lines
        assert mlflow.logged_params == {
            "lora/trial-0/training.config.rank": "0",
            "lora/trial-1/training.config.rank": "1",
            "staged/training.config.rank": "4",
            "staged/stage-2/training.config.rank": "8",
        }
        assert mlflow.logged_metrics == [
            ("lora/trial-0/loss", 0.0, 1),
            ("lora/trial-1/loss", 1.0, 1),
            ("staged/loss", 4.0, 1),
            ("staged/stage-2/loss", 8.0, 1),
        ]

    def test_a_dead_server_is_not_waited_for(
        self, mlflow: FakeMlflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import os

        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "99")  # the user's own stays
        with tracking(choose("mlflow"), Reporter(), task="t", folder=tmp_path, settings={}):
            assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "2"
            assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "99"
        monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES")


class TestTensorBoard:
    @pytest.fixture(autouse=True)
    def _installed(self) -> None:
        pytest.importorskip("tensorboard")

    def test_a_stage_is_logged_where_it_was_asked_for(
        self, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        task, out, where = write_task(tmp_path, tiny_model), tmp_path / "o", tmp_path / "board"
        words = ("train", task, "--out", out, "--track", f"tensorboard:{where}")
        code, _, err = luthier(capsys, *words)
        assert (code, "Tracking" in err) == (0, False)
        board = EventAccumulator(str(where)).Reload()
        steps = [e for e in read_jsonl(out / "events.jsonl") if e["event"] == "step"]
        shown = board.Scalars("loss")
        assert [one.step for one in shown] == [e["step"] for e in steps]
        assert [one.value for one in shown] == pytest.approx([e["loss"] for e in steps])
        final = json.loads((out / "train.json").read_text())["final_loss"]
        assert board.Scalars("final_loss")[0].value == pytest.approx(final)
        texts = {"task/text_summary", "settings/text_summary", "training/text_summary"}
        assert texts <= set(board.Tags()["tensors"])

    def test_by_default_it_is_in_the_folder_of_the_run(
        self, tiny_model: Path, tmp_path: Path
    ) -> None:
        task = write_task(tmp_path, tiny_model)
        lu.train(task, out=tmp_path / "o", track="tensorboard")
        assert list((tmp_path / "o" / "tensorboard").glob("events.out.tfevents.*"))


class TestCommand:
    def test_a_missing_library_stops_before_anything_is_done(
        self,
        tiny_model: Path,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setitem(sys.modules, "mlflow", None)
        task = write_task(tmp_path, tiny_model)
        for verb in ("run", "train"):
            words = (verb, task, "--out", tmp_path / "o", "--track", "mlflow")
            code, out, err = luthier(capsys, *words)
            assert (code, out) == (2, "")
            assert err.splitlines()[-1].strip() == "pip install mlflow"
            assert not (tmp_path / "o").exists()


class Noisy(Tracker):
    """Fails in every call."""

    name = "noisy"
    library = "json"

    def _fail(self, *args: object, **more: object) -> None:
        raise OSError("disk")

    start = params = metrics = text = end = _fail  # type: ignore[assignment]


def test_whatever_a_tracker_raises_the_work_goes_on(tmp_path: Path) -> None:
    said, done = Said(), False
    with tracking(Noisy(""), said, task="t", folder=tmp_path, settings={"a": 1}) as heard:
        heard.event("step", step=1, loss=1.0)
        done = True
    assert done
    assert len(said.lines) == 1
    assert said.events == ["tracking stopped", "step"]


def test_without_a_tracker_nothing_stands_in_between(tmp_path: Path) -> None:
    said = Said()
    with tracking(None, said, task="t", folder=tmp_path, settings={}) as heard:
        assert heard is said


@pytest.fixture(autouse=True)
def _clean_environment() -> Iterator[None]:
    import os

    before = dict(os.environ)
    yield
    for key in set(os.environ) - set(before):
        if key.startswith("MLFLOW_"):
            del os.environ[key]
