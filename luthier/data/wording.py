"""How a cut is spoken of: in a task, or on the command line of `luthier split`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Wording:
    """The names of things in notes and errors.

    Attributes:
        rows: what the rows are that splits are cut from.
        group: where the column of groups is named.
        key: where a key of the split is named, with its name in place of "{}".
        sizes: where sizes are asked for.
        both: how both equal and near inputs are asked to be kept on one side.
        given: how a split is given as a file, with its name in place of "{}"; None where it cannot
            be.
    """

    rows: str
    group: str
    key: str
    sizes: str
    both: str
    given: str | None

    def or_give(self, names: Sequence[str]) -> str:
        """ ", or give `data.test`", where that can be done."""
        if self.given is None:
            return ""
        return f", or give {' and '.join(self.given.format(name) for name in names)}"


OF_TASK = Wording(
    rows="training rows",
    group="`data.group`",
    key="data.split.{}",
    sizes="`data.split`",
    both="`data.split.near_duplicates: true`",
    given="`data.{}`",
)
OF_FILE = Wording(
    rows="rows",
    group="`--group`",
    key="--{}",
    sizes="`--test` and `--validation`",
    both="`--near-duplicates`",
    given=None,
)
