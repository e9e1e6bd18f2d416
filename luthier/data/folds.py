"""k-fold cross-validation: every row is held out once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from luthier.data.column import Column, in_order, record, records
from luthier.data.columns import Columns, columns_of
from luthier.data.examples import Example
from luthier.data.shares import in_rank
from luthier.data.stratify import distribute, one_each
from luthier.data.units import units_of
from luthier.errors import InputError
from luthier.task_sections import Split

_SIZED = record(np.int32, unit=np.int32)


def folds(
    examples: Sequence[Example],
    k: int,
    *,
    seed: int = 0,
    stratify: bool = False,
    split: Split | None = None,
) -> list[tuple[list[int], list[int]]]:
    """(rows to train on, rows held out) of each of k folds, as ascending indices.

    Each row is held out in exactly one fold. Rows of one group, with the same input, or with
    near-duplicates of it, are never on two sides. The result depends on ids and seed, not on the
    order of the rows.

    Args:
        examples: the rows.
        k: how many folds, at least 2.
        seed: of the order in which rows are dealt out.
        stratify: give each fold its share of the outputs (classes).
        split: names another column to stratify by, or leaves near-duplicates alone.

    Raises:
        InputError: k is below 2, or there are fewer sets of rows that stay together than folds.
    """
    if k < 2:
        raise InputError(f"{k} folds are too few.", fix="Take at least 2; 5 and 10 are usual.")
    columns = columns_of(examples, split or Split(), stratify=stratify)
    assigned = assign_folds(columns, k, seed).array()
    return [
        (np.flatnonzero(assigned != fold).tolist(), np.flatnonzero(assigned == fold).tolist())
        for fold in range(k)
    ]


def assign_folds(columns: Columns, k: int, seed: int) -> Column:
    """[rows] the fold that each is held out in, 0 to k - 1, int32; see `folds`.

    Raises:
        InputError: fewer sets of rows that stay together than folds.
    """
    units = units_of(columns.near, columns.groups)
    if len(units) < k:
        raise InputError(
            f"The {len(columns)} rows fall into {len(units)} sets that share a group or an input "
            f"and are not cut apart: too few for {k} folds.",
            fix="Take fewer folds, or name another column as the group.",
        )
    least = units.least(columns.ids)
    lots = ((unit, least.take(unit)) for unit in units.firsts())
    ranked = in_rank(columns.ids, lots, f"{seed}:folds")
    # large ones first, while there is room everywhere
    sized = (records(_SIZED, key=-units.sizes.take(lot), unit=lot) for lot in ranked)
    order = Column.of(np.int32, (lot["unit"] for lot in in_order(sized)))
    labels = columns.several
    if labels is None and columns.classes is not None:
        labels = one_each(columns.classes)
    parts = distribute(order, units, labels, [1 / k] * k)
    fold_of = Column.full(len(columns), 0, np.int32)
    for start, block in order.blocks():
        fold_of.put(block, parts.read(start, start + len(block)))
    return Column.of(np.int32, (fold_of.take(block) for _, block in units.of.blocks()))
