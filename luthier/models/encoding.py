"""Text to token ids for models that read a text and answer with labels."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from luthier.errors import ModelError


@dataclass(frozen=True)
class Window:
    """A part of a text, as much as a model reads at once.

    Attributes:
        ids: token ids, special ones included.
        words: for each word that begins here (its number in the text) the place of its first token
            in `ids`.
    """

    ids: list[int]
    words: dict[int, int]


def sequence_ids(tokenizer: Any, text: str, longest: int) -> tuple[list[int], int]:
    """(the ids of a text with the tokenizer's special tokens, how many tokens were cut off).

    What has to be cut keeps its closing special token.

    Args:
        tokenizer: a Hugging Face tokenizer.
        text: what is read.
        longest: tokens there may be.
    """
    ids = [int(i) for i in tokenizer(text, add_special_tokens=True, verbose=False)["input_ids"]]
    ids = ids or [tokenizer.pad_token_id or 0]  # a text without a token still needs one
    if len(ids) <= longest:
        return ids, 0
    _, end = special_ids(tokenizer)
    kept = ids[: longest - len(end)] + end
    return kept, len(ids) - len(kept)


def windows(tokenizer: Any, text: str, longest: int) -> list[Window]:
    """A text's tokens, its words (between white space) found in them, in windows of at most
    `longest` tokens. Together they hold every token; a window ends between words, but for words
    that are longer than one.

    A word's first token is the first one that begins inside it. White space in front of it, which
    byte-level tokenizers put into the token, does not count.

    Raises:
        ModelError: the tokenizer cannot say where its tokens come from.
    """
    if not tokenizer.is_fast:
        raise ModelError(
            "The model's tokenizer cannot say which characters its tokens stand for.",
            fix="Put a tokenizer.json into the model's folder.",
        )
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    ids = [int(i) for i in encoded["input_ids"]]
    first = _first_tokens(text, encoded["offset_mapping"])
    start, end = special_ids(tokenizer)
    room = longest - len(start) - len(end)
    out = []
    for a, b in _cuts(len(ids), sorted(first.values()), room):
        words = {w: place - a + len(start) for w, place in first.items() if a <= place < b}
        out.append(Window([*start, *ids[a:b], *end], words))
    return out


def _first_tokens(text: str, offsets: Sequence[tuple[int, int]]) -> dict[int, int]:
    """The place of the first token of each word, by the word's number."""
    starts, number = {}, -1  # character -> word
    for place, character in enumerate(text):
        if character.isspace():
            continue
        if place == 0 or text[place - 1].isspace():
            number += 1
        starts[place] = number
    first: dict[int, int] = {}
    for place, (begin, end) in enumerate(offsets):
        while begin < end and begin not in starts:
            begin += 1
        if begin < end:
            first.setdefault(starts[begin], place)
    return first


def _cuts(tokens: int, borders: Sequence[int], room: int) -> Iterator[tuple[int, int]]:
    """(start, end) of the windows over so many tokens, ending where words begin if they can."""
    start = 0
    while start < tokens:
        end = min(start + room, tokens)
        if end < tokens:
            end = max((b for b in borders if start < b <= end), default=end)
        yield start, end
        start = end


def special_ids(tokenizer: Any) -> tuple[list[int], list[int]]:
    """What the tokenizer puts before and after a text, such as [CLS] and [SEP]."""
    before, after = _special_ids(tokenizer)
    return list(before), list(after)


@functools.lru_cache(maxsize=8)
def _special_ids(tokenizer: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    whole = [int(i) for i in tokenizer("a", add_special_tokens=True)["input_ids"]]
    bare = [int(i) for i in tokenizer("a", add_special_tokens=False)["input_ids"]]
    for start in range(len(whole) - len(bare) + 1):
        if whole[start : start + len(bare)] == bare:
            return tuple(whole[:start]), tuple(whole[start + len(bare) :])
    return (), ()
