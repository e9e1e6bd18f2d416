"""Checkpoints: one folder each, written whole or not at all, checked when read.

Tensors are safetensors, the rest is JSON; nothing is pickled.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from luthier.files import folder_atomically, read_json, sha256_of, write_json


class Checkpoints:
    """The checkpoints of one training stage, the newest two of them kept.

    Args:
        folder: where they are.
        identity: a hash of all that must be equal for a checkpoint to be of use (data, settings,
            model); others are left alone.
    """

    def __init__(self, folder: Path, identity: str, *, keep: int = 2) -> None:
        self.folder = folder
        self.identity = identity
        self.keep = keep

    def save(self, step: int, tensors: dict[str, torch.Tensor], state: dict[str, Any]) -> None:
        """Store the state after `step` optimiser steps."""
        with folder_atomically(self.folder / f"step-{step:07d}") as part:
            save_file(
                {name: value.contiguous() for name, value in tensors.items()},
                part / "state.safetensors",
            )
            write_json(
                part / "state.json",
                {
                    "step": step,
                    "identity": self.identity,
                    "sha256": sha256_of(part / "state.safetensors"),
                    **state,
                },
            )
        for old in self._all()[: -self.keep]:
            shutil.rmtree(old, ignore_errors=True)

    def newest(self) -> tuple[dict[str, torch.Tensor], dict[str, Any], list[str]] | None:
        """The newest whole checkpoint: tensors, state, and notes on damaged ones passed over."""
        notes: list[str] = []
        for folder in reversed(self._all()):
            try:
                state = read_json(folder / "state.json")
                if state["identity"] != self.identity:
                    continue
                if sha256_of(folder / "state.safetensors") != state["sha256"]:
                    raise ValueError("its checksum differs")
                return load_file(folder / "state.safetensors"), state, notes
            except Exception as error:  # any damage at all means: use the one before
                notes.append(f"Checkpoint {folder.name} is damaged and was passed over: {error}")
        return None

    def clear(self) -> None:
        """Remove them all, once the result is stored."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _all(self) -> list[Path]:
        return sorted(self.folder.glob("step-*")) if self.folder.is_dir() else []
