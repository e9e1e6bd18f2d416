"""Texts that are near to no other, and such that all are near, for tests of what is alike."""

from __future__ import annotations

import random


def text(number: int) -> str:
    """Twelve words, eight of them made of the number's own letters."""
    chance = random.Random(number)
    words = ["".join(chance.choices("abcdefghij", k=4)) for _ in range(8)]
    return f"{' '.join(words)} or not at all"


def one_word_changed(number: int) -> str:
    """A text of fourteen words with one of them the number's own: all of these are near."""
    words = [*text(0).split(), "and", "more"]
    words[number % 14] = text(number + 1).split()[0]
    return " ".join(words)
