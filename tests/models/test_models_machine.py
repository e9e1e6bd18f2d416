from __future__ import annotations

import mmap
import os
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from luthier.models import machine
from luthier.models.machine import PeakMemory, cgroup_memory, this_machine

MB = 1_000_000


def test_this_machine_is_within_what_the_system_says() -> None:
    here = this_machine()
    assert 1 <= here.cores <= (os.cpu_count() or 1)
    assert 0 < here.memory_available <= here.memory_total <= psutil.virtual_memory().total
    assert len(here.gpus) == (torch.cuda.device_count() if torch.cuda.is_available() else 0)
    assert set(here.to_dict()) == {"cores", "memory_bytes", "gpus", "bfloat16", "platform"}


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_the_limits_of_a_container_are_read(tmp_path: Path) -> None:
    write(tmp_path / "proc/self/cgroup", "0::/pod/box\n")
    write(tmp_path / "sys/fs/cgroup/pod/box/memory.max", "max\n")
    write(tmp_path / "sys/fs/cgroup/pod/memory.max", "4000\n")
    write(tmp_path / "sys/fs/cgroup/pod/memory.current", "1500\n")
    write(tmp_path / "sys/fs/cgroup/pod/memory.stat", "anon 400\ninactive_file 500\n")
    assert cgroup_memory(tmp_path) == [(4000, 1000)]


def test_the_older_control_groups_are_read(tmp_path: Path) -> None:
    write(tmp_path / "proc/self/cgroup", "5:cpu:/a\n4:memory:/a\n")
    folder = tmp_path / "sys/fs/cgroup/memory"
    write(folder / "a/memory.limit_in_bytes", "2000\n")
    write(folder / "a/memory.usage_in_bytes", "900\n")
    write(folder / "a/memory.stat", "total_inactive_file 100\n")
    write(folder / "memory.limit_in_bytes", "9223372036854771712\n")  # no limit
    assert cgroup_memory(tmp_path) == [(2000, 800)]


def test_no_control_group_is_no_limit(tmp_path: Path) -> None:
    assert cgroup_memory(tmp_path) == []


def test_a_container_lowers_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "cgroup_memory", lambda: [(900 * MB, 300 * MB)])
    here = this_machine()
    assert (here.memory_total, here.memory_available) == (900 * MB, 600 * MB)


@pytest.fixture(params=["kernel", "sampler"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The kernel's own peak where it can be reset, and the sampling that stands in for it."""
    if request.param == "sampler":
        monkeypatch.setattr(machine, "_reset_peak", lambda: False)
    elif not machine._reset_peak():
        pytest.skip("this system has no peak that can be reset")
    return str(request.param)


def held(size: int) -> None:
    import time

    # of the system itself: the allocator may have as much left over from tests before
    with mmap.mmap(-1, size) as pages:
        block = np.frombuffer(pages, dtype=np.uint8)
        block[:] = 1
        time.sleep(0.1)  # long enough to be sampled
        del block


def test_a_peak_is_measured_though_it_is_over(way: str) -> None:
    with PeakMemory() as memory:
        held(200 * MB)
    assert 195 * MB < memory.resident - memory.before < 260 * MB
    assert memory.bytes == memory.resident + memory.gpu


def test_an_earlier_peak_is_not_counted(way: str) -> None:
    held(400 * MB)
    with PeakMemory() as memory:
        held(50 * MB)
    assert memory.resident - memory.before < 150 * MB


def test_a_block_inside_does_not_hide_the_peak_before_it(way: str) -> None:
    with PeakMemory() as outer:
        held(300 * MB)
        with PeakMemory() as inner:
            held(50 * MB)
        held(10 * MB)
    assert outer.resident - outer.before > 290 * MB
    assert inner.resident - inner.before < 150 * MB


def test_the_peak_is_noted_when_the_block_fails(way: str) -> None:
    with pytest.raises(ValueError, match="stop"), PeakMemory() as memory:
        held(100 * MB)
        raise ValueError("stop")
    assert memory.resident - memory.before > 95 * MB
    assert PeakMemory._open == []
