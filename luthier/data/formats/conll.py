"""CoNLL columns: a word a line, its tag in the last column, a blank line behind each sentence."""

from __future__ import annotations

import contextlib
import itertools
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from jinja2.exceptions import TemplateRuntimeError

from luthier.data.entities import entities
from luthier.data.format import FORMATS, SAMPLE_LINES, Format, Recipe, Sample, Values
from luthier.data.line_files import each_file
from luthier.data.reading import Place, SourceRow
from luthier.errors import InputError

_ENDINGS = (".conll", ".iob", ".iob2", ".bio")
_TAG = re.compile(r"O|[BIESLU]-\S+")
_START = "-DOCSTART-"
#: A note on a sentence, as CoNLL-U has them: "# sent_id = 1".
_NOTE = re.compile(r"#\s?[\w.:-]+ = .*")
#: How schemes that also mark ends and single words (IOBES, BILOU) say what BIO says.
_AS_BIO = {"S": "B", "U": "B", "E": "I", "L": "I"}
_MARKED = tuple(f"{letter}-" for letter in _AS_BIO)


@dataclass(frozen=True)
class _Shape:
    """How lines are cut.

    Attributes:
        tabs: whether at tabs; else at white space.
        width: how many columns there are.
    """

    tabs: bool
    width: int

    def cut(self, line: str) -> list[str]:
        parts = line.split("\t") if self.tabs else line.split()
        while self.tabs and len(parts) > self.width and not parts[-1].strip():
            parts.pop()
        return [part.strip() for part in parts]

    def fits(self, line: str) -> bool:
        parts = self.cut(line)
        return len(parts) == self.width and all(parts)


def _blank(line: str) -> bool:
    # a byte order mark stands where files were joined
    return not line.strip().strip("\ufeff").strip()


def _is_word(line: str) -> bool:
    return not (_blank(line) or line.startswith(_START) or _NOTE.fullmatch(line))


def _shape(lines: Sequence[str]) -> _Shape | None:
    """The shape that most lines have; None where they are not in columns."""
    words = [line for line in lines if _is_word(line)]
    for tabs in (True, False):
        widths = Counter(len(line.split("\t") if tabs else line.split()) for line in words)
        width, count = widths.most_common(1)[0] if widths else (0, 0)
        if width >= 2 and count >= 0.8 * len(words):
            return _Shape(tabs, width)
    return None


def _detect(sample: Sample) -> bool:
    shape = _shape(sample.lines)
    if shape is None:
        return False
    if Path(sample.place.path).suffix.lower() in _ENDINGS:
        return True
    fitting = [line for line in sample.lines if _is_word(line) and shape.fits(line)]
    tagged = sum(_TAG.fullmatch(shape.cut(line)[-1]) is not None for line in fitting)
    return bool(fitting) and tagged >= 0.95 * len(fitting)


#: Words of the longest sentence that is read; where no blank line parts them, a file is one.
MOST_WORDS = 50_000


@dataclass
class _Sentence:
    tokens: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    source: str = ""
    error: tuple[str, InputError] | None = None


def _read(rows: Iterator[SourceRow], place: Place, option: str) -> Iterator[SourceRow]:
    for name, lines in each_file(rows):
        first = list(itertools.islice(lines, SAMPLE_LINES))
        shape = _shape([row.values["text"] for row in first])
        if shape is None:
            raise InputError(
                f"{name}: its lines are not in columns.",
                fix="CoNLL files have a word, tabs or spaces, and its tag in each line.",
            )
        yield from _sentences(itertools.chain(first, lines), shape, place)


def _sentences(lines: Iterator[SourceRow], shape: _Shape, place: Place) -> Iterator[SourceRow]:
    document = 0
    sentence = _Sentence()
    for row in lines:
        line = row.values["text"]
        started = line.startswith(_START)
        if not _blank(line) and not started:
            _add(sentence, row, shape)
            continue
        yield from _ended(sentence, document, place)
        sentence = _Sentence()
        document += started
    yield from _ended(sentence, document, place)


def _add(sentence: _Sentence, row: SourceRow, shape: _Shape) -> None:
    line = row.values["text"]
    sentence.source = sentence.source or row.source
    if _NOTE.fullmatch(line):
        return
    if len(sentence.tokens) >= MOST_WORDS:
        if sentence.error is None:
            problem = f"{sentence.source}: a sentence has more than {MOST_WORDS:,} words."
            error = InputError(problem, fix="Part sentences by blank lines.")
            sentence.error = (sentence.source, error)
    elif shape.fits(line):
        word, *_, tag = shape.cut(line)
        sentence.tokens.append(word)
        sentence.tags.append(tag)
    elif line.startswith("# ") and not sentence.tokens:
        return  # a note above a sentence
    elif sentence.error is None:
        found = len(shape.cut(line))
        columns = f"{found} column{'s' * (found != 1)} where the others have {shape.width}"
        columns = "an empty column" if found == shape.width else columns
        fix = "Mend the line. A sentence with such a line is left out whole."
        sentence.error = (
            row.source,
            InputError(f"{row.source} has {columns}: {line.strip()[:60]!r}.", fix=fix),
        )


def _ended(sentence: _Sentence, document: int, place: Place) -> Iterator[SourceRow]:
    if sentence.error is not None:
        place.refuse(*sentence.error)
    elif sentence.tokens:
        values: Values = {
            "tokens": sentence.tokens,
            "tags": sentence.tags,
            "text": " ".join(sentence.tokens),
        }
        with contextlib.suppress(TemplateRuntimeError):  # tags of another kind: parts of speech
            values["entities"] = entities(sentence.tokens, _as_bio(sentence.tags))
        if document:
            values["document"] = document
        yield SourceRow(values, sentence.source)


def _as_bio(tags: Sequence[str]) -> list[str]:
    return [_AS_BIO[tag[0]] + tag[1:] if tag[:2] in _MARKED else tag for tag in tags]


def _recipe(sample: Sample) -> Recipe | None:
    shape = _shape(sample.lines)
    tags = (
        [shape.cut(line)[-1] for line in sample.lines if _is_word(line) and shape.fits(line)]
        if shape
        else []
    )
    if all(_TAG.fullmatch(tag) for tag in tags):
        return Recipe(input="{{ text }}", output="{{ entities }}")
    return Recipe(input="{{ text }}", output="{{ tags | join(' ') }}")


FORMATS.register("conll")(
    Format(
        name="conll",
        title="CoNLL columns (words and their tags)",
        detect=_detect,
        read=_read,
        recipe=_recipe,
        of_lines=True,
        rank=40,
    )
)
