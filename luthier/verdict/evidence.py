"""Reading a run folder for the report: everything is optional but the verdict, nothing is trusted.

A file that is missing is simply not there; a file that is broken becomes a sentence in
`Evidence.problems`, which the report shows, so that a gap is never mistaken for a result.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from luthier.errors import LuthierError, RunError
from luthier.files import read_json

JSON = dict[str, Any]

_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def text(value: Any) -> str:
    """Any value as text that may stand in a page; control characters become U+FFFD."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, str):
        value = json.dumps(value, ensure_ascii=False, default=str)
    return _CONTROL.sub("�", str(value))


def mapping(value: Any) -> JSON:
    """`value` if it is a dictionary, else an empty one."""
    return value if isinstance(value, dict) else {}


def dicts(value: Any) -> list[JSON]:
    """The dictionaries in `value` if it is a list."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def texts(value: Any) -> list[str]:
    """The non-empty entries of a list as text; a lone string counts as a list of one."""
    if isinstance(value, str):
        value = [value]
    return (
        [text(item) for item in value if item not in (None, "")] if isinstance(value, list) else []
    )


@dataclass(frozen=True)
class Arm:
    """What the folder holds about one arm.

    Attributes:
        name: its name in verdict.json.
        result: its entry in verdict.json.
        record: its arm.json.
        predictions: the rows of its predictions.jsonl, in file order.
        why: why it was run, from manifest.json.
        samples: its samples.json: a few answers before and after training.
    """

    name: str
    result: JSON
    record: JSON
    predictions: list[JSON]
    why: str = ""
    samples: JSON = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The arm's full name, if it has another than `name`."""
        title = text(self.record.get("title"))
        return title if title != self.name else ""

    @property
    def failed(self) -> str:
        """Why the arm has no score, or ""."""
        return text(self.result.get("failed") or self.record.get("failed"))

    def cost(self, key: str) -> Any:
        """A cost by its name in verdict.json; arm.json's `costs` where the verdict has none."""
        value = self.result.get(key)
        return mapping(self.record.get("costs")).get(key) if value is None else value


@dataclass(frozen=True)
class Evidence:
    """A run folder, read."""

    folder: Path
    verdict: JSON
    task: JSON
    manifest: JSON
    lint: JSON
    arms: tuple[Arm, ...]
    splits: dict[str, list[JSON]]
    problems: tuple[str, ...] = field(default=())

    def arm(self, name: Any) -> Arm | None:
        """The arm called `name`."""
        return next((arm for arm in self.arms if arm.name == name), None)


def read_run(folder: Path) -> Evidence:
    """Read a run folder.

    Raises:
        RunError: there is no such folder, or it has no verdict yet.
        InputError: verdict.json is broken.
    """
    if not folder.is_dir():
        raise RunError(f"{folder} is not a run folder.", fix="Give the --out folder of a run.")
    if not (folder / "verdict.json").is_file():
        raise RunError(
            f"{folder} has no verdict.json: the run is not finished.",
            fix="`luthier run TASK --out FOLDER --resume` goes on where it stopped.",
        )
    verdict = read_json(folder / "verdict.json")
    if not isinstance(verdict, dict):
        raise RunError(
            f"{folder / 'verdict.json'} holds no verdict.",
            fix="Run again with --resume; answers that are there are kept.",
        )
    problems: list[str] = []
    manifest = _document(folder, "manifest.json", problems)
    whys = {text(item.get("name")): text(item.get("why")) for item in dicts(manifest.get("arms"))}
    arms = []
    for result in dicts(verdict.get("arms")):
        name = text(result.get("name")) or "unnamed"
        home = folder / "arms" / name
        # no other folder, and a name that a file system takes
        inside = name not in (".", "..") and not {"/", "\\"} & set(name)
        inside = inside and len(name.encode()) <= 255
        arms.append(
            Arm(
                name=name,
                result=result,
                record=_document(home, "arm.json", problems, folder) if inside else {},
                predictions=_rows(home / "predictions.jsonl", folder, problems) if inside else [],
                why=whys.get(name, ""),
                samples=_document(home, "samples.json", problems, folder) if inside else {},
            )
        )
    return Evidence(
        folder=folder,
        verdict=verdict,
        task=_task(folder / "task.yaml", problems),
        manifest=manifest,
        lint=_document(folder, "lint.json", problems),
        arms=tuple(arms),
        splits={
            name: _rows(folder / "data" / f"{name}.jsonl", folder, problems)
            for name in ("train", "validation", "test")
        },
        problems=tuple(problems),
    )


def _document(home: Path, name: str, problems: list[str], root: Path | None = None) -> JSON:
    path = home / name
    if not path.is_file():
        return {}
    try:
        return mapping(read_json(path))
    except (LuthierError, OSError, ValueError):
        problems.append(f"{path.relative_to(root or home)} cannot be read.")
        return {}


def _task(path: Path, problems: list[str]) -> JSON:
    try:
        return mapping(yaml.safe_load(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {}
    except (yaml.YAMLError, UnicodeDecodeError, OSError):
        problems.append("task.yaml cannot be read.")
        return {}


def _rows(path: Path, root: Path, problems: list[str]) -> list[JSON]:
    """The rows of a JSON lines file; broken lines are left out and counted."""
    if not path.is_file():
        return []
    rows, broken = [], 0
    try:
        for line in path.read_bytes().splitlines():
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError:
                row = None
            if isinstance(row, dict):
                rows.append(row)
            else:
                broken += 1
    except OSError as error:
        problems.append(f"{path.relative_to(root)} cannot be read: {error.strerror}.")
    if broken:
        lines = "1 line" if broken == 1 else f"{broken:,} lines"
        problems.append(f"{path.relative_to(root)}: {lines} cannot be read and left out here.")
    return rows
