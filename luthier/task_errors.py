"""What is wrong with a task file, in words a person can act on."""

from __future__ import annotations

from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from luthier.errors import did_you_mean

_MOST = 3


def explain(error: ValidationError, root: type[BaseModel]) -> str:
    """One line from the first things pydantic found wrong, each named by its key.

    Args:
        error: of validating a `root`.
        root: the model of the whole file.
    """
    lines = dict.fromkeys(_line(problem, root) for problem in _problems(error))
    return " ".join(list(lines)[:_MOST])


def _problems(error: ValidationError) -> list[Any]:
    """The problems, without those that only say which members of a union did not fit."""
    problems = error.errors(include_url=False)
    in_lists = {p["loc"][0] for p in problems if len(p["loc"]) > 2}
    return [
        problem
        for problem in problems
        if not (
            problem["type"] == "literal_error"
            and len(problem["loc"]) == 2
            and problem["loc"][0] in in_lists
        )
    ]


def _line(problem: Any, root: type[BaseModel]) -> str:
    # pydantic names the member of a union as a step of the path; no key of ours holds a bracket
    where = [str(part) for part in problem["loc"] if not str(part).startswith(("literal[", "tupl"))]
    key = ".".join(where) or "task"
    kind, given = problem["type"], problem["input"]
    if kind == "extra_forbidden":
        fields = _section(where[:-1], root).model_fields
        known = [field.alias or name for name, field in fields.items()]
        return f"unknown key `{key}`. {did_you_mean(where[-1], known)}"
    if kind == "missing":
        return f"`{key}` is missing."
    if kind == "value_error":
        return f"`{key}`: {problem['msg'].removeprefix('Value error, ')}."
    union = len(where) < len(problem["loc"])
    if union and kind in ("literal_error", "tuple_type"):
        return f"`{key}`: a list of names, or auto, is expected, not {_shown(given)}."
    if kind == "literal_error":
        choices = _choices(problem["ctx"]["expected"])
        if isinstance(given, str):
            return f"`{key}` is {_shown(given)}. {did_you_mean(given, choices)}"
        return f"`{key}`: one of {', '.join(choices)} is expected, not {_shown(given)}."
    if kind == "string_pattern_mismatch":
        return (
            f"`{key}` is {_shown(given)}; it may hold letters, digits, dots, dashes and "
            "underscores, and starts with a letter or a digit."
        )
    if kind == "string_too_short":
        return f"`{key}` is empty."
    bound = _bound(problem.get("ctx") or {})
    if bound:
        return f"`{key}` must be {bound}, not {_shown(given)}."
    if kind in _EXPECTED:
        return f"`{key}`: {_EXPECTED[kind]} is expected, not {_shown(given)}.{_hint(kind, given)}"
    return f"`{key}`: {problem['msg']}."


_EXPECTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "tuple_type": "a list",
    "model_type": "a section of `key: value` lines",
    "model_attributes_type": "a section of `key: value` lines",
    "dict_type": "a section of `key: value` lines",
}


def _hint(kind: str, given: Any) -> str:
    if kind == "string_type" and isinstance(given, int | float):
        return " Put quotes around it."
    if given is None:
        return " Give it a value, or leave the key out."
    return ""


def _bound(context: dict[str, Any]) -> str:
    words = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}
    for key, word in words.items():
        if key in context:
            return f"{word} {context[key]:g}"
    return ""


def _shown(value: Any) -> str:
    """A value in a few words; a list or a section is not written out, it may be endless."""
    if isinstance(value, str):
        text = repr(value[:40])
        return text if len(value) <= 40 else f"{text}..."
    if value is None:
        return "nothing"
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, dict):
        return "a section"
    return repr(value)[:60]


def _choices(expected: str) -> list[str]:
    """The names in pydantic's "'a', 'b' or 'c'"."""
    return expected.replace(" or ", ", ").replace("'", "").split(", ")


def _section(where: list[str], root: type[BaseModel]) -> type[BaseModel]:
    """The model of the section a path of keys leads to."""
    section = root
    for part in where:
        if part.isdigit():  # a place in a list of sections
            continue
        field = section.model_fields.get(part)
        # the section itself, or the one in `tuple[Section, ...]` and `Section | None`
        kinds = [field.annotation, *get_args(field.annotation)] if field else []
        inner = [k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel)]
        if not inner:
            break
        section = inner[0]
    return section
