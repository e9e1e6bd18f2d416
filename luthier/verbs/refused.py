"""How verbs show the rows that could not be used."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from luthier.data.refused import Refused

_SHOWN = 5


def show_refused(refused: Refused, listed: Path | None) -> None:
    """Print the first refused rows, how many there were for which reasons, and where they are
    listed."""
    if not refused.count:
        return
    for row in refused.rows[:_SHOWN]:
        print(f"refused: {row.reason}")
    if refused.count > _SHOWN:
        for reason, count in refused.reasons.most_common(_SHOWN):
            print(f"refused {count:,}: {reason}")
    where = f"; listed in {listed}." if listed else "; list them with --refused FILE.jsonl."
    print(f"refused: {refused.count:,} row{'s' * (refused.count != 1)} in all{where}")
