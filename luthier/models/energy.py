"""The energy this machine's processors take while a block runs, where the system tells.

Linux counts it (RAPL, under /sys/class/powercap), for Intel and AMD processors; most systems let
only the administrator read it, and virtual machines do not have it. What is counted is the whole
processor package, whoever uses it, without memory, disks and GPUs.
"""

from __future__ import annotations

import threading
from pathlib import Path
from types import TracebackType

_COUNTERS = Path("/sys/class/powercap")
#: Seconds between looks: a counter starts again from 0 after some minutes of hard work.
_EVERY = 30.0


class Energy:
    """Measures the energy of a block.

        with Energy() as energy:
            train()
        energy.joules

    Args:
        counters: the folder of the system's counters.

    Attributes:
        joules: of all processor packages; None where it cannot be read.
    """

    def __init__(self, counters: Path = _COUNTERS) -> None:
        self.joules: float | None = None
        self._zones = [zone for zone in sorted(counters.glob("intel-rapl:*")) if _package(zone)]
        self._last: dict[Path, int] = {}
        self._done = threading.Event()
        self._watcher: threading.Thread | None = None

    def __enter__(self) -> Energy:
        found = {zone: _read(zone / "energy_uj") for zone in self._zones}
        self._last = {zone: value for zone, value in found.items() if value is not None}
        if self._last and len(self._last) == len(self._zones):
            self.joules = 0.0
            self._watcher = threading.Thread(target=self._watch, daemon=True)
            self._watcher.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._watcher is not None:
            self._done.set()
            self._watcher.join()
            self._note()

    def _watch(self) -> None:
        while not self._done.wait(_EVERY):
            self._note()

    def _note(self) -> None:
        """Add what was used since the last look."""
        for zone, before in self._last.items():
            now = _read(zone / "energy_uj")
            if now is None or self.joules is None:
                self.joules = None
                return
            used = now - before
            if used < 0:  # the counter went round
                used += _read(zone / "max_energy_range_uj") or 0
            self._last[zone] = now
            self.joules += max(0, used) / 1e6


def _package(zone: Path) -> bool:
    """Whether a zone is a whole processor: parts of one have two numbers, and the whole machine
    ("psys") would count the processor again."""
    try:
        name = (zone / "name").read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return False
    return zone.name.count(":") == 1 and name.startswith("package")


def _read(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
