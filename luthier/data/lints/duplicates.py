"""Rows that repeat others, word for word or nearly so."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from luthier.data.examples import Example
from luthier.data.linting import (
    LINTS,
    MOST_ROWS,
    Finding,
    LintContext,
    number,
    percent,
    shortened,
    sources,
)
from luthier.data.near_duplicates import Twins
from luthier.data.twins import hashed, outputs_of, twins_of
from luthier.data.words import mix

#: The share of repeats in training above which they are more than an accident.
MANY = 0.05
#: The share of near-duplicates above which the rows say less than their number promises.
MANY_NEAR = 0.2


@LINTS.register("duplicates")
def duplicates(context: LintContext) -> Iterator[Finding]:
    """Training rows with the input and the output of an earlier one, and with nearly its input.

    Repeats weigh a row more than its fellows and invite learning it by heart.
    """
    if not context.splits.train:
        return
    twins = twins_of(context)
    yield from _equal(context, twins)
    yield from _near(context, twins)


def _equal(context: LintContext, twins: Twins) -> Iterator[Finding]:
    train = context.splits.train
    pairs = mix(twins.equal[: len(train)].astype(np.uint64)) ^ outputs_of(context)[: len(train)]
    _, first, kind, counts = np.unique(
        pairs, return_index=True, return_inverse=True, return_counts=True
    )
    count = len(train) - len(first)
    if not count:
        return
    repeats = np.flatnonzero(first[kind] != np.arange(len(train)))
    # the most frequent, and of several the one that comes first
    most = max(np.flatnonzero(counts == counts.max()), key=lambda group: -int(first[group]))
    example = train[int(first[most])]
    everything = context.everything
    texts = len(np.unique(hashed(_inputs(context))))
    folded = len(np.unique(twins.equal))
    yield Finding(
        "duplicates",
        "warning" if count > MANY * len(train) else "note",
        count,
        sources(train[int(row)] for row in repeats[:MOST_ROWS]),
        f"{number(count, 'training row')} ({percent(count, len(train))}) "
        f"{'repeats' if count == 1 else 'repeat'} another, up to case, spacing and punctuation; "
        f"the most frequent stands {int(counts[most])} times: "
        f"{shortened(example.input)!r} ({example.source}). All splits together are "
        f"{number(len(everything), 'row')} with {number(texts, 'unique input text')}"
        + (f" ({folded:,} up to case, spacing and punctuation)" if folded != texts else "")
        + ". A repeated row counts more than others and is learned by heart.",
        "Keep one of each, unless the repeats are how often the thing really comes.",
        fixable=_word_for_word(train, kind, np.flatnonzero(counts > 1)),
    )


def _word_for_word(
    train: Sequence[Example], kind: npt.NDArray[np.int64], repeated: npt.NDArray[np.int64]
) -> bool:
    """Whether rows repeat others to the letter, which is what `--fix` leaves out.

    Args:
        train: the rows.
        kind: [rows] equal for rows that are equal when folded.
        repeated: the kinds with several rows.
    """
    seen = set()
    for row in np.flatnonzero(np.isin(kind, repeated)).tolist():
        example = train[row]
        said = (tuple((m.role, m.content.rstrip()) for m in example.messages), example.output)
        if (key := hash(said)) in seen:
            return True
        seen.add(key)
    return False


def _near(context: LintContext, twins: Twins) -> Iterator[Finding]:
    train = context.splits.train
    equal, cluster = twins.equal[: len(train)], twins.cluster[: len(train)]
    # one row for each distinct input; those whose cluster has another one before them
    _, distinct = np.unique(equal, return_index=True)
    distinct = np.sort(distinct)
    _, leaders, of = np.unique(cluster[distinct], return_index=True, return_inverse=True)
    followers = np.flatnonzero(leaders[of.ravel()] != np.arange(len(distinct)))
    if not len(followers):
        return
    count = len(followers)
    mine = train[int(distinct[followers[0]])]
    twin = train[int(distinct[leaders[of.ravel()[followers[0]]]])]
    yield Finding(
        "near_duplicates",
        "warning" if count > MANY_NEAR * len(distinct) else "note",
        count,
        sources(train[int(distinct[row])] for row in followers[:MOST_ROWS]),
        f"{number(count, 'training input')} ({percent(count, len(distinct))} of the distinct ones) "
        f"{'differs' if count == 1 else 'differ'} from another in about one word in ten, or are "
        f"linked to it by others that do: {mine.source} ({shortened(mine.input)!r}) and "
        f"{twin.source} ({shortened(twin.input)!r}). They teach little that is new, and a split "
        "that parts them flatters the score.",
        "Keep the best of each, where they are copies of one text; a cut never parts them.",
    )


def _inputs(context: LintContext) -> Iterator[str]:
    for example in context.everything:
        yield "\x00".join(message.content for message in example.messages)
