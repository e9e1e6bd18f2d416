"""What a tracker is, and how the events of a run reach one.

A run already tells everything that happens as events (`progress.Reporter.event`); a tracker is
given the same events as parameters and metrics. It watches, and nothing depends on it: when it
fails, the user is told once and the run goes on without it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from luthier.errors import InputError
from luthier.progress import Reporter
from luthier.registry import Registry

#: What of a step is logged.
_STEP = ("loss", "learning_rate", "grad_norm", "tokens_per_second", "tokens")


class Tracker(ABC):
    """Logs to one service. Names use "/" between parts (`lora/loss`).

    Args:
        target: what stands after the colon of `--track NAME:TARGET`, or "".
    """

    name: ClassVar[str]
    #: the library it needs, as it is imported and as pip knows it
    library: ClassVar[str]

    def __init__(self, target: str) -> None:
        self.target = target

    @abstractmethod
    def start(self, task: str, folder: Path) -> None:
        """Begin a run of `task`; `folder` is where Luthier keeps its own files."""

    @abstractmethod
    def params(self, values: Mapping[str, str]) -> None:
        """Settings, each said once."""

    @abstractmethod
    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        """Finite numbers, at an optimiser step or of the whole run."""

    @abstractmethod
    def text(self, name: str, content: str) -> None:
        """A text worth reading, such as the verdict."""

    @abstractmethod
    def end(self, finished: bool) -> None:
        """Close; `finished` is False when the run was interrupted or failed."""


TRACKERS: Registry[type[Tracker]] = Registry("tracker", "luthier.trackers")


def choose(wanted: str) -> Tracker:
    """The tracker that `--track` names: NAME or NAME:TARGET.

    Raises:
        InputError: there is no such tracker, or its library is not installed.
    """
    name, _, target = wanted.partition(":")
    kind = TRACKERS.get(name.strip())
    try:
        found = importlib.util.find_spec(kind.library) is not None
    except (ImportError, ValueError):
        found = False
    if not found:
        raise InputError(
            f"--track {name} needs {kind.library}, which is not installed.",
            fix=f"pip install {kind.library}",
        )
    return kind(target.strip())


@contextlib.contextmanager
def tracking(
    tracker: Tracker | None, reporter: Reporter, *, task: str, folder: Path, settings: Any
) -> Iterator[Reporter]:
    """A reporter that passes everything on to `reporter`, and events to the tracker as well.

    Args:
        tracker: None passes the reporter through.
        reporter: shows what happens.
        task: the task's name.
        folder: of the run.
        settings: plain values, logged as parameters.
    """
    if tracker is None:
        yield reporter
        return
    tracked = _Tracked(tracker, reporter)
    tracked.safely(lambda: tracker.start(task, folder))
    tracked.safely(lambda: tracker.params(flat(settings)))
    finished = False
    try:
        yield tracked
        finished = True
    finally:
        tracked.safely(lambda: tracker.end(finished))


def flat(values: Any, prefix: str = "") -> dict[str, str]:
    """Nested settings as "a.b" -> text; what is not set is left out."""
    if isinstance(values, Mapping):
        found: dict[str, str] = {}
        for key, value in values.items():
            found |= flat(value, f"{prefix}.{key}" if prefix else str(key))
        return found
    if values is None or values == [] or values == ():
        return {}
    return {prefix: str(values)}


class _Tracked(Reporter):
    """Turns events into what a tracker logs."""

    def __init__(self, tracker: Tracker, inner: Reporter) -> None:
        self._tracker = tracker
        self._inner = inner
        self._arm = ""
        self._times: dict[str, int] = {}
        self._failed = False
        self.work = inner.work  # type: ignore[method-assign]
        self.say = inner.say  # type: ignore[method-assign]

    def safely(self, call: Callable[[], None]) -> None:
        """Call the tracker; when it fails, say so once and leave it alone from then on."""
        if self._failed:
            return
        try:
            call()
        except Exception as error:  # whatever a server or its library makes of it
            self._failed = True
            line = (str(error).strip().splitlines() or [""])[0][:200]
            said = f"{type(error).__name__}: {line}" if line else type(error).__name__
            self._inner.say(
                f"Tracking with {self._tracker.name} has stopped ({said}). The run goes on; its "
                "own folder holds everything."
            )
            self._inner.event("tracking stopped", tracker=self._tracker.name, error=said)

    def event(self, kind: str, **values: object) -> None:
        """Pass an event on, and log what a tracker can show."""
        self._inner.event(kind, **values)
        if kind == "arm":
            self._arm = str(values.get("arm", ""))
        elif kind == "training":
            told = {key: value for key, value in values.items() if key != "trial"}
            where = self._place(values.get("trial"))
            self._times[where] = self._times.get(where, 0) + 1
            self.safely(lambda: self._tracker.params(flat(told, self._named("training", values))))
        elif kind == "step":
            self._log({key: values.get(key) for key in _STEP}, values, values.get("step"))
        elif kind == "validation":
            self._log({"validation_loss": values.get("loss")}, values, values.get("step"))
        elif kind in ("arm done", "stage done", "trial done"):
            self._log(values.get("metrics"), values, None)
        elif kind == "verdict":
            self._arm = ""
            self._log(values.get("scores"), {}, None)
            said = [str(values[key]) for key in ("headline", "decision") if values.get(key)]
            self.safely(lambda: self._tracker.text("verdict", "\n\n".join(said)))

    def _place(self, trial: object) -> str:
        """What the current numbers are of: an arm, a trial of it, or the one stage there is."""
        parts = [self._arm, "" if trial is None else f"trial-{trial}"]
        return "/".join(part for part in parts if part)

    def _named(self, key: str, values: Mapping[str, object]) -> str:
        """A name that no other stage of the same arm uses: its steps begin at 1 again."""
        where = self._place(values.get("trial"))
        times = self._times.get(where, 0)
        parts = [where, f"stage-{times}" if times > 1 else "", key]
        return "/".join(part for part in parts if part)

    def _log(self, numbers: object, values: Mapping[str, object], step: object) -> None:
        if not isinstance(numbers, Mapping):
            return
        known = {
            self._named(str(key), values): float(value)
            for key, value in numbers.items()
            if isinstance(value, int | float) and not isinstance(value, bool)
        }
        finite = {key: value for key, value in known.items() if math.isfinite(value)}
        at = step if isinstance(step, int) else None
        if finite:
            self.safely(lambda: self._tracker.metrics(finite, at))
