"""Test rows that belong together, and so count as one where chance is reckoned."""

from __future__ import annotations

from collections.abc import Sequence

from luthier.data.examples import Example

#: Fewer groups of test rows than this are not resampled.
_FEWEST_GROUPS = 5


def clusters_of(test: Sequence[Example]) -> tuple[list[str] | None, list[str]]:
    """The groups of the test's rows, for the statistics, and what must be said about them.

    Resampling a handful of groups gives intervals that mean nothing (one group: no width at all),
    so with fewer than five the rows are taken as independent, and the reader is told.
    """
    clusters = [e.group or f"row {i}" for i, e in enumerate(test)]
    found = len(set(clusters))
    if found >= _FEWEST_GROUPS:
        return clusters, []
    if found == len(clusters):  # no two rows belong together: there are few rows, not few groups
        return None, []
    return None, [
        f"The {len(test)} test rows come from only {found} group{'s' * (found != 1)}. The "
        "intervals treat them as independent and are too narrow: test on rows of more groups."
    ]
