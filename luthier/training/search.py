"""Settings of training, tried and chosen on validation rows.

Trials are proposed by Optuna's tree-structured Parzen estimator (Bergstra et al. 2011, "Algorithms
for hyper-parameter optimization"); a trial whose validation loss is above the median of the earlier
ones at the same share of its training is stopped (the median rule of Golovin et al. 2017, "Google
Vizier", section 3.2.1). Trial 0 is always the default configuration. The test is never read.

Everything is written to a journal as it happens: a search that was killed goes on with the trial
that was under way, which goes on from its checkpoint. The proposals are a function of the seed and
the trials before.
"""

from __future__ import annotations

import importlib.util
import math
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from luthier.errors import InputError
from luthier.files import disk_errors
from luthier.training.knobs import Knob
from luthier.training.training_error import TrainingError

if TYPE_CHECKING:
    import optuna


#: Trials that are proposed at random before the estimator has something to go by.
_RANDOM = 4
#: Trials that must have come so far before one is stopped, and tenths of a trial that are let pass.
_FEWEST, _TENTHS = 2, 3
_JOURNAL = "journal.jsonl"


def needs_optuna() -> None:
    """See that Optuna is installed.

    Raises:
        InputError: it is not.
    """
    if importlib.util.find_spec("optuna") is None:
        raise InputError(
            "Trying settings (`--tune`, `training.tune`) needs optuna, which is not installed.",
            fix="pip install optuna",
        )


class PrunedError(Exception):
    """Raised into a trial's training to stop it; its message says why."""


@dataclass
class Tried:
    """One trial.

    Attributes:
        values: the settings that were tried, by name.
        state: "complete", "stopped" or "failed".
        score: the task's metric on validation rows; None where it was not reached.
        loss: the last validation loss.
        seconds: of training and measuring together.
        why: of what is not complete.
    """

    number: int
    values: dict[str, Any]
    seed: int
    state: str = "running"
    score: float | None = None
    loss: float | None = None
    seconds: float = 0.0
    why: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Attempt:
    """One trial under way: what is tried, where, and who must hear of its validation loss.

    Attributes:
        folder: the trial's own; its model goes to `folder/model`.
        watch: called with (step, steps, validation loss); raises PrunedError to stop the trial.
    """

    number: int
    values: dict[str, Any]
    folder: Path
    watch: Callable[[int, int, float], None]


@dataclass(frozen=True)
class Found:
    """What a search came to; `best` is the number of the trial that won."""

    trials: list[Tried]
    best: int
    notes: list[str]


def folder_of(folder: Path, number: int) -> Path:
    """Where a trial keeps its files."""
    return folder / f"trial-{number:03d}"


def search(
    space: Mapping[str, Knob],
    attempt: Callable[[Attempt], tuple[float, Mapping[str, Any]]],
    *,
    trials: int,
    folder: Path,
    seed: int,
    seconds: float,
    told: Callable[[Tried], None] = lambda tried: None,
) -> Found:
    """Try settings until `trials` have been tried or the time is up.

    Args:
        space: of `knobs`.
        attempt: trains and measures one; returns (the task's metric on validation rows, the
            settings as they were in the end).
        trials: how many, the default configuration among them.
        folder: gets the journal and a folder for each trial; only the best one's model is kept.
        seed: decides what is proposed, and is the seed of every trial: settings are compared, not
            luck.
        seconds: what the search may take. The default configuration is tried in any case; no trial
            is begun that would not end in time, by the time that the ones before took.
        told: hears of every trial that has ended.

    Raises:
        TrainingError: no trial could be trained to its end.
        InputError: Optuna is not installed.
    """
    needs_optuna()
    with _quiet():
        return _Search(space, attempt, trials, folder, seed, seconds, told).run()


class _Search:
    def __init__(
        self,
        space: Mapping[str, Knob],
        attempt: Callable[[Attempt], tuple[float, Mapping[str, Any]]],
        trials: int,
        folder: Path,
        seed: int,
        seconds: float,
        told: Callable[[Tried], None],
    ) -> None:
        self.space, self.attempt, self.trials = space, attempt, trials
        self.folder, self.seed, self.told = folder, seed, told
        self.deadline = time.monotonic() + seconds
        self.study = _study(folder, seed)
        if not self.study.trials:
            self.study.enqueue_trial({name: knob.default for name, knob in space.items()})

    def run(self) -> Found:
        notes = []
        while len(done := self._done()) < self.trials:
            if done and not self._enough_time(done):
                notes.append(
                    f"{len(done)} of {self.trials} settings were tried: the time the budget leaves "
                    "this arm was up."
                )
                break
            self._one()
        done = self._done()
        best = _best(done)
        if best is None:
            raise TrainingError(
                f"None of the {len(done)} settings tried could be trained to its end: "
                f"{done[0].why if done else 'there was no time'}"
            )
        return Found(done, best.number, notes)

    def _one(self) -> None:
        """Try one setting, the one under way when the search was interrupted if there is one."""
        import optuna

        running = [t for t in self.study.trials if t.state == optuna.trial.TrialState.RUNNING]
        number = running[0].number if running else len(self._done())
        self.study.sampler = _sampler(self.seed, number)
        if running:
            trial = optuna.trial.Trial(self.study, running[0]._trial_id)
        else:
            trial = self.study.ask()
        values = {name: self._suggest(trial, name, knob) for name, knob in self.space.items()}
        tried = Tried(trial.number, values, self.seed)
        home = folder_of(self.folder, trial.number)
        with disk_errors(home):
            home.mkdir(parents=True, exist_ok=True)
        started = time.monotonic()
        result: float | None = None
        state = optuna.trial.TrialState.PRUNED
        try:
            score, final = self.attempt(
                Attempt(trial.number, values, home, lambda *at: self._watch(trial, tried, *at))
            )
            tried.values = {**values, **final}
            tried.score, tried.state = float(score), "complete"
            result, state = tried.score, optuna.trial.TrialState.COMPLETE
        except PrunedError as stop:
            tried.state, tried.why = "stopped", str(stop)
        except TrainingError as error:
            tried.state, tried.why = "failed", str(error)
            state = optuna.trial.TrialState.FAIL
        tried.seconds = round(time.monotonic() - started, 3)
        self._keep_the_best(tried)
        trial.set_user_attr("tried", tried.to_dict())
        self.study.tell(trial, result, state=state)
        self.told(tried)

    def _suggest(self, trial: optuna.trial.Trial, name: str, knob: Knob) -> Any:
        if knob.kind == "log":
            return trial.suggest_float(name, knob.low, knob.high, log=True)
        if knob.kind == "int":
            return trial.suggest_int(name, int(knob.low), int(knob.high))
        return trial.suggest_categorical(name, list(knob.options))

    def _watch(
        self, trial: optuna.trial.Trial, tried: Tried, step: int, steps: int, loss: float
    ) -> None:
        """Take a validation loss; stop a trial that is behind, or that time has run out for.

        Trials are compared at the same tenth of their own training, since their learning rates fall
        over the whole of it.
        """
        tenth = math.ceil(10 * step / steps)
        tried.loss = loss if math.isfinite(loss) else None
        seen = self.study.trials[trial.number].intermediate_values
        if tenth not in seen:
            # the study wants high values; a loss that is not finite is the worst there is
            trial.report(-loss if math.isfinite(loss) else -1e9, tenth)
        if trial.number == 0 or step >= steps:
            return
        share = f"after {step / steps:.0%} of its training"
        if time.monotonic() > self.deadline:
            raise PrunedError(f"out of time {share}")
        if trial.should_prune():
            raise PrunedError(f"validation loss {loss:.3g} {share}, above the median")

    def _done(self) -> list[Tried]:
        """The trials that have ended, in order."""
        ended = [t for t in self.study.trials if t.state.is_finished()]
        return [Tried(**t.user_attrs["tried"]) for t in ended if "tried" in t.user_attrs]

    def _enough_time(self, done: Sequence[Tried]) -> bool:
        """Whether another trial can be expected to end in time: the quickest that ended did."""
        whole = [t.seconds for t in done if t.state == "complete"] or [t.seconds for t in done]
        return time.monotonic() + min(whole) <= self.deadline

    def _keep_the_best(self, tried: Tried) -> None:
        """Remove the models of all but the best trial: each is as large as what was trained."""
        best = _best([*self._done(), tried])
        for number in range(tried.number + 1):
            if best is None or number != best.number:
                shutil.rmtree(folder_of(self.folder, number), ignore_errors=True)


def _best(done: Sequence[Tried]) -> Tried | None:
    """The highest score; of equals the lower validation loss, then the earlier one."""
    whole = [t for t in done if t.state == "complete" and t.score is not None]

    def rank(tried: Tried) -> tuple[float, float, int]:
        return (-(tried.score or 0.0), math.inf if tried.loss is None else tried.loss, tried.number)

    return min(whole, key=rank, default=None)


def _sampler(seed: int, number: int) -> optuna.samplers.BaseSampler:
    """The proposals of one trial; seeded by its number, so that going on after an interruption
    proposes what would have been proposed."""
    import optuna

    return optuna.samplers.TPESampler(n_startup_trials=_RANDOM, seed=1000 * seed + number)


def _study(folder: Path, seed: int) -> optuna.Study:
    """The study in a folder's journal, begun or taken up."""
    import optuna
    from optuna.storages.journal import JournalFileBackend

    path = folder / _JOURNAL
    with disk_errors(path):
        folder.mkdir(parents=True, exist_ok=True)
        _mend(path)
        storage = optuna.storages.JournalStorage(JournalFileBackend(str(path), cast(Any, _Alone())))
        return optuna.create_study(
            storage=storage,
            study_name="tune",
            direction="maximize",
            load_if_exists=True,
            sampler=_sampler(seed, 0),
            pruner=optuna.pruners.MedianPruner(
                n_startup_trials=_FEWEST, n_warmup_steps=_TENTHS, n_min_trials=_FEWEST
            ),
        )


class _Alone:
    """A lock that holds nothing: the run folder is locked as a whole, and a lock of the journal's
    own would outlive a kill."""

    def acquire(self) -> bool:
        """Nobody else can be there."""
        return True

    def release(self) -> None:
        """Nothing is held."""


def _mend(path: Path) -> None:
    """Take off a last line that a kill left unfinished; what comes after it would be unreadable."""
    if not path.is_file():
        return
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole < len(data):
        with path.open("r+b") as file:
            file.truncate(whole)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what Optuna says of every trial; the caller is told all of it in its own words."""
    import optuna

    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(level)
