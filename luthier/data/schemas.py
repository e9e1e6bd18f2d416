"""The JSON schema that structured answers are held against: the task's own, or one read off the
training outputs.

A task names it as `schema:`, a file or the schema itself. It must stand alone: nothing is fetched.
Formats ("date", "email") are checked, which JSON Schema leaves open. Where a task has none, the
training outputs tell which keys there are, which are always there, and of which types the values
are; no key they never have is expected then.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from luthier.data.examples import Example
from luthier.errors import InputError
from luthier.files import read_json
from luthier.task import Task
from luthier.yaml_files import read_yaml

#: Most rows that a schema is inferred from.
MOST_ROWS = 5_000


@dataclass(frozen=True, eq=False)
class AnswerSchema:
    """What answers are held against.

    Attributes:
        schema: the JSON schema.
        given: whether the task gives it; else it was inferred, and describes only.
    """

    schema: Mapping[str, Any]
    given: bool

    def problem(self, value: Any) -> str | None:
        """What is wrong with a JSON value, with its place in it; None for nothing."""
        from jsonschema.exceptions import best_match

        try:
            error = best_match(self._validator.iter_errors(value))
        except RecursionError:
            return "it is nested too deeply"
        if error is None:
            return None
        place = error.json_path.removeprefix("$").removeprefix(".")
        message = error.message if len(error.message) <= 200 else f"{error.message[:200]}..."
        return f"{place}: {message}" if place else message

    @cached_property
    def _validator(self) -> Any:
        from jsonschema import Draft202012Validator, FormatChecker
        from jsonschema.validators import validator_for

        # a `$ref` that is not in the schema is an error here, and never a download
        from jsonschema_specifications import REGISTRY

        made = validator_for(self.schema, default=Draft202012Validator)
        return made(self.schema, format_checker=FormatChecker(), registry=REGISTRY)


def answer_schema(task: Task, train: Sequence[Example]) -> AnswerSchema | None:
    """What the answers of a task are held against: None where it is no extraction, or where its
    training outputs are not JSON.

    Raises:
        InputError: the task's schema cannot be read or is none.
    """
    if task.kind != "extraction":
        return None
    given = given_schema(task)
    if given is not None:
        return AnswerSchema(given, given=True)
    values = []
    for example in train[:MOST_ROWS]:
        try:
            value = json.loads(example.output)
        except (ValueError, RecursionError):
            return None
        if not isinstance(value, dict | list):
            return None
        values.append(value)
    return AnswerSchema(infer_schema(values), given=False) if values else None


def given_schema(task: Task) -> dict[str, Any] | None:
    """The schema that a task gives, read and checked.

    Raises:
        InputError: the file is missing or no JSON or YAML, or what it holds is no schema, or not a
            whole one.
    """
    said = task.answer_schema
    if said is None:
        return None
    where = f"{task.path}: `schema`"
    schema: Any = said
    if isinstance(said, str):
        path = task.folder / Path(said).expanduser()
        where = str(path)
        if not path.is_file():
            raise InputError(
                f"{path} does not exist.", fix=f"`schema` of {task.path} names it; mend the path."
            )
        schema = read_json(path) if path.suffix == ".json" else read_yaml(path)
    if not isinstance(schema, dict):
        raise InputError(
            f"{where} is no JSON schema: an object is expected.",
            fix='Write one such as {"type": "object", "required": ["name"]}.',
        )
    # YAML has dates, and keys that are no text, where JSON has text
    plain: dict[str, Any] = json.loads(json.dumps(schema, default=str))
    _check(plain, where)
    return plain


def _check(schema: dict[str, Any], where: str) -> None:
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError
    from jsonschema.validators import validator_for
    from jsonschema_specifications import REGISTRY
    from referencing import Resource
    from referencing.exceptions import Unresolvable
    from referencing.jsonschema import DRAFT202012

    try:
        validator_for(schema, default=Draft202012Validator).check_schema(schema)
    except SchemaError as error:
        place = error.json_path.removeprefix("$").removeprefix(".")
        raise InputError(
            f"{where} is no JSON schema: {f'{place}: ' if place else ''}{error.message}.",
            fix="https://json-schema.org/learn shows what one looks like.",
        ) from None
    except RecursionError:
        raise InputError(f"{where} is nested too deeply.") from None
    resource = Resource.from_contents(schema, default_specification=DRAFT202012)
    name = str(schema.get("$id") or "")
    resolver = REGISTRY.with_resource(name, resource).crawl().resolver(base_uri=name)
    for reference in _references(schema):
        try:
            resolver.lookup(reference)
        except Unresolvable:
            raise InputError(
                f"{where} refers to {reference!r}, which is not in it.",
                fix="Put it under $defs of the same schema: nothing is fetched.",
            ) from None


def _references(schema: Any) -> Iterator[str]:
    stack = [schema]
    while stack:
        one = stack.pop()
        if isinstance(one, dict):
            if isinstance(one.get("$ref"), str):
                yield one["$ref"]
            stack.extend(one.values())
        elif isinstance(one, list):
            stack.extend(one)


def infer_schema(values: Sequence[Any]) -> dict[str, Any]:
    """The narrowest schema of keys and types that all values meet.

    Whole numbers and others are both "number": that all were whole so far says little.

    Args:
        values: JSON values, at least one.
    """
    types = sorted({_type(value) for value in values})
    schema: dict[str, Any] = {"type": types[0] if len(types) == 1 else types}
    objects = [value for value in values if isinstance(value, dict)]
    if objects:
        keys = list(dict.fromkeys(key for one in objects for key in one))
        schema["properties"] = {
            key: infer_schema([one[key] for one in objects if key in one]) for key in keys
        }
        schema["required"] = [key for key in keys if all(key in one for one in objects)]
        schema["additionalProperties"] = False
    items = [item for value in values if isinstance(value, list) for item in value]
    if items:
        schema["items"] = infer_schema(items)
    return schema


def _type(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    if value is None:
        return "null"
    kinds = ((dict, "object"), (list, "array"), (str, "string"))
    return next((name for kind, name in kinds if isinstance(value, kind)), "number")
