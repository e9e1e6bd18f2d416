"""MLflow: an experiment named after the task, one MLflow run for each run of Luthier.

`--track mlflow` logs where MLFLOW_TRACKING_URI says, else where MLflow itself would (a local
store); `--track mlflow:URI` logs there. https://mlflow.org/docs/latest/ml/tracking/
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from luthier.trackers.base import TRACKERS, Tracker

#: Parameters in one request, and characters in one value: what a tracking server takes.
_AT_ONCE, _LONGEST = 100, 6000


@TRACKERS.register("mlflow")
class MlflowTracker(Tracker):
    """Logs with MLflow's fluent interface."""

    name = "mlflow"
    library = "mlflow"
    _mlflow: Any = None

    def start(self, task: str, folder: Path) -> None:
        """Open a run, named after the folder."""
        # MLflow's own defaults wait for minutes on a server that is down, and training with it
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        import mlflow  # type: ignore[import-not-found,unused-ignore]

        if self.target:
            mlflow.set_tracking_uri(self.target)
        mlflow.set_experiment(task)
        mlflow.start_run(run_name=folder.name)
        self._mlflow = mlflow

    def params(self, values: Mapping[str, str]) -> None:
        """See `Tracker.params`."""
        pairs = [(key, value[:_LONGEST]) for key, value in values.items()]
        for start in range(0, len(pairs), _AT_ONCE):
            self._mlflow.log_params(dict(pairs[start : start + _AT_ONCE]))

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        """See `Tracker.metrics`."""
        self._mlflow.log_metrics(dict(values), step=step)

    def text(self, name: str, content: str) -> None:
        """A text file among the run's artifacts."""
        self._mlflow.log_text(content, f"{name}.md")

    def end(self, finished: bool) -> None:
        """End the run as FINISHED, or as KILLED."""
        if self._mlflow is not None:
            self._mlflow.end_run(status="FINISHED" if finished else "KILLED")
