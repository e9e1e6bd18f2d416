"""Lints that are finished stay finished: what each found is kept in the cache folder.

A check of many rows takes minutes. When it is interrupted, or run again, lints that were through
are not run again, nor is what several of them share (the search for twins) made again, as long as
everything they saw is the same: the examples of all splits, the task, the files it names, the
model's files, this program itself and the libraries it reckons with.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from luthier.data.linting import Finding, LintContext
from luthier.data.sizes import files_of
from luthier.data.stored import fingerprint
from luthier.errors import InputError
from luthier.files import hash_of, read_json, write_atomically, write_json
from luthier.models.catalogue import cache_folder
from luthier.program import program

#: Most checks that are kept; the one used longest ago goes first.
_KEPT = 16
#: What lints reckon with besides this program.
_LIBRARIES = ("numpy", "scipy", "scikit-learn", "cleanlab", "py3langid", "tokenizers")


class KeptLints:
    """What the lints of one check found, one file each.

    Args:
        folder: of the cache; made when something is kept.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, name: str) -> list[Finding] | None:
        """What a lint found before; None where it was not finished."""
        path = self.folder / f"{name}.json"
        if not path.is_file():
            return None
        try:
            return [
                Finding(**{**finding, "rows": tuple(finding["rows"])})
                for finding in read_json(path)["findings"]
            ]
        except (InputError, KeyError, TypeError):  # damaged: it is run again
            return None

    def put(self, name: str, findings: Sequence[Finding]) -> None:
        """Keep what a lint found."""
        write_json(
            self.folder / f"{name}.json", {"findings": [finding.to_dict() for finding in findings]}
        )

    def arrays(self, name: str) -> dict[str, Any] | None:
        """A measure that several lints share; None where it was not finished, or is damaged."""
        try:
            with np.load(self.folder / f"{name}.npz", allow_pickle=False) as held:
                return dict(held)
        except (OSError, ValueError, KeyError, BadZipFile):
            return None

    def keep_arrays(self, name: str, arrays: Mapping[str, Any]) -> None:
        """Keep a measure that several lints share."""

        def write(part: Path) -> None:
            with part.open("wb") as file:
                np.savez(file, **arrays)

        write_atomically(self.folder / f"{name}.npz", write)


def kept_lints(context: LintContext, model: Path | None) -> KeptLints:
    """Where the findings of a check are kept.

    Args:
        context: what the lints look at.
        model: the folder of the model whose tokenizer counts; None where there is none.
    """
    task = context.task
    named = [name for name in task.data.benchmarks if not name.startswith("hub:")]
    key = hash_of(
        [
            program(),
            [version(name) for name in _LIBRARIES],
            task.to_dict(),
            context.labels,
            context.context_length,
            context.embed is not None,
            [fingerprint(examples) for _, examples in context.splits.items()],
            [[row.source, row.reason] for row in context.refused.rows],
            dict(context.refused.reasons),
            [_stamps(files_of(name, task.folder)) for name in named],
            _stamps(sorted(model.glob("*.json"))) if model else None,
        ]
    )
    folder = cache_folder() / "checks"
    _forget(folder)
    return KeptLints(folder / key[:24])


def _stamps(files: Sequence[Path]) -> list[Any]:
    return [[str(file), file.stat().st_size, file.stat().st_mtime_ns] for file in files]


def _forget(folder: Path) -> None:
    """Remove the checks that were run longest ago, so that the cache does not grow for ever."""
    held = [entry for entry in folder.glob("*") if entry.is_dir()]
    for entry in sorted(held, key=lambda entry: entry.stat().st_mtime)[: -_KEPT + 1]:
        shutil.rmtree(entry, ignore_errors=True)
