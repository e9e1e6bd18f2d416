"""Training rows of one task that are questions of another task's test.

Tasks that are tuned on together, or one after another, may have been cut from the same source, each
with its own test. What one of them trains on must not be what another is tested on.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from luthier.data.examples import Example
from luthier.data.folding import fold_conversation
from luthier.data.stored import chosen_from


def without_tests(
    train: Sequence[Example], tests: Iterable[Sequence[Example]]
) -> tuple[Sequence[Example], int]:
    """Leave out what any test asks (up to case, space and punctuation).

    Returns:
        (the rows that may be trained on, in their order; how many were left out).
    """
    asked = {fold_conversation(example.messages) for test in tests for example in test}
    kept = [place for place, e in enumerate(train) if fold_conversation(e.messages) not in asked]
    return chosen_from(train, kept), len(train) - len(kept)
