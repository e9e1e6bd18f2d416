"""Checkpoints: one folder each, written whole or not at all, checked when read.

Tensors are safetensors, the rest is JSON; nothing is pickled.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from luthier.files import folder_atomically, hash_of, read_json, sha256_of, write_json


@dataclass(frozen=True)
class Checkpoint:
    """What was stored after an optimiser step: tensors by name, and plain values."""

    tensors: dict[str, torch.Tensor]
    state: dict[str, Any]


class Checkpoints:
    """The checkpoints of one training stage, the newest of them kept.

    Args:
        folder: where they are.
        identity: a hash of all that must be equal for a checkpoint to be of use (data, settings,
            model); others are left alone.
        keep: how many to keep; an older one serves when the newest is damaged.
    """

    def __init__(self, folder: Path, identity: str, *, keep: int = 2) -> None:
        self.folder = folder
        self.identity = identity
        self.keep = keep

    def save(self, step: int, tensors: dict[str, torch.Tensor], state: dict[str, Any]) -> None:
        """Store the state after `step` optimiser steps.

        Raises:
            RunError: the disk is full or may not be written.
        """
        with folder_atomically(self._at(step)) as part:
            save_file(
                {name: value.contiguous() for name, value in tensors.items()},
                part / "state.safetensors",
            )
            values = {
                "step": step,
                "identity": self.identity,
                "sha256": sha256_of(part / "state.safetensors"),
                **state,
            }
            # as it will be read back: JSON knows no tuples
            values["state_sha256"] = hash_of(json.loads(json.dumps(values)))
            write_json(part / "state.json", values)
        for old in self._own()[: -self.keep]:
            shutil.rmtree(old, ignore_errors=True)

    def newest(self) -> tuple[Checkpoint | None, list[str]]:
        """The newest whole checkpoint, and notes on those passed over.

        What a kill in the middle of a write left behind is removed: the stage has one process that
        writes, and it is the one that asks.
        """
        notes: list[str] = []
        for half in self.folder.glob(".step-*.part"):
            shutil.rmtree(half, ignore_errors=True)
        for folder in reversed(self._own()):
            try:
                state = read_json(folder / "state.json")
                checksum = state.pop("state_sha256")
                if hash_of(state) != checksum:
                    raise ValueError("the checksum of state.json differs")
                if state["identity"] != self.identity:
                    raise ValueError("it belongs to another stage")
                if sha256_of(folder / "state.safetensors") != state["sha256"]:
                    raise ValueError("its checksum differs")
                tensors = load_file(folder / "state.safetensors")
                return Checkpoint(tensors, state), notes
            except Exception as error:  # any damage at all means: use the one before
                notes.append(f"Checkpoint {folder.name} is damaged and was passed over: {error}")
        others = [path for path in self._all() if path not in self._own()]
        if others:
            notes.append(
                f"{len(others)} checkpoints in {self.folder} belong to other data, settings or "
                "another model, and were not used."
            )
        return None, notes

    def clear(self) -> None:
        """Remove them all, once the result is stored."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _at(self, step: int) -> Path:
        # checkpoints of other settings must neither be overwritten nor crowd these out
        return self.folder / f"step-{step:07d}-{self.identity[:12]}"

    def _own(self) -> list[Path]:
        return [path for path in self._all() if path.name.endswith(f"-{self.identity[:12]}")]

    def _all(self) -> list[Path]:
        return sorted(self.folder.glob("step-*")) if self.folder.is_dir() else []
