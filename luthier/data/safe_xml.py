"""XML read piece by piece, with everything refused that can blow it up or reach elsewhere.

Python's expat never fetches anything. What it would do is put declared entities in place of their
names, which a few lines can multiply to gigabytes, so a file that declares an entity is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NoReturn
from xml.parsers import expat

from luthier.data import lines
from luthier.data.reading import Place
from luthier.errors import InputError

_BLOCK = 64 * 2**10
#: Deepest nesting that is read.
_DEEPEST = 50


@dataclass
class Element:
    """One child of the document's root.

    Attributes:
        name: its tag.
        line: where it begins, from 1.
        values: its attributes, and the text of each element in it by tag; text of its own is
            `text` where no such element is there. Of elements with one tag: a list.
    """

    name: str
    line: int
    values: dict[str, Any] = field(default_factory=dict)


class _Refusal(Exception):  # noqa: N818 - it carries the error out of the parser's callbacks
    def __init__(self, error: InputError) -> None:
        super().__init__(str(error))
        self.error = error


def elements(place: Place) -> Iterator[Element]:
    """The children of the root one after another.

    Raises:
        InputError: broken XML, with its line; a declared entity; nesting deeper than 50; an
            element longer than `lines.LONGEST`.
    """
    reader = _Reader(place)
    with place.path.open("rb") as file:
        while True:
            block = file.read(_BLOCK)
            yield from reader.feed(block)
            if not block:
                return


class _Reader:
    def __init__(self, place: Place) -> None:
        self._place = place
        self._done: list[Element] = []
        self._open: list[str] = []
        self._text: list[str] = []
        self._size = 0
        self._current: Element | None = None
        parser = self._parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        parser.EntityDeclHandler = self._entity
        parser.ExternalEntityRefHandler = self._entity

    def feed(self, block: bytes) -> list[Element]:
        """The elements that end in the block; an empty block ends the document."""
        try:
            self._parser.Parse(block, not block)
        except _Refusal as refusal:
            raise refusal.error from None
        except expat.ExpatError as error:
            raise InputError(
                f"{self._place.shown} line {error.lineno}, column {error.offset + 1}: broken XML: "
                f"{expat.ErrorString(error.code)}.",
                fix="Check that the file was copied whole.",
            ) from None
        except (ValueError, LookupError) as error:  # an encoding that is not known
            raise InputError(f"{self._place.shown}: broken XML: {error}.") from None
        done, self._done = self._done, []
        return done

    def _refuse(self, problem: str, fix: str = "") -> NoReturn:
        line = self._parser.CurrentLineNumber
        raise _Refusal(InputError(f"{self._place.shown} line {line}: {problem}.", fix=fix))

    def _entity(self, *_: Any) -> NoReturn:
        self._refuse(
            "an entity is declared, which data do not need and which can fill a memory",
            "Write the text itself in place of the entity.",
        )

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._open.append(name)
        if len(self._open) > _DEEPEST:
            self._refuse(f"elements are nested deeper than {_DEEPEST}")
        self._grow(len(name) + sum(len(k) + len(v) for k, v in attributes.items()))
        if len(self._open) == 2:
            self._current = Element(name, self._parser.CurrentLineNumber, dict(attributes))
            self._size = 0
        if len(self._open) in (2, 3):
            self._text = []

    def _characters(self, text: str) -> None:
        self._grow(len(text))
        if self._current is not None:
            self._text.append(text)

    def _grow(self, size: int) -> None:
        self._size += size
        if self._size > lines.LONGEST:
            self._refuse(f"an element is longer than {lines.shown_size(lines.LONGEST)}")

    def _end(self, name: str) -> None:
        depth = len(self._open)
        self._open.pop()
        current = self._current
        if current is None:
            return
        if depth == 3:
            said = "".join(self._text)
            self._text = []
            if name not in current.values:
                current.values[name] = said
            elif isinstance(current.values[name], list):
                current.values[name].append(said)
            else:
                current.values[name] = [current.values[name], said]
        elif depth == 2:
            said = "".join(self._text).strip()
            if said and "text" not in current.values:
                current.values["text"] = said
            self._done.append(current)
            self._current, self._size = None, 0
