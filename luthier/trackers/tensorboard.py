"""TensorBoard: event files in a folder, by default `tensorboard` in the run's own.

`--track tensorboard[:DIR]`, then `tensorboard --logdir DIR`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from luthier.trackers.base import TRACKERS, Tracker


@TRACKERS.register("tensorboard")
class TensorBoardTracker(Tracker):
    """Writes TensorBoard's event files."""

    name = "tensorboard"
    library = "tensorboard"
    _writer: Any = None

    def start(self, task: str, folder: Path) -> None:
        """Open an event file."""
        from torch.utils.tensorboard import SummaryWriter

        where = Path(self.target).expanduser() if self.target else folder / "tensorboard"
        self._writer = SummaryWriter(str(where))
        self._writer.add_text("task", task)

    def params(self, values: Mapping[str, str]) -> None:
        """Settings as a table of Markdown, named after what they are of (`lora/training`)."""
        rows = "\n".join(f"| {key} | {_cell(value)} |" for key, value in values.items())
        whose, slash, first = next(iter(values), "").rpartition("/")
        section, dot, _ = first.partition(".")
        where = f"{whose}{slash}{section if dot else 'settings'}"
        self._writer.add_text(where, f"| key | value |\n|---|---|\n{rows}")

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        """One scalar each; those of the whole run are at step 0."""
        for key, value in values.items():
            self._writer.add_scalar(key, value, step or 0)

    def text(self, name: str, content: str) -> None:
        """A text of the text page."""
        self._writer.add_text(name, content)

    def end(self, finished: bool) -> None:
        """Write out what is left."""
        del finished
        if self._writer is not None:
            self._writer.close()


def _cell(value: str) -> str:
    return " ".join(value.replace("|", "\\|").split())
