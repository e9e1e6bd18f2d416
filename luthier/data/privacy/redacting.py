"""Files without personal data, and the way back.

Every text is searched, at any depth of a row. All files of one call, and all calls with one table,
share their pseudonyms, so a customer of the training rows is the same customer in the test rows.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from luthier.data.privacy.finding import LEAST, apart, find_many
from luthier.data.privacy.known_values import KnownValues
from luthier.data.privacy.pseudonyms import Pseudonyms, stands_for
from luthier.data.privacy.rewriting import Cell, check_new, each_cell, json_line, rewrite
from luthier.data.privacy.spans import Span
from luthier.files import write_atomically
from luthier.progress import Reporter

#: Times a text is searched again after something in it was replaced.
_ROUNDS = 8


@dataclass
class Wish:
    """What is replaced.

    Attributes:
        types: names of kinds.
        least: the confidence from which on.
        presidio: whether Presidio is asked too.
        secrets: secrets that were found; these are in no table.
    """

    types: frozenset[str]
    least: float = LEAST
    presidio: bool = False
    secrets: set[tuple[str, str]] = field(default_factory=set)


@dataclass
class Rewritten:
    """What was done.

    Attributes:
        files: each new file, and how many rows it has (texts: 1).
        logs: what was replaced where, a JSON object a line, without the values.
        counts: replaced values by kind.
        restored, unknown: pseudonyms that were brought back, and those that no table knows.
    """

    files: dict[str, int] = field(default_factory=dict)
    logs: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    restored: int = 0
    unknown: int = 0


def redact_texts(
    texts: Sequence[str], table: Pseudonyms, wish: Wish, known: KnownValues | None = None
) -> list[tuple[str, list[Span]]]:
    """Each text with pseudonyms in the place of what was found, and what that was.

    Doing it again changes nothing: a text is searched until nothing is found, and what stands for
    a value is not searched.
    """
    done: list[tuple[str, list[Span]]] = [(text, []) for text in texts]
    pending = list(range(len(texts)))
    for _ in range(_ROUNDS):
        parts = [_parts(done[index][0]) for index in pending]
        found = find_many(
            (piece for pieces, _ in parts for piece in pieces),
            types=wish.types,
            least=wish.least,
            presidio=wish.presidio,
        )
        changed = []
        for index, (pieces, between) in zip(pending, parts, strict=True):
            text, spans = "", list(done[index][1])
            for piece, after in zip(pieces, [*between, ""], strict=True):
                here = next(found)
                if known is not None:
                    here = _with_known(here, [s for s in known.find(piece) if s.type in wish.types])
                text += table.replace(piece, here) + after
                spans += here
            if len(spans) > len(done[index][1]):
                done[index] = text, spans
                changed.append(index)
        pending = changed
        if not pending:
            break
    return done


def _with_known(found: list[Span], known: list[Span]) -> list[Span]:
    """What was found and the known values, in order; where they overlap, the longer one."""
    if not known:
        return found
    first = {(span.start, span.end): span for span in [*known, *found]}
    alike = apart([replace(span, confidence=1.0) for span in first.values()])
    return [first[span.start, span.end] for span in alike]


def _parts(text: str) -> tuple[list[str], list[str]]:
    """(what is to be searched, what stands for values between)."""
    pattern = stands_for()
    return pattern.split(text), [match[0] for match in pattern.finditer(text)]


def redact_files(
    sources: Sequence[str],
    outs: Sequence[Path],
    table: Pseudonyms,
    wish: Wish,
    save: Callable[[], None],
    reporter: Reporter | None = None,
) -> Rewritten:
    """Write each source anew without what is wished away, and a log beside it.

    The sources are read twice: to find what is there, then to replace it wherever it stands.
    Memory: the table of values, and some hundred kilobytes of rows.

    Args:
        sources: as for `stream_rows`, or .txt and .md files, which stay what they are.
        outs: a new file for each; rows become JSON lines.
        table: takes the new values.
        wish: what is replaced.
        save: stores the table; called before any new file is in its place.
        reporter: hears how far it is.

    Raises:
        InputError: a source cannot be read, or a new file is there already.
        RunError: a file cannot be written.
    """
    logs = [out.with_name(f"{out.stem}.changes.jsonl") for out in outs]
    check_new([*outs, *logs])
    result = Rewritten(logs=[str(log) for log in logs])
    with (reporter or Reporter()).work("replacing personal data", 2 * len(sources)) as bar:
        for source in sources:
            bar.note(source)
            each_cell(source, lambda cells: _look(cells, table, wish))
            bar.advance()
        known = KnownValues([*table.pairs(), *wish.secrets])

        def write(source: str, out: Path, log: Path) -> None:
            with log.open("w", encoding="utf-8") as logged:

                def change(cells: list[Cell]) -> list[str]:
                    answers = redact_texts([cell.text for cell in cells], table, wish, known)
                    for cell, (_, spans) in zip(cells, answers, strict=True):
                        for span in spans:
                            result.counts[span.type] += 1
                            logged.write(_logged(cell, span, table))
                    return [text for text, _ in answers]

                result.files[str(out)] = rewrite(source, out, change, save)

        for source, out, log in zip(sources, outs, logs, strict=True):
            bar.note(source)
            write_atomically(log, functools.partial(write, source, out))
            bar.advance()
    return result


def restore_files(
    sources: Sequence[str],
    outs: Sequence[Path],
    table: Pseudonyms,
    reporter: Reporter | None = None,
) -> Rewritten:
    """Write each source anew with the values back in the place of their pseudonyms.

    A source may be what was redacted, or anything made of it: predictions, a report as text.

    Raises:
        InputError: a source cannot be read, or a new file is there already.
        RunError: a file cannot be written.
    """
    check_new(outs)
    result = Rewritten()

    def change(cells: list[Cell]) -> list[str]:
        restored = []
        for cell in cells:
            text, back, unknown = table.restored(cell.text)
            result.restored += back
            result.unknown += unknown
            restored.append(text)
        return restored

    with (reporter or Reporter()).work("bringing values back", len(sources)) as bar:
        for source, out in zip(sources, outs, strict=True):
            result.files[str(out)] = rewrite(source, out, change, lambda: None)
            bar.advance()
    return result


def _look(cells: list[Cell], table: Pseudonyms, wish: Wish) -> list[str]:
    for _, spans in redact_texts([cell.text for cell in cells], table, wish):
        wish.secrets.update((s.type, s.text) for s in spans if table.of(s) == f"[{s.type}]")
    return []


def _logged(cell: Cell, span: Span, table: Pseudonyms) -> str:
    return json_line(
        {
            "row": cell.row,
            "where": cell.where,
            "type": span.type,
            "written": table.of(span),
            "confidence": span.confidence,
            "evidence": span.evidence,
        }
    )
