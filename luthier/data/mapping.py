"""Columns of a table by the roles they have, so that any table can be read as a format."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from luthier.data.reading import SourceRow
from luthier.errors import InputError, did_you_mean

#: A role that decides which format a table with it is read as; the first that is given does.
_FORMATS = {
    "messages": "openai",
    "conversations": "sharegpt",
    "chosen": "preference",
    "label": "kto",
    "instruction": "alpaca",
    "prompt": "prompt-completion",
}
#: What a format needs besides.
_NEEDED = {
    "preference": ("chosen", "rejected"),
    "kto": ("prompt", "completion", "label"),
    "alpaca": ("instruction", "output"),
    "prompt-completion": ("prompt", "completion"),
}
ROLES = (*_FORMATS, "completion", "rejected", "input", "output", "system")
#: Roles whose values may be other than text.
_AS_THEY_ARE = ("messages", "conversations", "label")


def mapped(columns: Mapping[str, str]) -> tuple[Callable[[SourceRow], SourceRow], str]:
    """(what renames the columns of a row to their roles, the format that such rows are of).

    Numbers in a role of text become text. `input` and `output` are the prompt and the completion
    where there is no `instruction`.

    Args:
        columns: role to column.

    Raises:
        InputError: an unknown role, or too few of them; when renaming, a row that has another
            column of a role's name.
    """
    for role in columns:
        if role not in ROLES:
            raise InputError(f"Unknown role {role!r} in --map.", fix=did_you_mean(role, ROLES))
    alias = {} if "instruction" in columns else {"input": "prompt", "output": "completion"}
    roles = {alias.get(role, role): column for role, column in columns.items()}
    if len(roles) < len(columns):
        raise InputError("--map names one role twice.", fix="Name prompt and completion once.")
    format = next((name for role, name in _FORMATS.items() if role in roles), "prompt-completion")
    lacking = [role for role in _NEEDED.get(format, ()) if role not in roles]
    if lacking:
        raise InputError(
            f"--map does not say which column is the {lacking[0]}.",
            fix=f"Add --map {lacking[0]}=COLUMN.",
        )
    taken = set(roles.values())
    # the two formats that have no column of their own for it
    system = "system" in roles and format in ("prompt-completion", "kto")

    def rename(row: SourceRow) -> SourceRow:
        said = {role: _value(role, row.values.get(column)) for role, column in roles.items()}
        values = {name: value for name, value in row.values.items() if name not in taken}
        for role in said.keys() & values.keys():
            raise InputError(
                f"{row.source} has a column {role!r} of its own, and --map gives that name to "
                f"{roles[role]!r}.",
                fix=f"Rename one of the two, or use --map {role}={role}.",
            )
        if system:
            lead = said.pop("system")
            if isinstance(lead, str) and lead.strip() and isinstance(said["prompt"], str):
                said["prompt"] = [
                    {"role": "system", "content": lead},
                    {"role": "user", "content": said["prompt"]},
                ]
        return SourceRow({**said, **values}, row.source)

    return rename, format


def columns_missing(columns: Mapping[str, str], known: Iterable[str], source: str) -> None:
    """Raise `InputError` for a mapped column that the source does not have."""
    names = list(known)
    for role, column in columns.items():
        if column not in names:
            raise InputError(
                f"--map {role}={column}: {source} has no column {column!r}.",
                fix=did_you_mean(column, names),
            )


def _value(role: str, value: Any) -> Any:
    numeric = isinstance(value, int | float) and role not in _AS_THEY_ARE
    return str(value) if numeric else value
