"""`c/native.c`, compiled by the machine's own C compiler when it is first needed.

A layer's arithmetic besides matrix products is bound by memory, and PyTorch runs each operation of
it as a pass of its own. The C file makes one pass of each piece. It is compiled for this very
processor in about a second and kept in the cache folder. Where there is no compiler, or it is not
Linux, everything runs by PyTorch's operations instead (`on_cpu.py`): slower, and the same numbers
up to rounding. LUTHIER_NATIVE=off asks for that.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from luthier.errors import InputError
from luthier.models.catalogue import cache_folder
from luthier.models.machine import c_compiler

_SOURCES = Path(__file__).with_name("c")
_X86 = platform.machine().lower() in ("x86_64", "amd64")
_FLAGS = (
    *(("-march=native", "-mprefer-vector-width=512") if _X86 else ("-mcpu=native",)),
    *("-O3", "-std=gnu11", "-shared", "-fPIC", "-fopenmp"),
    *("-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math"),
)
_SECONDS = 60

_TYPES: dict[str, Any] = {
    "i": ctypes.c_int,
    "n": ctypes.c_long,
    "f": ctypes.c_float,
    "p": ctypes.c_void_p,
}
#: Arguments of each function behind the number of threads: n an integer, f a float, p a tensor.
_FUNCTIONS = {
    "norm": "nnfpppnp",
    "norm_backward": "nnpnppppp",
    "norm_weight": "nnpnppp",
    "gate": "nnppn",
    "gate_backward": "nnppnppn",
    "split": "nnnnnnpppppppnppp",
    "join": "nnnnnnpppppppp",
    "heads": "nnnnnppppni",
    "softmax": "nnnnfp",
    "softmax_backward": "nnnnfpp",
    "add": "nnppn",
    "squares": "npp",
    "adamw": "nnpnpppppfffffff",
    "cross_entropy": "nnfppp",
}
#: Precisions the functions are compiled for, and what their names end in.
PRECISIONS = {torch.bfloat16: "bf16", torch.float32: "f32"}


class Native:
    """The functions of the C file, by name and precision.

    Args:
        path: of the shared library.

    Raises:
        OSError: it can't be loaded.
        AttributeError: a function is missing.
    """

    def __init__(self, path: Path) -> None:
        library = ctypes.CDLL(str(path))
        self._functions: dict[tuple[str, torch.dtype], Any] = {}
        for name, letters in _FUNCTIONS.items():
            for dtype, suffix in PRECISIONS.items():
                function = getattr(library, f"{name}_{suffix}")
                function.argtypes = [_TYPES[letter] for letter in "i" + letters]
                function.restype = None
                self._functions[name, dtype] = function

    def __call__(self, name: str, dtype: torch.dtype, *arguments: Any) -> None:
        """Run one function.

        Args:
            name: without the precision.
            dtype: bfloat16 or float32.
            arguments: behind the number of threads; tensors give the address of their data, None
                gives a null pointer.
        """
        given = [one.data_ptr() if isinstance(one, torch.Tensor) else one for one in arguments]
        self._functions[name, dtype](torch.get_num_threads(), *given)


@functools.cache
def native() -> Native | None:
    """The compiled functions, or None where they can't be had."""
    if os.environ.get("LUTHIER_NATIVE", "").lower() in ("off", "0", "no", "false"):
        return None
    if not sys.platform.startswith("linux"):  # where PyTorch brings the OpenMP of GCC
        return None
    compiler = c_compiler()
    if not compiler:
        return None
    try:
        path = _compiled(compiler)
        try:
            return Native(path)
        except (OSError, AttributeError):  # damaged on the way
            path.unlink(missing_ok=True)
            return Native(_compiled(compiler))
    except (OSError, AttributeError, subprocess.SubprocessError, InputError) as error:
        said = getattr(error, "stderr", None) or error
        logging.getLogger(__name__).info("c/native.c was not compiled: %s", said)
        return None


def _compiled(compiler: list[str]) -> Path:
    """The shared library in the cache folder, compiled now if it is not there."""
    told = subprocess.run([*compiler, "--version"], capture_output=True, timeout=_SECONDS)
    sources = [file.read_bytes() for file in sorted(_SOURCES.iterdir())]
    parts = (*sources, told.stdout, _processor().encode(), " ".join(_FLAGS).encode())
    key = hashlib.sha256(b"\0".join(parts)).hexdigest()[:20]
    path = cache_folder() / "native" / f"{key}.so"
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        made = Path(folder) / "native.so"
        command = [*compiler, *_FLAGS, "-o", str(made), str(_SOURCES / "native.c"), "-lm"]
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=_SECONDS)
        made.replace(path)
    return path


def _processor() -> str:
    """What tells processors apart: a cache folder may be shared by several machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0].splitlines()
    except OSError:
        return platform.processor()
    telling = ("vendor_id", "cpu family", "model", "flags", "Features")
    return "\n".join(line for line in lines if line.split("\t")[0].split(":")[0].strip() in telling)
