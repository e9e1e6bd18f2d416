"""Reading the files of the template library: typed, and every mistake named."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from luthier.data.template_library import LETTERS, LibraryTemplate, Phrasing, TemplateField
from luthier.data.template_values import KINDS
from luthier.errors import InputError
from luthier.task_errors import explain
from luthier.task_sections import Kind

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

#: Fields whose values a template with `choices: FIELD` takes its choices from.
CHOOSING = ("label", "options")
#: libyaml reads the whole library in a twentieth of a second, ten times faster than Python does.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Definition(_Closed):
    kind: str
    about: str = Field(min_length=3)
    also: tuple[str, ...] = ()
    values: dict[str, tuple[str, ...]] | None = None
    guess: bool = False

    @model_validator(mode="after")
    def _known_kind(self) -> _Definition:
        if self.kind not in KINDS:
            raise ValueError(f"kind is {self.kind!r}, none of {', '.join(KINDS)}")
        if self.values and self.kind != "label":
            raise ValueError("only a label has `values`")
        return self


class _Wording(_Closed):
    input: str = Field(min_length=1)
    output: str | None = None
    weight: float = Field(default=1.0, gt=0)


class _Unless(_Closed):
    if_: str = Field(alias="if")
    because: str


class _Entry(_Closed):
    version: int = Field(ge=1)
    kind: Kind
    about: str = Field(min_length=3)
    fields_: tuple[str, ...] = Field(alias="fields", min_length=1)
    optional: tuple[str, ...] = ()
    choices: tuple[str, ...] | str | None = None
    unless: tuple[_Unless, ...] = ()
    answer_in_input: str = ""
    verbatim: bool = False
    output: str = Field(min_length=1)
    phrasings: dict[str, str | _Wording] = Field(min_length=1)
    example: dict[str, Any]


class _Vocabulary(_Closed):
    fields_: dict[str, _Definition] = Field(alias="fields")


class _Group(_Closed):
    fields_: dict[str, _Definition] = Field(default={}, alias="fields")
    templates: dict[str, _Entry] = Field(min_length=1)


def read_vocabulary(file: Traversable) -> dict[str, TemplateField]:
    """The fields that templates of every group may use, by name.

    Raises:
        InputError: the file is broken; it is named, with the entry and the key.
    """
    return _fields(_read(file, _Vocabulary).fields_)


def read_group(file: Traversable, shared: Mapping[str, TemplateField]) -> list[LibraryTemplate]:
    """The templates of one file, in its order; the group is called as the file is.

    Args:
        file: YAML; see `luthier.data.library`.
        shared: fields it need not define itself.

    Raises:
        InputError: the file is broken; it is named, with the entry and the key.
    """
    group = _read(file, _Group)
    fields = {**shared, **_fields(group.fields_)}
    name = file.name.removesuffix(".yaml").replace("_", " ")
    return [_template(key, name, entry, fields) for key, entry in group.templates.items()]


def _fields(definitions: Mapping[str, _Definition]) -> dict[str, TemplateField]:
    return {
        name: TemplateField(name, one.kind, one.about, one.also, one.values, one.guess)
        for name, one in definitions.items()
    }


def _template(
    name: str, group: str, entry: _Entry, fields: Mapping[str, TemplateField]
) -> LibraryTemplate:
    wanted = (*entry.fields_, *entry.optional)
    unknown = next((field for field in wanted if field not in fields), None)
    if unknown:
        raise InputError(f"The template {name} needs the field {unknown!r}, which nothing defines.")
    kinds = {field: fields[field].kind for field in wanted}
    if isinstance(entry.choices, str) and not (
        kinds.get(entry.choices) in CHOOSING
        or (entry.choices == LETTERS and "options" in kinds.values())
    ):
        raise InputError(
            f"The template {name} has `choices: {entry.choices}`, which is none of its fields of "
            "kind label or options."
        )
    wordings = {
        key: _Wording(input=value) if isinstance(value, str) else value
        for key, value in entry.phrasings.items()
    }
    return LibraryTemplate(
        name=name,
        version=entry.version,
        group=group,
        kind=entry.kind,
        about=entry.about,
        fields={field: fields[field] for field in wanted},
        optional=frozenset(entry.optional),
        phrasings={
            key: Phrasing(key, one.weight, one.input.strip(), (one.output or entry.output).strip())
            for key, one in wordings.items()
        },
        choices=entry.choices,
        unless=tuple((one.if_, one.because) for one in entry.unless),
        answer_in_input=entry.answer_in_input,
        verbatim=entry.verbatim,
        example=entry.example,
    )


def _read(file: Traversable, shape: type[Any]) -> Any:
    try:
        return shape.model_validate(yaml.load(file.read_text(encoding="utf-8"), _LOADER))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}" if mark else ""
        raise InputError(
            f"{file.name}{where}: {getattr(error, 'problem', None) or 'broken YAML'}."
        ) from None
    except ValidationError as error:
        raise InputError(f"{file.name}: {explain(error, shape)}") from None
