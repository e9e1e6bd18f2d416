"""Small data sets of every kind, each split in some way, and what came of it as one hash.

`splits_golden.json` holds these hashes as they were when splits were first cut by rows in lists; a
change here means that earlier runs can no longer be repeated. To write it anew:
`python tests/data/split_cases.py`.
"""

from __future__ import annotations

import hashlib
import json
import random
import tempfile
from pathlib import Path
from typing import Any

from distinct_texts import one_word_changed, text

from luthier.data.examples import Example, Message
from luthier.data.folds import folds
from luthier.data.split_files import Wish, split_file
from luthier.data.splits import make_splits
from luthier.errors import InputError
from luthier.task_sections import Limit, Split

GOLDEN = Path(__file__).parent / "splits_golden.json"
#: How many data sets there are for each way of splitting.
CASES = {"cut": 160, "folds": 60, "lock": 30, "file": 40}


def rows_of(chance: random.Random, first: int = 0) -> list[dict[str, Any]]:
    """Rows with repeats, near-duplicates, groups, classes, lists of labels and times."""
    count = chance.choice([3, 8, 12, 30, 60, 120, 250])
    repeats, near = chance.choice([0, 0, 0.1, 0.5]), chance.choice([0, 0, 0.2, 0.9])
    groups = chance.choice([0, 0, 2, 6, 40])
    kinds = chance.choice([1, 2, 3, 9])
    made: list[dict[str, Any]] = []
    for number in range(first, first + count):
        said = text(chance.randrange(3) if chance.random() < repeats else number)
        if chance.random() < near:
            said = one_word_changed(number) if chance.random() < 0.5 else f"{said} then"
        labels = chance.sample("abcde", chance.choice([0, 1, 1, 2, 3]))
        made.append(
            {
                "text": said.upper() if chance.random() < 0.1 else said,
                "kind": f"k{min(chance.randrange(kinds), chance.randrange(kinds))}",
                "labels": json.dumps(labels) if chance.random() < 0.5 else labels,
                "day": f"2021-{1 + chance.randrange(chance.choice([2, 12])):02}-03",
                "group": f"g{chance.randrange(groups)}"
                if groups and chance.random() < 0.9
                else None,
            }
        )
    return made


def how_of(chance: random.Random) -> Split:
    sizes = [None, None, 0.1, 0.3, 2, 15]
    by: dict[str, Any] = chance.choice(
        [{}, {}, {"stratify": "kind"}, {"stratify": "labels"}, {"time": "day"}]
    )
    return Split(
        test=chance.choice(sizes),
        validation=chance.choice(sizes),
        near_duplicates=chance.choice([None, None, True, False]),
        **by,
    )


def examples_of(rows: list[dict[str, Any]], first: int = 0) -> list[Example]:
    return [
        Example(
            f"id{number * 7919 % 1009}",
            (Message("user", row["text"]),),
            row["kind"],
            row["group"],
            f"row {number}",
            {key: row[key] for key in ("kind", "labels", "day")},
        )
        for number, row in enumerate(rows, first)
    ]


def outcome(way: str, number: int) -> str:
    """The hash of what a case came to: which rows are where in which order, and what was said."""
    chance = random.Random(f"{way} {number}")
    try:
        found = _WAYS[way](chance)
    except InputError:  # whatever is said
        found = "refused"
    return hashlib.sha256(json.dumps(found).encode()).hexdigest()[:12]


def _named(parts: Any) -> Any:
    splits, notes = parts
    return [[[e.id for e in examples] for _, examples in splits.items()], list(notes)]


def _cut(chance: random.Random) -> Any:
    rows, how = examples_of(rows_of(chance)), how_of(chance)
    limit = Limit(
        train=chance.choice([None, None, 20, 60]),
        validation=chance.choice([None, None, 3]),
        test=chance.choice([None, None, 5]),
    )
    given = chance.choice(["", "", "", "test", "validation", "both"])
    other = examples_of(rows_of(chance, 300))
    return _named(
        make_splits(
            rows,
            other if given in ("validation", "both") else None,
            other if given in ("test", "both") else None,
            limit=limit,
            seed=chance.randrange(3),
            stratify=chance.random() < 0.5,
            split=how,
        )
    )


def _folds(chance: random.Random) -> Any:
    rows, how = examples_of(rows_of(chance)), how_of(chance)
    how = how.model_copy(update={"time": None})
    k, stratify = chance.choice([2, 3, 5, 10]), chance.random() < 0.5
    return folds(rows, k, seed=chance.randrange(3), stratify=stratify, split=how)


def _lock(chance: random.Random) -> Any:
    rows = examples_of(rows_of(chance))
    stratify, how = chance.random() < 0.5, how_of(chance)
    found = []
    with tempfile.TemporaryDirectory() as folder:
        lock = Path(folder) / "split.lock"
        for _ in range(3):
            made = make_splits(
                rows, None, None, limit=Limit(), seed=1, stratify=stratify, split=how, lock=lock
            )
            found.append(_named(made))
            chance.shuffle(rows)
            rows = rows[chance.randrange(1 + len(rows) // 10) :]
            rows += examples_of(rows_of(chance, 500), 500)[:20]
            rows = list({example.id: example for example in rows}.values())
        return [*found, lock.read_text("utf-8")]


def _file(chance: random.Random) -> Any:
    rows, how = rows_of(chance), how_of(chance)
    how = how.model_copy(update={"test": how.test or 0.2, "validation": how.validation or 0.1})
    rows += rows[: chance.choice([0, 0, 3])]
    wish = Wish(
        how,
        group=chance.choice([None, "group"]),
        text=chance.choice([None, "text", "kind"]),
        folds=chance.choice([None, None, 3]),
        seed=chance.randrange(3),
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lines = [json.dumps(row) for row in rows] + ["{broken"] * chance.choice([0, 2])
        (folder / "rows.jsonl").write_text("\n".join(lines), "utf-8")
        done = split_file("rows.jsonl", folder, folder / "out", wish)
        written = {
            str(path.relative_to(folder)): path.read_text("utf-8")
            for path in sorted((folder / "out").rglob("*.jsonl"))
        }
    rows_of_each = {str(Path(path).relative_to(name)): n for path, n in done.rows.items()}
    return [written, sorted(rows_of_each.items()), done.refused.count]


_WAYS = {"cut": _cut, "folds": _folds, "lock": _lock, "file": _file}


if __name__ == "__main__":
    held = {way: [outcome(way, n) for n in range(count)] for way, count in CASES.items()}
    GOLDEN.write_text(json.dumps(held, indent=1) + "\n", "utf-8")
    print({way: len(set(hashes)) for way, hashes in held.items()})
