"""Training rows that hold the items of a benchmark."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from importlib import resources
from typing import Any

from luthier.data.examples import Example
from luthier.data.linting import LINTS, Finding, LintContext, number, percent, shortened, sources
from luthier.data.reading import read_rows

#: Words of a window, as for GPT-3 (Brown et al. 2020, arXiv 2005.14165, appendix C); shorter items
#: are looked for whole, down to eight words.
WINDOW, SHORTEST = 13, 8
#: Windows of the benchmarks that are remembered.
MOST_WINDOWS = 2_000_000
_WORDS = re.compile(r"\w+")


@LINTS.register("contamination")
def contamination(context: LintContext) -> Iterator[Finding]:
    """Thirteen words in a row that are also in a benchmark.

    Seen are the probes that come with the project, by which forgetting is measured, and the files
    that `data.benchmarks` names. Not seen are benchmarks that are not named, items under eight
    words, translations, and items told in other words.
    """
    named = tuple(context.task.data.benchmarks)
    sets: list[tuple[str, Iterable[str]]] = [("the general probes of this project", _own_items())]
    sets += [(name, _items_of(name, context)) for name in named]
    train = context.splits.train
    windows: dict[int, int] = {}
    sizes: set[int] = set()
    left_out = 0
    for which, (_, items) in enumerate(sets):
        for item in items:
            words = _WORDS.findall(item.casefold())
            size = min(WINDOW, len(words))
            if size < SHORTEST:
                continue
            if len(windows) > MOST_WINDOWS:
                left_out += 1
                continue
            sizes.add(size)
            for key in _windows(words, size):
                windows.setdefault(key, which)
    hits: dict[int, list[Example]] = {}
    for example in train:
        hit = _first_hit(example, windows, sizes)
        if hit is not None:
            hits.setdefault(hit, []).append(example)
    for which, found in sorted(hits.items()):
        name = sets[which][0]
        yield Finding(
            "contamination",
            "warning",
            len(found),
            sources(found),
            f"{number(len(found), 'training row')} ({percent(len(found), len(train))}) "
            f"{'shares' if len(found) == 1 else 'share'} {WINDOW} words in a row (or a whole "
            f"shorter item) with {name}, such as {shortened(found[0].input)!r} "
            f"({found[0].source}). A score on it would be flattered by what was learned by heart. "
            "Items in other words are not seen.",
            "Leave these rows out, or do not trust that benchmark for this model.",
        )
    if left_out:
        yield Finding(
            "contamination",
            "note",
            left_out,
            (),
            f"{left_out:,} items of `data.benchmarks` were not looked for: more than "
            f"{MOST_WINDOWS:,} windows of words are not remembered.",
            "Name fewer files at a time.",
        )


def _first_hit(example: Example, windows: dict[int, int], sizes: Iterable[int]) -> int | None:
    texts = (*(message.content for message in example.messages), example.output)
    for text in texts:
        words = _WORDS.findall(text.casefold())
        for size in sizes:
            for key in _windows(words, size):
                if key in windows:
                    return windows[key]
    return None


def _windows(words: list[str], size: int) -> Iterator[int]:
    for start in range(len(words) - size + 1):
        yield hash(" ".join(words[start : start + size]))


def _own_items() -> list[str]:
    text = (resources.files("luthier.evaluation") / "probes" / "general.jsonl").read_text("utf-8")
    probes = [json.loads(line) for line in text.splitlines() if line.strip()]
    return [f"{row['query']}{row['choices'][row['gold']]}" for row in probes]


def _items_of(name: str, context: LintContext) -> Iterator[str]:
    """The texts of the rows of a file, one after another."""
    for row in read_rows(name, context.task.folder):
        yield from _texts(row.values)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)
