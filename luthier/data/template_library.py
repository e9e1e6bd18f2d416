"""The template library: named, versioned ways of turning rows into instruction and answer.

A library file (`library/*.yaml`) holds the templates of one group of tasks. A template declares
the fields it needs; which column is which field is found by name and by value
(`template_matching`), or said by the user. What it writes is Jinja in the sandbox of row templates.
Adding a template is one entry in a file, and a new group is a new file; nothing else is edited.

The idea of several phrasings for one task is that of the FLAN collection (Wei et al. 2022, arXiv
2109.01652) and PromptSource (Bach et al. 2022, arXiv 2202.01279); the texts are our own.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any

from luthier.errors import InputError, did_you_mean
from luthier.files import hash_of

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

#: The file of fields that templates of every group may use.
VOCABULARY = "_fields.yaml"
#: `choices: letters`: the letters of the row's options, A for the first.
LETTERS = "letters"


@dataclass(frozen=True)
class TemplateField:
    """Something a template needs from a row.

    Attributes:
        name: what the template calls it.
        kind: the form of its values, a key of `template_values.KINDS`.
        about: what it holds, for people.
        also: other names that columns of this meaning have.
        values: for labels with fixed meanings: label to what files write for it, besides itself.
        guess: whether a column of any name is taken for it where its values look like it.
    """

    name: str
    kind: str
    about: str
    also: tuple[str, ...] = ()
    values: Mapping[str, tuple[str, ...]] | None = None
    guess: bool = False

    @functools.cached_property
    def aliases(self) -> dict[str, str]:
        """What a file may write, folded, to the label it means; empty where any label goes."""
        found: dict[str, str] = {}
        for label, others in (self.values or {}).items():
            for name in (label, *others):
                found[" ".join(name.lower().replace("_", " ").replace("-", " ").split())] = label
        return found


@dataclass(frozen=True)
class Phrasing:
    """One wording of a template.

    Attributes:
        name: unique within the template.
        weight: its share where phrasings are mixed, in proportion to the other weights.
        input: Jinja over the fields: what the model is asked.
        output: Jinja over the fields: the answer.
    """

    name: str
    weight: float
    input: str
    output: str


@dataclass(frozen=True)
class LibraryTemplate:
    """How rows that have certain fields become an input and an output.

    Attributes:
        name: what a task file calls it.
        version: raised whenever what it writes changes.
        group: the group of tasks it belongs to, the name of its file.
        kind: the `kind` a task.yaml with this template has.
        about: one sentence for people.
        fields: what it needs, by name.
        optional: names of `fields` that may be absent or blank.
        phrasings: by name; the first is the plainest, and the one used unless asked otherwise.
        choices: the answers there are: a fixed tuple; the name of a label field, for the labels
            that occur in it; the name of an options field, for the row's own, or "letters" for
            their letters; None for free text.
        unless: (Jinja condition, reason) of rows it leaves out.
        answer_in_input: why the answer may stand in the input; empty where it must not.
        verbatim: the columns hold a finished prompt, which is passed on as it is.
        example: a row, field name to value.
    """

    name: str
    version: int
    group: str
    kind: str
    about: str
    fields: Mapping[str, TemplateField]
    optional: frozenset[str]
    phrasings: Mapping[str, Phrasing]
    choices: tuple[str, ...] | str | None
    unless: tuple[tuple[str, str], ...]
    answer_in_input: str
    verbatim: bool
    example: Mapping[str, Any]

    @property
    def required(self) -> tuple[str, ...]:
        """Names of the fields that must be there."""
        return tuple(name for name in self.fields if name not in self.optional)

    @property
    def first(self) -> Phrasing:
        """The phrasing used unless asked otherwise."""
        return next(iter(self.phrasings.values()))

    @property
    def digest(self) -> str:
        """A hash of everything that decides what is written; a change of it needs a new version."""
        fields = {
            name: [
                field.kind,
                name in self.optional,
                {k: list(v) for k, v in (field.values or {}).items()},
            ]
            for name, field in self.fields.items()
        }
        choices = list(self.choices) if isinstance(self.choices, tuple) else self.choices
        phrasings = [[p.name, p.weight, p.input, p.output] for p in self.phrasings.values()]
        unless = [list(pair) for pair in self.unless]
        return hash_of([self.name, self.kind, fields, choices, phrasings, unless])[:16]

    def phrasing(self, wanted: str | int, where: str) -> Phrasing:
        """The phrasing of a name, or of a number counted from 1 as `luthier templates show` does.

        Args:
            wanted: the name or number.
            where: the key or option it was given under, for messages.

        Raises:
            InputError: there is none; the message names those there are.
        """
        names = list(self.phrasings)
        if str(wanted) in self.phrasings:
            return self.phrasings[str(wanted)]
        if str(wanted).isdigit():
            if 1 <= int(wanted) <= len(names):
                return self.phrasings[names[int(wanted) - 1]]
            raise InputError(
                f"`{where}` is {wanted}, and {self.name} has {len(names)} phrasings.",
                fix=f"Give a number from 1 to {len(names)}, or a name: {', '.join(names)}.",
            )
        raise InputError(
            f"`{where}` is {wanted!r}, which is no phrasing of {self.name}.",
            fix=did_you_mean(str(wanted), [*names, "all"]),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values: what `luthier templates show --json` prints."""
        return {
            "name": self.name,
            "version": self.version,
            "group": self.group,
            "kind": self.kind,
            "about": self.about,
            "fields": [
                {
                    "name": name,
                    "kind": field.kind,
                    "required": name not in self.optional,
                    "about": field.about,
                    "also": list(field.also),
                    "values": {k: list(v) for k, v in field.values.items()}
                    if field.values
                    else None,
                }
                for name, field in self.fields.items()
            ],
            "choices": list(self.choices) if isinstance(self.choices, tuple) else self.choices,
            "phrasings": [
                {"name": p.name, "weight": p.weight, "input": p.input, "output": p.output}
                for p in self.phrasings.values()
            ],
            "unless": [{"if": condition, "because": why} for condition, why in self.unless],
            "answer_in_input": self.answer_in_input or None,
            "example": dict(self.example),
        }


def library_template(name: str, where: str = "data.template") -> LibraryTemplate:
    """The template called `name`, or `name@version` to be sure of what it writes.

    Raises:
        InputError: no such template (the message suggests the nearest name), or another version.
    """
    plain, at, version = name.partition("@")
    templates = library()
    if plain not in templates:
        raise InputError(
            f"`{where}`: the library has no template {plain!r}.", fix=_near(plain, templates)
        )
    found = templates[plain]
    if at and version != str(found.version):
        raise InputError(
            f"`{where}` asks for version {version or 'blank'} of {plain}; the library has "
            f"version {found.version}.",
            fix=f"See `luthier templates show {plain}`, and write {plain}@{found.version}.",
        )
    return found


def _near(name: str, templates: Mapping[str, LibraryTemplate]) -> str:
    hint = did_you_mean(name, templates)
    # all names would fill the screen
    return hint if hint.startswith("Did you mean") else "`luthier templates list` names them."


@functools.cache
def library() -> Mapping[str, LibraryTemplate]:
    """All templates by name: the groups in the order of their files, each in its file's order.

    Raises:
        InputError: a library file that is no such file; it is named, with the entry and the key.
    """
    from luthier.data.template_files import read_group, read_vocabulary

    shared = read_vocabulary(_folder() / VOCABULARY)
    found: dict[str, LibraryTemplate] = {}
    for file in sorted(_folder().iterdir(), key=lambda item: item.name):
        if not file.name.endswith(".yaml") or file.name.startswith("_"):
            continue
        for template in read_group(file, shared):
            if template.name in found:
                raise InputError(f"Two templates of the library are called {template.name}.")
            found[template.name] = template
    return found


def groups() -> dict[str, list[LibraryTemplate]]:
    """The templates of each group."""
    held: dict[str, list[LibraryTemplate]] = {}
    for template in library().values():
        held.setdefault(template.group, []).append(template)
    return held


def _folder() -> Traversable:
    return resources.files("luthier.data.library")
