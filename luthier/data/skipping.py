"""Rows of a task that cannot be used, left out where `data.refused: skip` says so."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from luthier.data.examples import Conversation, Example, Message
from luthier.data.numbered import hash64
from luthier.data.reading import MissingColumnError, SourceRow
from luthier.data.recipes import check_unicode, identify, made_of
from luthier.data.refused import Refused
from luthier.errors import InputError
from luthier.task_sections import Data


def usable_examples(
    rows: Iterable[SourceRow],
    convert: Callable[[SourceRow], tuple[Conversation, Message]],
    used: set[str],
    data: Data,
    refused: Refused,
) -> Iterator[Example]:
    """The examples of the rows that can be used, one after another.

    A row is refused where it lacks a column, its conversation has a wrong shape, its input or
    output is blank or no Unicode, or its id is that of a row before it.

    Args:
        rows: of one source.
        convert, used: of `recipes.recipe_of`, or of a template of the library.
        data: the task's.
        refused: takes the others.

    Raises:
        InputError: every row lacks one column, so that the task and not the rows is wrong.
    """
    seen: dict[int, int] = {}
    lacking: dict[str, MissingColumnError] = {}
    other = False  # whether anything else was wrong, or right
    for row in rows:
        try:
            messages, said = convert(row)
            example = made_of(row, messages, said, data, used)
            _check(row, example)
            name = _named(row, example, seen)
        except InputError as error:
            refused.add(row.source, error)
            if isinstance(error, MissingColumnError):
                lacking.setdefault(error.column, error)
            else:
                other = True
        else:
            other = True
            yield replace(example, id=name)
    if len(lacking) == 1 and not other:
        raise next(iter(lacking.values()))


def _check(row: SourceRow, example: Example) -> None:
    for what, text in (("input", example.input), ("output", example.output)):
        if not text.strip():
            raise InputError(
                f"{row.source} has a blank {what}.",
                fix=f"Fill it in, or check the template that makes the {what}.",
            )
    check_unicode(row, example.messages, example.output)


def _named(row: SourceRow, example: Example, seen: dict[int, int]) -> str:
    """The row's own id, else one from its content, as without rows that are left out."""
    name, own = identify(row, example)
    key = hash64(name)
    if own and key in seen:
        raise InputError(
            f"{row.source} has the same id {name!r} as a row before it.",
            fix="Make the ids unique, or rename the column when it is no id.",
        )
    seen[key] = count = seen.get(key, 0) + 1
    return name if count == 1 else f"{name}-{count}"
