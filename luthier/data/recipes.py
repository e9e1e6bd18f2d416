"""From rows to examples, the way a task's `data` section says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from luthier.data.conversations import split_conversation
from luthier.data.examples import Conversation, Example, Message
from luthier.data.reading import MissingColumnError, SourceRow
from luthier.data.refused import Refused
from luthier.data.template_rows import TemplateRows
from luthier.data.templates import compile_template
from luthier.errors import InputError
from luthier.files import hash_of
from luthier.task_sections import Data

Convert = Callable[[SourceRow], tuple[Conversation, Message]]


def make_examples(
    rows: Sequence[SourceRow],
    data: Data,
    *,
    labels: Sequence[str] | None = None,
    notes: list[str] | None = None,
    refused: Refused | None = None,
) -> list[Example]:
    """The examples of one source, in its order.

    White space around an output is left out, as it is left out of answers.

    Args:
        rows: of one file, folder or hub split.
        data: how a row becomes an input and an output, and which column names its group.
        labels: what a template of the library lets the model choose from; else those of the rows.
        notes: gets a sentence on each thing that such a template did which was not asked for.
        refused: takes rows that cannot be used; without it the first of them is an error.

    Raises:
        InputError: a template that does not compile or fits no row, a conversation of a wrong
            shape, a blank input or output, text that is no Unicode, one id given twice.
    """
    if data.template is not None:
        library = TemplateRows(rows, data, labels)
        rows, used = list(library.kept()), set(library.bound.columns.values())
        convert: Convert = library.turns
        if notes is not None:
            notes += library.notes()
    else:
        convert, used = recipe_of(data)
    if refused is not None:
        from luthier.data.skipping import usable_examples

        return list(usable_examples(rows, convert, used, data, refused))
    try:
        converted = [(row, *convert(row)) for row in rows]
    except MissingColumnError as error:
        raise _lacking(error, rows) from None
    parts = [(row, messages, said.content.strip()) for row, messages, said in converted]
    _check_text(parts)
    ids: dict[str, str] = {}
    repeats: dict[str, int] = {}
    examples = []
    for row, messages, said in converted:
        example = made_of(row, messages, said, data, used)
        example = replace(example, id=_id(row, example, ids, repeats))
        ids[example.id] = row.source
        examples.append(example)
    return examples


def made_of(
    row: SourceRow, messages: Conversation, said: Message, data: Data, used: set[str]
) -> Example:
    """The example of one row, without an id.

    Args:
        row: as it was read.
        messages, said: what `recipe_of` makes of it.
        data: the task's.
        used: the columns that input and output take.
    """
    return Example(
        id="",
        messages=messages,
        output=said.content.strip(),
        group=_group(row, data),
        source=row.source,
        fields=_fields(row, used, split_columns(data)) or None,
        weight=said.weight,
    )


def row_recipe(data: Data) -> Convert:
    """What turns one row into a conversation and its answer; not for templates of the library."""
    return recipe_of(data)[0]


def recipe_of(data: Data) -> tuple[Convert, set[str]]:
    """(what turns a row into a conversation and its output, the columns that takes)."""
    if data.messages is not None:
        column = data.messages

        def from_messages(row: SourceRow) -> tuple[Conversation, Message]:
            if column not in row.values:
                raise MissingColumnError("data.messages", column, row)
            return split_conversation(row.values[column], f"{row.source}, column {column!r}")

        return from_messages, {column}

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
        fix="Fill it in or remove these rows (`luthier check TASK --fix NEW.jsonl` does); where it "
        "may be absent, say so in the template: {{ name | default('') }}.",
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
                fix="Fill them in or remove them (`luthier check TASK --fix NEW.jsonl` does), or "
                f"check the template that makes the {what}.",
            )
    for row, messages, output in parts:
        check_unicode(row, messages, output)


def check_unicode(row: SourceRow, messages: Conversation, output: str) -> None:
    """Raise `InputError` for half of a surrogate pair in a row's texts."""
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
    name, own = identify(row, example)
    if own:
        if name in taken:
            raise InputError(
                f"{taken[name]} and {row.source} have the same id {name!r}.",
                fix="Make the ids unique, or rename the column when it is no id.",
            )
        return name
    repeats[name] = repeats.get(name, 0) + 1
    return name if repeats[name] == 1 else f"{name}-{repeats[name]}"


def identify(row: SourceRow, example: Example) -> tuple[str, bool]:
    """(the id of a row, whether it is the row's own; else it is made of the content)."""
    own = row.values.get("id")
    if isinstance(own, str | int) and str(own).strip():
        return str(own).strip(), True
    talk = [[message.role, message.content] for message in example.messages]
    return hash_of([talk, example.output])[:16], False


def split_columns(data: Data) -> frozenset[str]:
    """The columns that `data.split` names; an example keeps them whatever they hold."""
    return frozenset(name for name in (data.split.time, data.split.stratify) if name is not None)


def _fields(row: SourceRow, used: set[str], kept: frozenset[str]) -> dict[str, Any]:
    """The short plain columns that neither input nor output takes, for slices of the results.

    The answers of a pair (chosen, rejected) are kept at any length: the checks compare them.
    """
    return {
        name: value
        for name, value in row.values.items()
        if (name in kept and value is not None)
        or (
            name not in used
            and (
                isinstance(value, bool | int | float)
                or (isinstance(value, str) and len(value) <= 200)
                or (value and name in ("chosen", "rejected"))
            )
        )
    }
