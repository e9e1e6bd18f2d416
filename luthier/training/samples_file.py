"""samples.json: its name, and what it says in a sentence. Read where nothing heavy is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: The file in a stage's folder.
SAMPLES = "samples.json"


def in_words(held: Mapping[str, Any]) -> str:
    """How many answers training changed, and how far it moved the weights.

    Args:
        held: what the file holds.
    """
    parts = []
    rows = held.get("rows") or []
    if rows:
        parts.append(
            f"Training changed {held['changed']} of {len(rows)} answers to {held['split']} "
            "questions."
        )
    if held.get("note"):
        parts.append(str(held["note"]))
    relative = (held.get("weights") or {}).get("relative")
    if isinstance(relative, int | float):
        parts.append(f"The weights it changed moved by {relative:.2%} of their norm.")
    return " ".join(parts)
