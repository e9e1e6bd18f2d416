"""Trying settings: the search by itself on known functions, and a run that uses it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from run_samples import few_probes, luthier, read_jsonl, results, write_task
from training_fakes import config

import luthier as lu
from luthier.errors import InputError
from luthier.progress import Reporter
from luthier.task_training import Training
from luthier.training.knobs import Knob, knobs
from luthier.training.search import Attempt, Found, Tried, folder_of, search
from luthier.training.training_error import TrainingError

pytest.importorskip("optuna")

SPACE = {
    "learning_rate": Knob("log", 1e-3, 1e-4, 1e-2),
    "epochs": Knob("int", 3, 1, 6),
    "batch_size": Knob("one of", 8, options=(4, 8, 16)),
}


class Kill(BaseException):
    """Stands for a kill."""


def bowl(attempt: Attempt) -> tuple[float, dict[str, Any]]:
    """Best at a rate of 3e-3 and 5 epochs; stores a model as a trial does."""
    (attempt.folder / "model").mkdir(exist_ok=True)
    (attempt.folder / "model" / "weights").write_text(str(attempt.number))
    values = attempt.values
    score = 1 / (1 + abs(values["learning_rate"] / 3e-3 - 1) + abs(values["epochs"] - 5))
    attempt.watch(10, 10, 1 - score)
    return score, values


def run(
    folder: Path,
    attempt: Callable[[Attempt], tuple[float, dict[str, Any]]] = bowl,
    *,
    trials: int = 12,
    seconds: float = 1000,
    seed: int = 0,
    told: Callable[[Tried], None] = lambda tried: None,
) -> Found:
    return search(
        SPACE, attempt, trials=trials, folder=folder, seed=seed, seconds=seconds, told=told
    )


def tried(found: Found) -> list[dict[str, Any]]:
    """Without what the clock decides."""
    return [{**one.to_dict(), "seconds": 0} for one in found.trials]


class TestSearch:
    def test_the_default_comes_first_and_the_best_wins(self, tmp_path: Path) -> None:
        heard: list[Tried] = []
        found = run(tmp_path, told=heard.append)
        assert found.trials[0].values == {name: knob.default for name, knob in SPACE.items()}
        assert [one.number for one in found.trials] == list(range(12))
        scores = [one.score for one in found.trials]
        assert found.best == scores.index(max(s for s in scores if s is not None))
        assert found.trials[found.best].score > found.trials[0].score  # type: ignore[operator]
        assert {one.seed for one in found.trials} == {0}
        assert [one.number for one in heard] == list(range(12))
        for one in found.trials:
            assert 1e-4 <= one.values["learning_rate"] <= 1e-2
            assert one.values["epochs"] in range(1, 7)
            assert one.values["batch_size"] in (4, 8, 16)

    def test_only_the_best_model_is_kept(self, tmp_path: Path) -> None:
        found = run(tmp_path)
        kept = sorted(path.name for path in tmp_path.glob("trial-*"))
        assert kept == [folder_of(tmp_path, found.best).name]
        assert (folder_of(tmp_path, found.best) / "model" / "weights").read_text() == str(
            found.best
        )

    def test_the_same_seed_proposes_the_same(self, tmp_path: Path) -> None:
        one, two = run(tmp_path / "1"), run(tmp_path / "2")
        assert tried(one) == tried(two)
        assert tried(run(tmp_path / "3", seed=1)) != tried(one)

    @pytest.mark.parametrize("at", [0, 3, 9])
    def test_killed_in_the_middle_of_a_trial_it_goes_on_to_the_same_end(
        self, tmp_path: Path, at: int
    ) -> None:
        whole = run(tmp_path / "whole")
        seen: list[int] = []

        def killed(attempt: Attempt) -> tuple[float, dict[str, Any]]:
            seen.append(attempt.number)
            if attempt.number == at and seen.count(at) == 1:
                attempt.watch(2, 10, 0.5)
                raise Kill
            return bowl(attempt)

        with pytest.raises(Kill):
            run(tmp_path / "x", killed)
        found = run(tmp_path / "x", killed)
        assert tried(found) == tried(whole)
        assert found.best == whole.best
        assert seen == [*range(at + 1), at, *range(at + 1, 12)]  # nothing finished is repeated

    def test_a_line_of_the_journal_that_a_kill_cut_off(self, tmp_path: Path) -> None:
        whole = run(tmp_path / "whole", trials=6)
        run(tmp_path / "x", trials=3)
        with (tmp_path / "x" / "journal.jsonl").open("a") as journal:
            journal.write('{"op_code": 4, "worker')
        assert tried(run(tmp_path / "x", trials=6)) == tried(whole)

    def test_a_trial_far_behind_is_stopped_early(self, tmp_path: Path) -> None:
        def curve(attempt: Attempt) -> tuple[float, dict[str, Any]]:
            level = 5.0 if attempt.number == 4 else 1.0
            for tenth in range(1, 11):
                attempt.watch(10 * tenth, 100, level - 0.01 * tenth)
            return 0.5, attempt.values

        found = run(tmp_path, curve, trials=6)
        states = [one.state for one in found.trials]
        assert states == ["complete"] * 4 + ["stopped", "complete"]
        stopped = found.trials[4]
        assert stopped.score is None
        assert stopped.why == "validation loss 4.97 after 30% of its training, above the median"
        assert not folder_of(tmp_path, 4).exists()

    def test_the_default_is_never_stopped(self, tmp_path: Path) -> None:
        def rising(attempt: Attempt) -> tuple[float, dict[str, Any]]:
            for tenth in range(1, 11):
                attempt.watch(tenth, 10, 9.0 + tenth if attempt.number == 0 else 1.0)
            return 0.1 if attempt.number == 0 else 0.5, attempt.values

        assert run(tmp_path, rising, trials=4).trials[0].state == "complete"

    def test_of_equals_the_lower_validation_loss_then_the_earlier(self, tmp_path: Path) -> None:
        losses = [0.5, 0.3, 0.3, 0.4]

        def equal(attempt: Attempt) -> tuple[float, dict[str, Any]]:
            attempt.watch(10, 10, losses[attempt.number])
            return 0.8, attempt.values

        assert run(tmp_path, equal, trials=4).best == 1

    def test_no_trial_is_begun_that_would_not_end_in_time(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        clock = [0.0]
        monkeypatch.setattr("luthier.training.search.time.monotonic", lambda: clock[0])

        def slow(attempt: Attempt) -> tuple[float, dict[str, Any]]:
            clock[0] += 10
            return 0.5, attempt.values

        found = run(tmp_path / "a", slow, seconds=35)
        assert len(found.trials) == 3
        assert found.notes == [
            "3 of 12 settings were tried: the time the budget leaves this arm was up."
        ]
        clock[0] = 0.0
        assert len(run(tmp_path / "b", slow, seconds=1).trials) == 1  # the default in any case

    def test_a_trial_that_time_runs_out_for_is_stopped(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        clock = [0.0]
        monkeypatch.setattr("luthier.training.search.time.monotonic", lambda: clock[0])

        def ever_slower(attempt: Attempt) -> tuple[float, dict[str, Any]]:
            for step in range(1, 11):
                clock[0] += 1 + attempt.number
                attempt.watch(step, 10, 1.0)
            return 0.5, attempt.values

        found = run(tmp_path, ever_slower, seconds=40, trials=3)
        assert [one.state for one in found.trials] == ["complete", "complete", "stopped"]
        assert found.trials[2].why == "out of time after 40% of its training"

    def test_what_cannot_be_trained_is_passed_over(self, tmp_path: Path) -> None:
        def fragile(attempt: Attempt) -> tuple[float, dict[str, Any]]:
            if attempt.number in (0, 2):
                raise TrainingError("The loss is not finite.", fix="Lower it.")
            attempt.watch(1, 10, float("nan"))
            return 0.5, attempt.values

        found = run(tmp_path, fragile, trials=4)
        assert [one.state for one in found.trials] == ["failed", "complete", "failed", "complete"]
        assert found.trials[0].why == "The loss is not finite. Lower it."
        assert found.best == 1

        def hopeless(attempt: Attempt) -> tuple[float, dict[str, Any]]:
            raise TrainingError("The loss is not finite.")

        with pytest.raises(TrainingError, match=r"None of the 3 settings .* not finite"):
            run(tmp_path / "none", hopeless, trials=3)

    def test_mistakes_that_no_setting_mends_are_told_at_once(self, tmp_path: Path) -> None:
        def wrong(attempt: Attempt) -> tuple[float, dict[str, Any]]:
            raise InputError("The rows are too long.")

        with pytest.raises(InputError, match="too long"):
            run(tmp_path, wrong)


class TestKnobs:
    def of(self, reads: frozenset[str] = frozenset({"rank"}), **given: Any) -> dict[str, Knob]:
        decided = config(learning_rate=given.get("learning_rate", 1e-3), epochs=3, batch_size=8)
        return knobs(Training(**given), decided, reads=reads, examples=20)

    def test_the_default_is_one_of_the_options(self) -> None:
        found = self.of()
        assert set(found) == {"learning_rate", "epochs", "batch_size", "rank"}
        assert found["learning_rate"].low < 1e-3 < found["learning_rate"].high
        assert found["epochs"].low <= 3 <= found["epochs"].high
        assert found["batch_size"].options == (4, 8, 16)  # not more than there are examples
        assert found["rank"].default in found["rank"].options

    def test_what_the_task_gives_stays_as_given(self) -> None:
        assert set(self.of(learning_rate=1e-3, rank=4)) == {"epochs", "batch_size"}

    def test_only_what_the_method_reads(self) -> None:
        assert "rank" not in self.of(frozenset())
        assert "virtual_tokens" in self.of(frozenset({"virtual_tokens"}))

    def test_a_pull_to_the_start_keeps_the_rates_below_where_it_overshoots(self) -> None:
        decided = config(learning_rate=1e-3, epochs=1, l2_sp=200.0)
        found = knobs(Training(l2_sp=200.0), decided, reads=frozenset(), examples=20)
        assert found["learning_rate"].high * 200 < 1

    def test_nothing_left_to_try(self) -> None:
        with pytest.raises(InputError, match=r"nothing to try.*`rank`"):
            self.of(learning_rate=1e-3, rank=4, epochs=1, batch_size=4)


def task_of(folder: Path, model: Path, **changes: Any) -> Path:
    training = {"precision": "float32", "batch_size": 8, "rank": 4, "checkpoint_every": 2}
    return write_task(folder, model, arms=["lora"], training=training, **changes)


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    with few_probes():
        yield


@pytest.fixture(scope="module")
def whole(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that tried three settings."""
    folder = tmp_path_factory.mktemp("tuned")
    task = task_of(folder, tiny_model)
    lu.run(lu.Task.load(task), out=folder / "out", tune=3)
    return folder / "out"


class TestRun:
    def test_the_winner_is_deployed_and_everything_tried_is_told(self, whole: Path) -> None:
        arm = whole / "arms" / "lora"
        record = json.loads((arm / "arm.json").read_text())
        (choice,) = [one for one in record["choices"] if one["what"] == "settings of training"]
        options = choice["options"]
        assert [one["trial"] for one in options] == [0, 1, 2]
        assert {one["seed"] for one in options} == {0}
        assert options[0]["value"].endswith("(the default)")
        best = next(one for one in options if one["value"] == choice["chosen"])
        assert best["score"] == max(one["score"] for one in options if one["score"] is not None)
        for key, value in best["settings"].items():
            assert record["settings"]["training"][key] == value
        # what the task gives was not tried, and is what was used
        assert set(best["settings"]) == {"learning_rate", "epochs"}
        assert record["settings"]["training"]["rank"] == 4
        assert all(one["validation_loss"] for one in options if one["state"] == "complete")
        assert (arm / "samples.json").is_file()
        assert (arm / "model" / "adapter_model.safetensors").is_file()
        stored = json.loads((arm / "train.json").read_text())
        assert stored["config"]["learning_rate"] == best["settings"]["learning_rate"]

    def test_the_report_lists_every_trial(self, whole: Path) -> None:
        page = (whole / "report.html").read_text()
        assert "Settings of training" in page
        options = json.loads((whole / "arms" / "lora" / "tune" / "choice.json").read_text())
        for option in options["options"]:
            assert option["value"] in page

    def test_events_say_which_trial_they_belong_to(self, whole: Path) -> None:
        events = read_jsonl(whole / "events.jsonl")
        assert {e["trial"] for e in events if e["event"] == "step"} == {0, 1, 2}
        done = [e for e in events if e["event"] == "trial done"]
        assert [e["trial"] for e in done] == [0, 1, 2]
        assert all(0 <= e["metrics"]["score"] <= 1 for e in done if e["state"] == "complete")

    def test_what_was_measured_is_what_is_opened(self, whole: Path) -> None:
        rows = read_jsonl(whole / "arms" / "lora" / "predictions.jsonl")[:5]
        answers = lu.Run.open(whole).arm("lora").answer([row["input"] for row in rows])
        assert [one.text for one in answers] == [row["prediction"] for row in rows]

    def test_a_killed_run_goes_on_to_the_same_verdict(
        self, whole: Path, tiny_model: Path, tmp_path: Path
    ) -> None:
        class Killing(Reporter):
            left = 12

            def event(self, kind: str, **values: object) -> None:
                if kind == "step":
                    self.left -= 1
                    if not self.left:
                        raise KeyboardInterrupt

        task = lu.Task.load(task_of(tmp_path, tiny_model))
        with pytest.raises(KeyboardInterrupt):
            lu.run(task, out=tmp_path / "out", tune=3, reporter=Killing())
        assert not (tmp_path / "out" / "arms" / "lora" / "arm.json").exists()
        lu.run(task, out=tmp_path / "out", tune=3, resume=True)
        found = [results(home) for home in (tmp_path / "out", whole)]
        for one in found:
            del one["verdict"]["headline"]  # tells seconds
        assert found[0] == found[1]
        trials = [
            [(o["value"], o["score"], o["validation_loss"]) for o in json.loads(text)["options"]]
            for text in (
                (home / "arms" / "lora" / "tune" / "choice.json").read_text()
                for home in (tmp_path / "out", whole)
            )
        ]
        assert trials[0] == trials[1]

    def test_the_test_is_not_read(
        self, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Every question asked while settings are tried is one of the validation rows."""
        from luthier.arms import searching

        asked: set[str] = set()
        inner = searching.read_best

        def listening(*args: Any) -> Any:
            asked.update(example.id for example in args[4])
            return inner(*args)

        monkeypatch.setattr(searching, "read_best", listening)
        task = lu.Task.load(task_of(tmp_path, tiny_model))
        lu.run(task, out=tmp_path / "out", tune=2)
        validation = {
            row["id"] for row in read_jsonl(tmp_path / "out" / "data" / "validation.jsonl")
        }
        assert asked
        assert asked <= validation


class TestCommand:
    def test_without_optuna(
        self,
        tiny_model: Path,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setitem(sys.modules, "optuna", None)
        task = task_of(tmp_path, tiny_model)
        code, out, err = luthier(capsys, "run", task, "--out", tmp_path / "o", "--tune", 3)
        assert (code, out) == (2, "")
        assert "needs optuna" in err
        assert err.splitlines()[-1].strip() == "pip install optuna"
        assert not (tmp_path / "o").exists()

    def test_no_number(
        self, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        task = task_of(tmp_path, tiny_model)
        assert luthier(capsys, "run", task, "--tune", 0)[0] == 2

    def test_train_says_that_it_does_not_search(
        self, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        task = write_task(tmp_path, tiny_model, training={"tune": 4, "precision": "float32"})
        code, _, err = luthier(capsys, "train", task, "--out", tmp_path / "o")
        assert code == 0
        assert "`training.tune` is for `luthier run`" in err
