"""What a model knew before it was tuned, and whether it still does.

Multiple-choice questions are answered by likelihood, and general text is measured in bits per byte,
before and after tuning, by the same model code. By default both are what was written for this
project (`probes/`); `forgetting.probes` of a task names others (`probe_sources.py`). Changes are
paired, item by item, and corrected for chance: with k choices, an accuracy a counts as
(a - 1/k) / (1 - 1/k).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from luthier.evaluation import statistics
from luthier.evaluation.probe_items import (
    Gap,
    Passage,
    Probe,
    Probes,
    first_id,
    pair_ids,
    plain_ids,
)
from luthier.evaluation.probe_sources import general_probes
from luthier.evaluation.token_likelihood import token_scores

if TYPE_CHECKING:
    from luthier.generation.local import Generator

__all__ = [
    "Gap",
    "Measured",
    "Passage",
    "Probe",
    "Probes",
    "answer_probes",
    "changed",
    "choice_scores",
    "drop",
    "general_probes",
    "measure",
]

Progress = Callable[[int], None]


@dataclass(frozen=True)
class Measured:
    """What a model made of the probes.

    Attributes:
        right: of each of `Probes.items`; None where it does not fit into the model's context.
        bits: of each passage, all of it.
    """

    right: tuple[bool | None, ...]
    bits: tuple[float, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {"right": list(self.right), "bits": [round(one, 4) for one in self.bits]}

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> Measured:
        """The inverse of `to_dict`, but for the rounding."""
        return cls(tuple(stored["right"]), tuple(float(one) for one in stored["bits"]))


def measure(generator: Generator, probes: Probes, progress: Progress | None = None) -> Measured:
    """Let a model answer the probes and read the passages.

    Args:
        generator: the model.
        probes: what it is asked.
        progress: called with the number of items that are done.
    """
    right: list[bool | None] = []
    right += answer_probes(generator, probes.questions, progress)
    room = _context(generator)
    gaps = [pair_ids(generator.tokenizer, gap.context, gap.continuation) for gap in probes.gaps]
    fits = [len(before) + len(after) <= room for before, after in gaps]
    found = iter(
        token_scores(
            generator.model,
            [pair for pair, fit in zip(gaps, fits, strict=True) if fit],
            progress=progress,
        )
    )
    right += [bool(next(found).greedy.all()) if fit else None for fit in fits]
    return Measured(tuple(right), tuple(text_bits(generator, probes.passages, progress)))


def choice_scores(
    generator: Generator, probes: Sequence[Probe], progress: Progress | None = None
) -> list[list[float] | None]:
    """Log-likelihoods of each probe's choices, in nats; None where they exceed the context.

    Choices are scored as plain text that goes on from the query, without any chat template, so
    that what is measured is the model and not how it was taught to answer.
    """
    room = _context(generator)
    scores: list[list[float] | None] = [None] * len(probes)
    # most probes have one prompt; where every choice has its own, each is a row by itself
    rows: list[tuple[int, list[int], list[list[int]]]] = []
    for number, probe in enumerate(probes):
        pairs = [pair_ids(generator.tokenizer, *probe.asked(i)) for i in range(len(probe.choices))]
        if max(len(before) + len(after) for before, after in pairs) > room:
            continue
        scores[number] = []
        if probe.contexts:
            rows += [(number, before, [after]) for before, after in pairs]
        else:
            rows.append((number, pairs[0][0], [after for _, after in pairs]))
    done: dict[int, int] = {}
    found, _ = generator.score([row[1] for row in rows], [row[2] for row in rows], progress)
    for (number, _, _), values in zip(rows, found, strict=True):
        done[number] = done.get(number, 0) + 1
        kept = scores[number]
        assert kept is not None
        kept += values
    return scores


def answer_probes(
    generator: Generator, probes: Sequence[Probe], progress: Progress | None = None
) -> list[bool | None]:
    """For each probe, whether the right choice has the highest likelihood per byte; None where it
    does not fit into the model's context."""
    right: list[bool | None] = []
    for probe, row in zip(probes, choice_scores(generator, probes, progress), strict=True):
        if row is None:
            right.append(None)
            continue
        per_byte = [s / len(c.encode()) for s, c in zip(row, probe.choices, strict=True)]
        right.append(per_byte.index(max(per_byte)) == probe.gold)
    return right


def text_bits(
    generator: Generator, passages: Sequence[Passage], progress: Progress | None = None
) -> list[float]:
    """Bits that the model needs for each passage.

    A passage longer than the context is read in windows; the first token of one follows the last
    of the window before, and that of the first the token that texts start with.
    """
    room = _context(generator) - 1
    rows, owners = [], []
    for number, passage in enumerate(passages):
        ids = plain_ids(generator.tokenizer, passage.text)
        before = first_id(generator.tokenizer)
        for start in range(0, len(ids), room):
            window = ids[start : start + room]
            rows.append(([before], window))
            owners.append(number)
            before = window[-1]
    bits = [0.0] * len(passages)
    for owner, scored in zip(owners, token_scores(generator.model, rows), strict=True):
        bits[owner] -= scored.total / math.log(2)
    if progress and passages:
        progress(len(passages))
    return bits


def changed(probes: Probes, before: Measured, after: Measured, *, seed: int) -> dict[str, Any]:
    """What was lost: verdict.json's `forgetting`.

    Returns:
        What `drop` returns (`drop` and `interval` None without questions), and where there are
        passages "bits_per_byte": {"before", "after", "change", "interval", "n", "probes": {area:
        {"before", "after", "change", "interval", "n"}}}: bits of all passages by their bytes, the
        change above 0 where text is predicted less well; "left_out": items that exceed the
        context.
    """
    kept = [
        i for i, pair in enumerate(zip(before.right, after.right, strict=True)) if None not in pair
    ]
    found: dict[str, Any] = {"drop": None, "interval": None, "probes": {}}
    if kept:
        items = probes.items
        found = drop(
            [items[i] for i in kept],
            [bool(before.right[i]) for i in kept],
            [bool(after.right[i]) for i in kept],
            seed=seed,
        )
    if probes.passages:
        sizes = np.array([len(one.text.encode()) for one in probes.passages], dtype=np.float64)
        tables = [np.array([one.bits, sizes]).T for one in (before, after)]
        areas = sorted({one.area for one in probes.passages})
        found["bits_per_byte"] = _bits(tables, seed) | {
            "probes": {
                area: _bits([table[_rows(probes.passages, area)] for table in tables], seed)
                for area in areas
            }
        }
    if len(kept) < len(probes.items):
        found["left_out"] = len(probes.items) - len(kept)
    return found


def drop(
    probes: Sequence[Probe | Gap],
    before: Sequence[bool | None],
    after: Sequence[bool | None],
    *,
    seed: int,
) -> dict[str, Any]:
    """What was lost of the questions.

    Returns:
        {"drop": chance-corrected accuracy before minus after, "interval": its 95 % paired
        bootstrap interval, "probes": {area: {"before", "after", "drop", "interval", "n"}}} with
        `before` and `after` uncorrected. The interval of an area is Newcombe's for paired rates
        where all its items have as many choices, which holds for few of them too.
    """
    chance = np.array([probe.chance for probe in probes])
    was, now = np.array(before, float), np.array(after, float)
    change = (was - now) / (1 - chance)
    areas: dict[str, dict[str, Any]] = {}
    for area in sorted({probe.area for probe in probes}):
        rows = _rows(probes, area)
        areas[area] = {
            "before": round(float(was[rows].mean()), 4),
            "after": round(float(now[rows].mean()), 4),
            "drop": round(float(change[rows].mean()), 4),
            "interval": _area_interval(was[rows], now[rows], chance[rows], seed),
            "n": len(rows),
        }
    return {
        "drop": round(float(change.mean()), 4),
        "interval": _mean_interval(change, seed),
        "probes": areas,
    }


def _area_interval(
    was: NDArray[np.float64], now: NDArray[np.float64], chance: NDArray[np.float64], seed: int
) -> list[float]:
    if len(set(chance.tolist())) > 1:
        return _mean_interval((was - now) / (1 - chance), seed)
    low, high = statistics.paired_interval(
        int((was * now).sum()),
        int((was * (1 - now)).sum()),
        int(((1 - was) * now).sum()),
        int(((1 - was) * (1 - now)).sum()),
    )
    return [round(end / (1 - float(chance[0])), 4) for end in (low, high)]


def _mean_interval(change: NDArray[np.float64], seed: int) -> list[float]:
    """The 95 % interval of a mean."""
    boot = statistics.paired_bootstrap(
        [np.stack([change, np.ones_like(change)], axis=1)], _ratio, seed=seed
    )
    # no change at all is 0 and not -0
    return [round(end, 4) + 0.0 for end in boot.interval(0)]


def _ratio(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(sums[..., 0] / sums[..., 1])


def _bits(tables: Sequence[NDArray[np.float64]], seed: int) -> dict[str, Any]:
    """Bits per byte before and after, from (n, 2) tables of bits and bytes."""
    was, now = (float(_ratio(table.sum(axis=0))) for table in tables)
    boot = statistics.paired_bootstrap(tables, _ratio, seed=seed)
    return {
        "before": round(was, 4),
        "after": round(now, 4),
        "change": round(now - was, 4),
        "interval": [round(end, 4) + 0.0 for end in boot.difference_interval(1, 0)],
        "n": len(tables[0]),
    }


def _rows(items: Sequence[Any], area: str) -> list[int]:
    return [i for i, item in enumerate(items) if item.area == area]


def _context(generator: Generator) -> int:
    """Tokens that a row may have."""
    from luthier.models.heads import virtual_tokens

    config = generator.model.config.get_text_config()
    longest = getattr(config, "max_position_embeddings", None) or 2**31
    return int(longest) - virtual_tokens(generator.model)
