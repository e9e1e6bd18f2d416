"""Test texts that training has inside longer ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from luthier.data.columns import text_of
from luthier.data.examples import Example
from luthier.data.linting import LINTS, Finding, LintContext, number, percent, shortened, sources
from luthier.data.stored import chosen_from
from luthier.data.twins import SIDES, twins_of

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

#: Words of a window, as for GPT-3 (Brown et al. 2020, arXiv 2005.14165, appendix C).
WINDOW = 13
#: The share of a text's words that must lie in windows that training has too: a "dirty" sample of
#: Llama 2 (Touvron et al. 2023, arXiv 2307.09288, appendix A.6). At half of the words, rows made of
#: a few parts (attributes of restaurants) would be named too.
COVERED = 0.8
#: Windows that more training rows hold than this share, at least the first and at most the second
#: number, are what a template writes, and say nothing of a row.
OFTEN, OFTEN_LEAST, OFTEN_MOST = 0.02, 3, 20
#: Test rows and training rows looked at, and words read of a text.
TESTED, TRAINED, READ = 5_000, 200_000, 2_000
#: Rows whose words are hashed at a time.
BATCH = 4_096
#: The share of the test above which its score is no longer to be trusted.
SERIOUS = 0.02


@LINTS.register("ngram_leakage")
def ngram_leakage(context: LintContext) -> Iterator[Finding]:
    """Test inputs four fifths of whose words stand, thirteen in a row, in training texts.

    So is a passage found that a longer one holds, or that is asked about on both sides. Rows that
    `leakage` names as equal or near are left out. Not seen are texts of under thirteen words, and
    those told in other words.
    """
    train, drawn = context.splits.train, context.sample("test", TESTED)
    if not train or not drawn.examples:
        return
    texts = [text_of(example.messages) for example in drawn.examples]
    looked = train if len(train) <= TRAINED else chosen_from(train, _evenly(len(train), TRAINED))
    shares, first = _covered(texts, looked)
    known = _known(context)
    found = [
        (example, looked[int(first[row])])
        for row, example in enumerate(drawn.examples)
        if shares[row] >= COVERED and example.id not in known
    ]
    if not found:
        return
    count, total = len(found), len(drawn.examples)
    test, twin = found[0]
    of = "" if len(looked) == len(train) else f" {len(looked):,} rows of"
    yield Finding(
        "ngram_leakage",
        "warning" if count > SERIOUS * total else "note",
        count,
        sources(example for example, _ in found),
        f"{number(count, 'test input')} ({percent(count, total)}{drawn.said}) "
        f"{'has' if count == 1 else 'have'} {COVERED:.0%} of {'its' if count == 1 else 'their'} "
        f"words or more in{of} training too, {WINDOW} or more in a row: {test.source} "
        f"({shortened(test.input)!r}) and {twin.source} ({shortened(twin.input)!r}). What was read "
        "in training is known in the test, so the score says less about new texts.",
        "Where both come from one document, name its column as `data.group`; else remove one of "
        "the two.",
    )


def _covered(texts: Sequence[str], train: Sequence[Example]) -> tuple[Array, Array]:
    """([texts] the share of each one's words in windows that training has, 0 to 1; [texts] the
    first training row that has such a window, or -1).

    Words of windows that are boilerplate count neither way.
    """
    import numpy as np

    windows, owner = _windows(texts)
    keys, place = np.unique(windows, return_inverse=True)
    counts = np.zeros(len(keys), np.int64)
    holder = np.full(len(keys), -1, np.int64)
    for start in range(0, len(train), BATCH):
        rows = [
            f"{text_of(example.messages)}\n{example.output}"
            for example in train[start : start + BATCH]
        ]
        seen, row = _windows(rows)
        at = np.searchsorted(keys, seen).clip(max=max(0, len(keys) - 1))
        hit = np.flatnonzero(keys[at] == seen) if len(keys) else np.zeros(0, np.int64)
        pairs = np.unique(np.stack((at[hit], row[hit])), axis=1)
        np.add.at(counts, pairs[0], 1)
        new = pairs[:, holder[pairs[0]] < 0]
        # the first row of each window: pairs are in the order of windows, then of rows
        _, firsts = np.unique(new[0], return_index=True)
        holder[new[0][firsts]] = new[1][firsts] + start
    often = min(OFTEN_MOST, max(OFTEN_LEAST, OFTEN * len(train)))
    shares, first = np.zeros(len(texts)), np.full(len(texts), -1, np.int64)
    bounds = np.searchsorted(owner, np.arange(len(texts) + 1))
    for text in range(len(texts)):
        mine = place[bounds[text] : bounds[text + 1]]
        own = (counts[mine] > 0) & (counts[mine] <= often)
        if not own.any():
            continue
        inside, stock = _spread(own), _spread(counts[mine] > often)
        shares[text] = (inside & ~stock).sum() / max(1, (~stock).sum())
        first[text] = holder[mine[own]].min()
    return shares, first


def _windows(texts: Sequence[str]) -> tuple[Array, Array]:
    """(64-bit hashes of each text's windows of words in order, the text each is of)."""
    import numpy as np

    from luthier.data.words import folded_words, hash_words, mix

    cut = [" ".join(folded_words(text[: 12 * READ]).split()[:READ]) for text in texts]
    hashes, lengths = hash_words(cut)
    words = mix(hashes.astype(np.uint64))
    size = max(0, len(words) - WINDOW + 1)
    made = np.zeros(size, np.uint64)
    for word in range(WINDOW):
        made = made * np.uint64(0x9E3779B97F4A7C15) + words[word : word + size]
    of = np.repeat(np.arange(len(texts)), lengths)
    # a window that ends in another text than it begins is none
    whole = of[:size] == of[WINDOW - 1 : WINDOW - 1 + size]
    return mix(made[whole]), of[:size][whole]


def _spread(windows: Array) -> Array:
    """[words] whether each lies in one of the windows that are marked."""
    import numpy as np

    steps = np.zeros(len(windows) + WINDOW, np.int64)
    marked = np.flatnonzero(windows)
    np.add.at(steps, marked, 1)
    np.add.at(steps, marked + WINDOW, -1)
    inside: Array = np.cumsum(steps)[:-1] > 0
    return inside


def _known(context: LintContext) -> set[str]:
    """The ids of test rows that are equal or near to a training row."""
    across = twins_of(context).across.get((SIDES["test"], SIDES["train"]), {})
    everything = context.everything
    return {everything[row].id for row in across}


def _evenly(count: int, most: int) -> list[int]:
    return [index * count // most for index in range(most)]
