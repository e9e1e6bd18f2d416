"""SuperAnnotate: items of its form builder, as JSON (`metadata` and `data`, by component), or csv
with the reserved columns `_item_name`, `_item_category`, `_folder`."""

from __future__ import annotations

from typing import Any

from luthier.data.annotated import written_column
from luthier.data.format import FORMATS, Format, Recipe, Sample, Values, by_row, structured
from luthier.data.turns import is_turns
from luthier.errors import InputError

#: Where the metadata of an item go: the names that the csv has for them.
_ABOUT = {"name": "_item_name", "item_category": "_item_category", "folder_name": "_folder"}
#: Names that builders give to what is shown and what is answered, told without capitals.
_ASKED = ("input", "prompt", "question", "instruction", "text", "user_prompt", "query")
_ANSWERED = ("output", "response", "answer", "completion", "label", "category", "rewrite")

#: Columns by which a row says itself what is asked and what is answered.
_WRITTEN = (("instruction", "input", "output"), ("prompt", "completion"))


def _is_item(values: Values) -> bool:
    metadata, data = values.get("metadata"), values.get("data")
    return (
        isinstance(metadata, dict)
        and "name" in metadata
        and isinstance(data, dict)
        and all(isinstance(one, list) or _has_value(one) for one in data.values())
    )


def _has_value(component: Any) -> bool:
    return isinstance(component, dict) and "value" in component


def _is_record(values: Values) -> bool:
    """Whether it is of a csv export, and no conversation that was made of one."""
    return "_item_name" in values and not (
        any(is_turns(values.get(name)) for name in ("messages", "conversations"))
        or any(set(columns) <= set(values) for columns in _WRITTEN)
    )


def _detect(sample: Sample) -> bool:
    return sample.most(lambda values: _is_item(values) or _is_record(values))


def _row(values: Values, source: str) -> Values:
    if "_item_name" in values:
        return {name: structured(value) for name, value in values.items()}
    metadata, data = values.get("metadata"), values.get("data")
    if not isinstance(metadata, dict) or not isinstance(data, dict):
        raise InputError(f"{source} has no `metadata` and `data`, as SuperAnnotate exports them.")
    made = {name: _value(component, f"{source}, {name!r}") for name, component in data.items()}
    about = {column: _bare(metadata.get(name)) for name, column in _ABOUT.items()}
    last = metadata.get("lastAction")
    about["_annotator"] = last.get("email") if isinstance(last, dict) else None
    return {**made, **{name: value for name, value in about.items() if value is not None}}


def _value(component: Any, where: str) -> Any:
    """A component's value; of one in a group that repeats, a list in the group's order."""
    if isinstance(component, list):
        if not all(_has_value(one) for one in component):
            raise InputError(f"{where} has an entry without a value.")
        ordered = sorted(component, key=lambda one: _path(one.get("element_path")))
        return [one["value"] for one in ordered]
    return component["value"] if _has_value(component) else component


def _path(path: Any) -> list[tuple[int, int, str]]:
    parts = path if isinstance(path, list) else []
    return [(0, part, "") if isinstance(part, int) else (1, 0, str(part)) for part in parts]


def _bare(value: Any) -> Any:
    """A category is text, or an object with its value."""
    return value["value"] if _has_value(value) else value


def _recipe(sample: Sample) -> Recipe | None:
    rows = []
    for row in sample.rows:
        try:
            rows.append(_row(row.values, row.source))
        except InputError:
            continue
    names = [n for n in (rows[0] if rows else {}) if not n.startswith("_")]
    held = {name: [row.get(name) for row in rows] for name in names}
    talks = [name for name, values in held.items() if all(map(is_turns, values))]
    if len(talks) == 1:
        return Recipe(messages=talks[0])
    texts = [n for n, values in held.items() if all(isinstance(v, str | int) for v in values)]
    asked = [name for name in texts if name.lower() in _ASKED]
    answered = [name for name in texts if name.lower() in _ANSWERED]
    if len(asked) != 1 or len(answered) != 1:
        return None
    return Recipe(
        f"{{{{ {written_column(asked[0])} }}}}", f"{{{{ {written_column(answered[0])} }}}}"
    )


FORMATS.register("superannotate")(
    Format(
        name="superannotate",
        title="a SuperAnnotate export (a column for each component)",
        detect=_detect,
        read=by_row(_row),
        recipe=_recipe,
        rank=15,
    )
)
