"""What this machine is, and how much memory a piece of work took on it."""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import threading
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar


@dataclass(frozen=True)
class Gpu:
    """One accelerator that torch can use; memory in bytes."""

    name: str
    memory: int
    bfloat16: bool


@dataclass(frozen=True)
class Machine:
    """What work can count on.

    Attributes:
        cores: that this process may use (affinity and container quota respected).
        memory_total: bytes, the container's limit where there is one.
        memory_available: bytes that can be taken without swapping or being killed.
        gpus: those torch can use.
        cpu_bfloat16: whether the processor multiplies bfloat16 matrices in hardware.
        platform: for people, "Linux x86_64".
    """

    cores: int
    memory_total: int
    memory_available: int
    gpus: tuple[Gpu, ...]
    cpu_bfloat16: bool
    platform: str

    @property
    def fast_bfloat16(self) -> bool:
        """Whether bfloat16 is faster than float32 where models will run."""
        return self.gpus[0].bfloat16 if self.gpus else self.cpu_bfloat16

    def to_dict(self) -> dict[str, Any]:
        """What a run's manifest says about the machine."""
        return {
            "cores": self.cores,
            "memory_bytes": self.memory_total,
            "gpus": [gpu.name for gpu in self.gpus],
            "bfloat16": self.fast_bfloat16,
            "platform": self.platform,
        }


def this_machine() -> Machine:
    """This machine, as it is now. Imports torch."""
    import psutil

    memory = psutil.virtual_memory()
    total, available = int(memory.total), int(memory.available)
    for limit, used in cgroup_memory():
        total = min(total, limit)
        available = min(available, max(limit - used, 0))
    return Machine(
        cores=_cores(),
        memory_total=total,
        memory_available=available,
        gpus=_gpus(),
        cpu_bfloat16=_cpu_bfloat16(),
        platform=f"{platform.system()} {platform.machine()}",
    )


def c_compiler() -> list[str]:
    """The command of this machine's C compiler: what CC says, else the first one found; empty where
    there is none."""
    found = (name for name in ("cc", "gcc", "clang") if shutil.which(name))
    return shlex.split(os.environ.get("CC", "")) or [*found][:1]


def _gpus() -> tuple[Gpu, ...]:
    import torch

    if not torch.cuda.is_available():
        return ()
    found = []
    for index in range(torch.cuda.device_count()):
        facts = torch.cuda.get_device_properties(index)
        # Ampere (8.0) was the first with bfloat16 units; ROCm builds number differently
        bfloat16 = facts.major >= 8 or getattr(torch.version, "hip", None) is not None
        found.append(Gpu(str(facts.name), int(facts.total_memory), bfloat16))
    return tuple(found)


def _cpu_bfloat16() -> bool:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    for line in text.splitlines():
        if line.partition(":")[0].strip().lower() in ("flags", "features"):
            flags = set(line.partition(":")[2].split())
            return bool(flags & {"avx512_bf16", "amx_bf16", "bf16"})
    return False


def _cores(root: Path = Path("/")) -> int:
    allowed = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    for folder in _cgroup_folders(root):
        words = _read(folder / "cpu.max").split()
        if len(words) == 2 and words[0].isdigit() and int(words[1]) > 0:
            # half a core still runs one thread
            allowed = min(allowed, max(1, round(int(words[0]) / int(words[1]))))
    return allowed


def cgroup_memory(root: Path = Path("/")) -> list[tuple[int, int]]:
    """(limit, bytes in use that cannot be dropped) of each control group this process is in.

    Both generations of control groups are read; page cache counts as free.

    Args:
        root: where /proc and /sys are; for tests.
    """
    found = []
    for folder in _cgroup_folders(root):
        for limit_file, used_file, cache_key in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            limit = _read(folder / limit_file).strip()
            # version 1 writes "no limit" as a number near 2**63
            if not limit.isdigit() or int(limit) >= 1 << 60:
                continue
            used = _read(folder / used_file).strip()
            facts = dict(line.split(maxsplit=1) for line in _lines(folder / "memory.stat"))
            cache = int(facts.get(cache_key, "0"))
            found.append((int(limit), max((int(used) if used.isdigit() else 0) - cache, 0)))
    return found


def _cgroup_folders(root: Path) -> list[Path]:
    """The folders of this process's control groups and all above them."""
    folders: dict[Path, None] = {}
    for line in _lines(root / "proc/self/cgroup"):
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            top = root / "sys/fs/cgroup"
        elif "memory" in controllers.split(","):
            top = root / "sys/fs/cgroup/memory"
        else:
            continue
        parts = [part for part in path.split("/") if part and part != ".."]
        for depth in range(len(parts), -1, -1):
            folders[top.joinpath(*parts[:depth])] = None
    return list(folders)


def _lines(path: Path) -> list[str]:
    return [line for line in _read(path).splitlines() if " " in line or ":" in line]


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


@dataclass(eq=False)  # blocks are told apart by what they are: two may measure the same
class PeakMemory:
    """Measures the peak memory of this process while a block runs.

        with PeakMemory() as memory:
            train()
        memory.bytes

    Linux keeps the peak itself (VmHWM) and lets it be reset; elsewhere the resident size is
    sampled 50 times a second. Blocks may be nested: a reset inside is made good outside.

    Attributes:
        bytes: the most that was resident, plus what was on the GPU; final after the block.
        resident: the most that was resident in main memory.
        gpu: the most torch had allocated on the current GPU.
        before: resident bytes when the block began.
    """

    bytes: int = 0
    resident: int = 0
    gpu: int = 0
    before: int = 0
    _sampler: _Sampler | None = field(default=None, repr=False)

    _open: ClassVar[list[PeakMemory]] = []
    _guard: ClassVar[threading.RLock] = threading.RLock()

    def __enter__(self) -> PeakMemory:
        with self._guard:
            self._note_all()
            if not _reset_peak():
                self._sampler = _Sampler()
            self.before = self.resident = _resident()
            _reset_gpu()
            self._open.append(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._guard:
            self._note_all()
            self._open.remove(self)
            if self._sampler is not None:
                self.resident = max(self.resident, self._sampler.stop())
            self.bytes = self.resident + self.gpu

    def _note_all(self) -> None:
        """Write the peak since the last reset down for every open block."""
        peak, gpu = _peak() or _resident(), _gpu_peak()
        for block in self._open:
            if block._sampler is None:
                block.resident = max(block.resident, peak)
            block.gpu = max(block.gpu, gpu)


class _Sampler(threading.Thread):
    def __init__(self) -> None:
        super().__init__(daemon=True, name="peak-memory")
        self._done = threading.Event()
        self._peak = 0
        self.start()

    def run(self) -> None:
        while not self._done.is_set():
            self._peak = max(self._peak, _resident())
            self._done.wait(0.02)

    def stop(self) -> int:
        self._done.set()
        self.join()
        return max(self._peak, _resident())


def _resident() -> int:
    import psutil

    return int(psutil.Process().memory_info().rss)


def _reset_peak() -> bool:
    """Set VmHWM to the present resident size (proc(5): write 5 to clear_refs)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return _peak() is not None


def _peak() -> int | None:
    for line in _read(Path("/proc/self/status")).splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return None


def _gpu_ready() -> bool:
    """Whether this process has used a GPU; does not itself import torch or start one."""
    import sys

    torch = sys.modules.get("torch")
    return torch is not None and torch.cuda.is_initialized()


def _reset_gpu() -> None:
    if _gpu_ready():
        import torch

        torch.cuda.reset_peak_memory_stats()


def _gpu_peak() -> int:
    if not _gpu_ready():
        return 0
    import torch

    return int(torch.cuda.max_memory_allocated())
