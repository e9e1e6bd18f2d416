"""Finding personal data and secrets in texts."""

from __future__ import annotations

import bisect
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from luthier.data.privacy.spans import BORDER, DETECTORS, Detector, Document, Kind, Span
from luthier.errors import InputError, did_you_mean

#: Confidence below which nothing is said unless it is asked for.
LEAST = 0.5
#: Texts are searched together up to this many characters: a pattern is started once for many.
BLOCK = 1 << 16
# How far around digits a detector that needs some looks.
_BEFORE, _BEHIND = 100, 120
_LONGEST_WORD = 64
_CLUSTER = re.compile(rf"\d++(?:\D{{1,{_BEFORE + _BEHIND}}}+\d++)*+")


def kinds() -> dict[str, Kind]:
    """All kinds that can be found, by name."""
    return {kind.name: kind for _, found in DETECTORS for kind in found.kinds}


def chosen_types(names: Iterable[str]) -> frozenset[str]:
    """Names of kinds, or of levels ("secret"), or "all", as names of kinds.

    Raises:
        InputError: a name that is neither; the message suggests the nearest.
    """
    known = kinds()
    levels: dict[str, set[str]] = {"ALL": set(known)}
    for kind in known.values():
        levels.setdefault(kind.level.upper(), set()).add(kind.name)
    chosen: set[str] = set()
    for name in names:
        folded = name.strip().upper().replace("-", "_")
        if folded in levels:
            chosen |= levels[folded]
        elif folded in known:
            chosen.add(folded)
        else:
            raise InputError(
                f"Unknown type of personal data {name!r}.",
                fix=did_you_mean(folded, [*known, *levels]),
            )
    return frozenset(chosen)


def find(
    text: str,
    *,
    types: Iterable[str] | None = None,
    least: float = LEAST,
    presidio: bool = False,
) -> list[Span]:
    """Personal data and secrets in a text, in order, none overlapping.

    Where spans overlap, the more confident one stays, then the longer one. The time grows with
    the length of the text and no faster.

    Args:
        text: any text.
        types: names of kinds ("EMAIL"), levels ("secret", "identifier", "person", "detail") or
            "all"; None for all.
        least: the confidence from which on a span is returned.
        presidio: also ask Microsoft Presidio (English), which must be installed.

    Raises:
        InputError: an unknown type, or Presidio is wanted and not installed.
    """
    return next(iter(find_many([text], types=types, least=least, presidio=presidio)))


def find_many(
    texts: Iterable[str],
    *,
    types: Iterable[str] | None = None,
    least: float = LEAST,
    presidio: bool = False,
) -> Iterator[list[Span]]:
    """`find` for each of many texts, in order: many times faster than one by one.

    Texts are taken and answered in blocks of some 64 KB, so memory does not grow with their
    number.
    """
    wanted = None if types is None else chosen_types(types)
    detectors = [
        found
        for _, found in DETECTORS
        if wanted is None or any(kind.name in wanted for kind in found.kinds)
    ]
    block: list[str] = []
    size = 0
    for text in texts:
        if block and size + len(text) > BLOCK:
            yield from _search(block, detectors, wanted, least, presidio)
            block, size = [], 0
        block.append(text)
        size += len(text) + 1
    if block:
        yield from _search(block, detectors, wanted, least, presidio)


@dataclass(frozen=True)
class _Piece:
    """A part of a text: of which one, where it begins in it, and what it says."""

    index: int
    offset: int
    text: str


def _search(
    texts: list[str],
    detectors: list[Detector],
    wanted: Collection[str] | None,
    least: float,
    presidio: bool,
) -> Iterator[list[Span]]:
    found: list[list[Span]] = [[] for _ in texts]
    whole = [_Piece(index, 0, text) for index, text in enumerate(texts)]
    near = (
        [piece for index, text in enumerate(texts) for piece in _near_digits(index, text)]
        if any(one.digits for one in detectors)
        else []
    )
    for pieces, digits in ((whole, False), (near, True)):
        chosen = [one for one in detectors if one.digits == digits]
        if pieces and chosen:
            for index, span in _spans(pieces, chosen):
                if span.confidence >= least and (wanted is None or span.type in wanted):
                    found[index].append(span)
    for text, spans in zip(texts, found, strict=True):
        if presidio:
            from luthier.data.privacy.presidio import presidio_spans

            spans.extend(
                span
                for span in presidio_spans(text)
                if span.confidence >= least and (wanted is None or span.type in wanted)
            )
        yield apart(spans)


def _near_digits(index: int, text: str) -> Iterator[_Piece]:
    """The parts of a text that have digits within a hundred characters, cut between words."""
    end = 0
    for cluster in _CLUSTER.finditer(text):
        start = max(end, cluster.start() - _BEFORE)
        for _ in range(_LONGEST_WORD):
            if start <= end or text[start - 1].isspace():
                break
            start -= 1
        end = min(len(text), cluster.end() + _BEHIND)
        for _ in range(_LONGEST_WORD):
            if end == len(text) or text[end].isspace():
                break
            end += 1
        yield _Piece(index, start, text[start:end])


def _spans(pieces: list[_Piece], detectors: list[Detector]) -> Iterator[tuple[int, Span]]:
    """(index of the text, span in that text) of all that the detectors say."""
    starts, at = [], 0
    for piece in pieces:
        starts.append(at)
        at += len(piece.text) + len(BORDER)
    document = Document(
        pieces[0].text if len(pieces) == 1 else BORDER.join(piece.text for piece in pieces)
    )
    for one in detectors:
        for span in one.search(document):
            place = bisect.bisect_right(starts, span.start) - 1
            piece = pieces[place]
            if span.end > starts[place] + len(piece.text):
                continue  # it would run over into another text
            shift = piece.offset - starts[place]
            yield (
                piece.index,
                Span(
                    span.start + shift,
                    span.end + shift,
                    span.type,
                    span.text,
                    span.confidence,
                    span.evidence,
                ),
            )


def apart(spans: list[Span]) -> list[Span]:
    """The spans without those that overlap a more confident, or as confident and longer, one."""
    if len(spans) < 2:
        return spans
    kept: list[Span] = []
    places: list[int] = []
    for span in sorted(spans, key=lambda s: (-s.confidence, s.start - s.end, s.start, s.type)):
        index = bisect.bisect(places, span.start)
        if index and kept[index - 1].end > span.start:
            continue
        if index < len(kept) and kept[index].start < span.end:
            continue
        kept.insert(index, span)
        places.insert(index, span.start)
    return kept
