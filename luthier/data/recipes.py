"""From rows to examples, the way a task's `data` section says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from luthier.data.conversations import split_conversation
from luthier.data.examples import Conversation, Example, Message
from luthier.data.reading import MissingColumnError, SourceRow
from luthier.data.template_library import library_template
from luthier.data.templates import compile_template
from luthier.errors import InputError
from luthier.files import hash_of
from luthier.task import Data

_Convert = Callable[[SourceRow], tuple[Conversation, Message]]


def make_examples(rows: Sequence[SourceRow], data: Data) -> list[Example]:
    """The examples of one source, in its order.

    White space around an output is left out, as it is left out of answers.

    Args:
        rows: of one file, folder or hub split.
        data: how a row becomes an input and an output, and which column names its group.

    Raises:
        InputError: a template that does not compile or fits no row, a conversation of a wrong
            shape, a blank input or output, text that is no Unicode, one id given twice.
    """
    convert, used = _recipe(data)
    try:
        converted = [(row, *convert(row)) for row in rows]
    except MissingColumnError as error:
        raise _lacking(error, rows) from None
    parts = [(row, messages, said.content.strip()) for row, messages, said in converted]
    _check_text(parts)
    ids: dict[str, str] = {}
    repeats: dict[str, int] = {}
    examples = []
    for (row, messages, output), (_, _, said) in zip(parts, converted, strict=True):
        example = Example(
            id="",
            messages=messages,
            output=output,
            group=_group(row, data),
            source=row.source,
            fields=_fields(row, used) or None,
            weight=said.weight,
        )
        example = replace(example, id=_id(row, example, ids, repeats))
        ids[example.id] = row.source
        examples.append(example)
    return examples


def _recipe(data: Data) -> tuple[_Convert, set[str]]:
    """(what turns a row into a conversation and its output, the columns that takes)."""
    if data.messages is not None:
        column = data.messages

        def from_messages(row: SourceRow) -> tuple[Conversation, Message]:
            if column not in row.values:
                raise MissingColumnError("data.messages", column, row)
            return split_conversation(row.values[column], f"{row.source}, column {column!r}")

        return from_messages, {column}

    if data.template is not None:
        named = library_template(data.template)
        where = f"data.template: {named.name}"
        asked, answered = (
            compile_template(named.input, where),
            compile_template(named.output, where),
        )
    else:
        asked = compile_template(data.input or "", "data.input")
        answered = compile_template(data.output or "", "data.output")

    def from_templates(row: SourceRow) -> tuple[Conversation, Message]:
        return (Message("user", asked.render(row)),), Message("assistant", answered.render(row))

    return from_templates, {*asked.columns, *answered.columns}


def _lacking(error: MissingColumnError, rows: Sequence[SourceRow]) -> InputError:
    """The same error, or a clearer one when only some rows lack the column."""
    without = [row for row in rows if error.column not in row.values]
    if len(without) == len(rows):
        return error
    shown = ", ".join(row.source for row in without[:5]) + ", ..." * (len(without) > 5)
    return InputError(
        f"`{error.key}` names the column {error.column!r}, which {len(without)} of {len(rows)} "
        f"rows do not have: {shown}.",
        fix="Fill it in or remove these rows; where it may be absent, say so in the template: "
        "{{ name | default('') }}.",
    )


def _check_text(parts: Sequence[tuple[SourceRow, Conversation, str]]) -> None:
    """Refuse blank inputs and outputs, and halves of surrogate pairs, which are no characters."""
    for what, blank in (
        ("input", [row for row, messages, _ in parts if not messages[-1].content.strip()]),
        ("output", [row for row, _, output in parts if not output]),
    ):
        if blank:
            shown = ", ".join(row.source for row in blank[:5]) + ", ..." * (len(blank) > 5)
            raise InputError(
                f"{len(blank)} of {len(parts)} rows have a blank {what}: {shown}.",
                fix=f"Fill them in or remove them, or check the template that makes the {what}.",
            )
    for row, messages, output in parts:
        for text in (*(message.content for message in messages), output):
            try:
                text.encode()
            except UnicodeEncodeError as error:
                raise InputError(
                    f"{row.source} holds \\u{ord(text[error.start]):04x} alone, half of a "
                    "character that takes two such codes.",
                    fix="The text was cut inside an emoji or a rare letter; mend or remove it.",
                ) from None


def _group(row: SourceRow, data: Data) -> str | None:
    if data.group is None:
        return None
    if data.group not in row.values:
        raise MissingColumnError("data.group", data.group, row)
    value = row.values[data.group]
    return None if value is None or str(value).strip() == "" else str(value)


def _id(row: SourceRow, example: Example, taken: dict[str, str], repeats: dict[str, int]) -> str:
    own = row.values.get("id")
    if isinstance(own, str | int) and str(own).strip():
        name = str(own).strip()
        if name in taken:
            raise InputError(
                f"{taken[name]} and {row.source} have the same id {name!r}.",
                fix="Make the ids unique, or rename the column when it is no id.",
            )
        return name
    talk = [[message.role, message.content] for message in example.messages]
    name = hash_of([talk, example.output])[:16]
    repeats[name] = repeats.get(name, 0) + 1
    return name if repeats[name] == 1 else f"{name}-{repeats[name]}"


def _fields(row: SourceRow, used: set[str]) -> dict[str, Any]:
    """The short plain columns that neither input nor output takes, for slices of the results."""
    return {
        name: value
        for name, value in row.values.items()
        if name not in used
        and (
            isinstance(value, bool | int | float) or (isinstance(value, str) and len(value) <= 200)
        )
    }
