"""Which templates a file's columns fit, and which column is which field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from luthier.data.template_evidence import Column, fit_of, name_fit, named_fit, value_fit
from luthier.data.template_library import LibraryTemplate, TemplateField, library
from luthier.errors import InputError, did_you_mean, nearest

#: Fit of the worst field from which on a template fits, or may fit.
FITS, MAY_FIT = 0.65, 0.3


@dataclass(frozen=True)
class Fit:
    """How well a template fits a file.

    Attributes:
        template: which.
        level: "fits", "may fit", or "no" when a needed field has no column, or more than one only
            a guess.
        score: of the field that fits worst, 0 to 1.
        columns: field to column, for the fields that have one.
        missing: needed fields without a column.
        near: for a missing field, the column that comes nearest, where one does.
    """

    template: LibraryTemplate
    level: Literal["fits", "may fit", "no"]
    score: float
    columns: Mapping[str, str]
    missing: tuple[str, ...]
    near: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for --json."""
        return {
            "template": self.template.name,
            "level": self.level,
            "score": round(self.score, 2),
            "columns": dict(self.columns),
            "missing": list(self.missing),
            "near": dict(self.near),
        }


def match_all(columns: Sequence[Column], given: Mapping[str, str] | None = None) -> list[Fit]:
    """Every template of the library, the best fit first; see `match`."""
    fits = (match(template, columns, given) for template in library().values())
    return sorted(fits, key=lambda fit: -round(fit.score, 1))


def match(
    template: LibraryTemplate,
    columns: Sequence[Column],
    given: Mapping[str, str] | None = None,
    *,
    by_name: bool = False,
) -> Fit:
    """How well a template fits columns.

    Args:
        template: which.
        columns: from `look`.
        given: field to column, said by the user; it is taken as it is.
        by_name: take a column only where its name says what it is, and do so whatever it holds.
    """
    given = given or {}
    chosen = {name: column for name, column in given.items() if name in template.fields}
    scores = {
        name: {
            column.name: named_fit(field, column, columns)
            if by_name
            else fit_of(field, column, columns)
            for column in columns
        }
        for name, field in template.fields.items()
    }
    needed = [name for name in template.required if name not in chosen]
    best = _assign(needed, scores, frozenset(chosen.values()))
    chosen |= best
    for name in template.optional - set(chosen):
        # an optional field is filled only where its name says so: a wrong guess would be written
        field = template.fields[name]
        free = {
            column.name: scores[name][column.name]
            for column in columns
            if column.name not in chosen.values() and name_fit(field, column.name) >= 0.8
        }
        top = max(free, key=lambda column: free[column], default=None)
        if top is not None and (by_name or free[top] >= MAY_FIT):
            chosen[name] = top
    missing = tuple(name for name in template.required if name not in chosen)
    near = {}
    for name in missing:
        taken = {column for field, column in chosen.items() if field in template.required}
        found = _nearest_column(template.fields[name], columns, taken)
        if found:
            near[name] = found
    worst = min(
        (1.0 if n in given else scores[n][chosen[n]] for n in template.required if n in chosen),
        default=0.0,
    )
    if missing:
        level: Literal["fits", "may fit", "no"] = "no"
        worst = 0.0
    else:
        named = [
            n for n in template.required if n in given or name_fit(template.fields[n], chosen[n])
        ]
        # one column may be guessed from its values where others are known by name
        sure = len(named) >= max(1, len(template.required) - 1)
        level = "fits" if worst >= FITS else "may fit" if sure else "no"
    ordered = {name: chosen[name] for name in template.fields if name in chosen}
    return Fit(template, level, worst, ordered, missing, near)


def _assign(
    needed: Sequence[str], scores: Mapping[str, Mapping[str, float]], taken: frozenset[str]
) -> dict[str, str]:
    """Columns for the needed fields, no column twice: most fields filled, then the best fits."""
    if not needed:
        return {}
    name, *others = needed
    candidates = sorted(scores[name].items(), key=lambda item: -item[1])
    best: dict[str, str] = _assign(others, scores, taken)
    for column, score in [c for c in candidates if c[0] not in taken and c[1] >= MAY_FIT][:4]:
        found = {name: column, **_assign(others, scores, taken | {column})}
        if _worth(found, scores) > _worth(best, scores):
            best = found
        if score == 1.0:
            break
    return best


def _worth(
    found: Mapping[str, str], scores: Mapping[str, Mapping[str, float]]
) -> tuple[int, float]:
    return len(found), sum(scores[name][column] for name, column in found.items())


def _nearest_column(field: TemplateField, columns: Sequence[Column], taken: set[str]) -> str | None:
    """The free column that comes nearest to a field: by its spelling, else by its values."""
    free = [column for column in columns if column.name not in taken]
    near = nearest(field.name, [column.name for column in free])
    if near:
        return near
    fits = {column.name: value_fit(field, column, columns, 0.6) for column in free}
    best = max(fits, key=lambda name: fits[name], default=None)
    return best if best is not None and fits[best] >= 0.5 else None


def bind(
    template: LibraryTemplate,
    columns: Sequence[Column],
    given: Mapping[str, str] | None,
    where: str,
    shown: str,
    option: str = "--field",
    *,
    by_name: bool = False,
) -> dict[str, str]:
    """Field to column, for a template that the user named.

    Args:
        template: which.
        columns: of the file, from `look`.
        given: field to column, said by the user.
        where: the key or verb that named the template, for messages.
        shown: the file, for messages.
        option: how a column is given for a field there.
        by_name: as for `match`.

    Raises:
        InputError: a field the template does not have, a column the file does not have, or a
            needed field without a column; the message names the field and the nearest column.
    """
    names = [column.name for column in columns]
    for field, column in (given or {}).items():
        if field not in template.fields:
            raise InputError(
                f"`{option}` gives a column for {field!r}, which is no field of {template.name}.",
                fix=did_you_mean(field, template.fields),
            )
        if column not in names:
            raise InputError(
                f"`{option}` gives the column {column!r} for {field}, which {shown} does not have.",
                fix=did_you_mean(column, names),
            )
    fit = match(template, columns, given, by_name=by_name)
    if fit.missing:
        raise InputError(unfitting(fit, columns, where, shown), fix=mapping_hint(fit, option))
    return dict(fit.columns)


def unfitting(fit: Fit, columns: Sequence[Column], where: str, shown: str) -> str:
    """What a template needs and a file does not have, in one or two sentences."""
    lacks = " and ".join(f"{n!r} ({fit.template.fields[n].about})" for n in fit.missing)
    held = ", ".join(column.name for column in columns[:20]) + ", ..." * (len(columns) > 20)
    return f"`{where}` needs {lacks}, which {shown} does not have. Its columns: {held}."


def mapping_hint(fit: Fit, option: str) -> str:
    """How to say which column a missing field is."""
    near = next(iter(fit.near.items()), None)
    field, column = near or (fit.missing[0], "COLUMN")
    said = (
        f"{option} {field}={column}" if option == "--field" else f"{option}: {{{field}: {column}}}"
    )
    if near:
        return f"The nearest column is {column}: if it is meant, say `{said}`."
    return f"If one of them is meant, say `{said}`."
