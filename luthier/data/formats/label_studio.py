"""Label Studio: the JSON export (`data`, `annotations`, `predictions`), and the flat ones, JSON-MIN
and csv, with a column for each question and `annotation_id`, `annotator`, `lead_time`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from luthier.data.annotated import (
    Answer,
    Item,
    annotated_rows,
    chosen,
    only_text,
    recipe_from,
    span,
)
from luthier.data.format import FORMATS, Format, Sample, Values, structured
from luthier.data.turns import is_turn
from luthier.errors import InputError

_FLAT = ("annotator", "annotation_id", "created_at", "updated_at", "lead_time")
#: Kinds of marked parts of a text; in `value` the labels have the kind's own name.
_SPANS = ("labels", "hypertextlabels", "paragraphlabels", "timeserieslabels")


def _is_full(values: Values) -> bool:
    return isinstance(values.get("data"), dict) and any(
        isinstance(values.get(name), list) and all(map(_has_result, values[name]))
        for name in ("annotations", "completions")
    )


def _has_result(annotation: Any) -> bool:
    return isinstance(annotation, dict) and "result" in annotation


def _is_flat(values: Values) -> bool:
    return {"annotation_id", "annotator", "lead_time"} <= set(values)


def _detect(sample: Sample) -> bool:
    return sample.most(lambda values: _is_full(values) or _is_flat(values))


def _parse(values: Values, source: str) -> Item:
    if _is_flat(values) and not isinstance(values.get("annotations"), list):
        return _from_flat(values)
    if not _is_full(values):
        raise InputError(
            f"{source} has no `data` with `annotations`, as Label Studio exports them.",
            fix="Export as JSON or JSON-MIN; of tasks alone nothing is learned.",
        )
    fields = dict(values["data"])
    item, text = Item(fields), only_text(fields)
    if values.get("id") is not None:
        item.about["id"] = values["id"]
    done = values.get("annotations") or values.get("completions") or []
    for annotation in done:
        if annotation.get("was_cancelled") is True:
            continue
        item.finished = True
        user = _user(annotation.get("completed_by"))
        truth = annotation.get("ground_truth") is True
        for question, value, words in _results(annotation["result"], source, text):
            answer = Answer(value, user, truth, words)
            item.answers.setdefault(question, []).append(answer)
    for prediction in values.get("predictions") or []:
        if _has_result(prediction):
            for question, value, _ in _results(prediction["result"], source, text):
                item.suggestions.setdefault(question, value)
    return item


def _user(value: Any) -> str:
    """Who annotated: a number, an address, or an object with them."""
    if isinstance(value, dict):
        value = value.get("email") or value.get("id")
    return "" if value is None else str(value)


def _results(results: Any, source: str, text: str | None) -> list[tuple[str, Any, bool]]:
    """(question, value, whether it is free words) for each question of an annotation."""
    if not isinstance(results, list):
        raise InputError(f"{source}: the `result` of an annotation is no list.")
    groups: dict[str, list[tuple[str, Values]]] = {}
    relations = []
    for result in results:
        if not isinstance(result, dict):
            raise InputError(f"{source}: a `result` of an annotation is no object.")
        kind, value = result.get("type"), result.get("value")
        if kind == "relation":
            relations.append({k: result.get(k) for k in ("from_id", "to_id", "labels")})
            continue
        question = result.get("from_name")
        named = isinstance(question, str) and isinstance(kind, str)
        if not named or not isinstance(value, dict):
            raise InputError(f"{source}: a `result` has no from_name, type and value.")
        groups.setdefault(str(question), []).append((str(kind), value))
    made = []
    for question, values in groups.items():
        kind = values[0][0]
        made.append((question, _joined(kind, [v for _, v in values], text), kind == "textarea"))
    if relations:
        made.append(("relations", relations, False))
    return made


def _joined(kind: str, values: Sequence[Values], text: str | None) -> Any:
    """The answer to one question, of all results that belong to it."""
    if kind in _SPANS:
        return sorted(
            (span(v, _label(v, kind), text) for v in values),
            key=lambda one: one["start"] if isinstance(one["start"], int | float) else 0,
        )
    if kind == "chatmessage":
        said = [value.get("chatmessage") for value in values]
        return sorted((one for one in said if is_turn(one)), key=_created)
    read = _KINDS.get(kind)
    key = {"textarea": "text", "pairwise": "selected"}.get(kind, kind)
    held = [value.get(key, value) for value in values]
    held = [read(value) for value in held] if read else held
    if len(held) == 1:
        return held[0]
    return chosen(held) if kind in ("choices", "taxonomy") else held


def _label(value: Values, kind: str) -> Any:
    labels = value.get(kind) or value.get("labels")
    return labels[0] if isinstance(labels, list) and labels else labels


def _created(message: Values) -> str:
    return str(message.get("createdAt") or "")


def _choices(value: Any) -> Any:
    return chosen(value) if isinstance(value, list) and value else value


def _paths(value: Any) -> Any:
    """A taxonomy's choices, each the way to it."""
    if not isinstance(value, list):
        return value
    return chosen(["/".join(map(str, one)) if isinstance(one, list) else one for one in value])


def _words(value: Any) -> Any:
    return "\n".join(map(str, value)) if isinstance(value, list) else value


_KINDS: dict[str, Callable[[Any], Any]] = {
    "choices": _choices,
    "taxonomy": _paths,
    "textarea": _words,
}


def _from_flat(values: Values) -> Item:
    """The item of a row of JSON-MIN or csv: the data, `id`, the questions, who and when.

    Where there is no `id` between them, what is more than text is an answer.
    """
    names = list(values)
    behind = names.index("id") if "id" in names else len(names)
    about = {"task_id": values.get("id"), "created_at": values.get("created_at")}
    item = Item({}, about={name: value for name, value in about.items() if value is not None})
    item.finished = True
    user = _user(values.get("annotator"))
    held = {n: structured(v) for n, v in values.items() if n not in (*_FLAT, "id", "agreement")}
    item.fields |= {
        name: value
        for name, value in held.items()
        if names.index(name) < behind and ("id" in names or not _is_answer(value))
    }
    text = only_text(item.fields)
    for name, value in held.items():
        if name not in item.fields and value not in (None, "", []):
            item.answers[name] = [Answer(_flat_value(value, text), user)]
    return item


def _is_answer(value: Any) -> bool:
    """Whether a value is as JSON-MIN writes answers that are more than text."""
    if isinstance(value, dict):
        return set(value) == {"choices"} or set(value) == {"taxonomy"}
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(one, dict) and not is_turn(one) for one in value)
        and any(set(one) & {*_SPANS, "rating", "number", "ranker"} for one in value)
    )


def _flat_value(value: Any, text: str | None) -> Any:
    if isinstance(value, dict):
        for kind, read in _KINDS.items():
            if kind in value:
                return read(value[kind])
        return value.get("selected", value)
    if isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
        for kind in _SPANS:
            if kind in value[0]:
                return _joined(kind, value, text)
        for kind in ("rating", "number", "ranker", "taxonomy"):
            if kind in value[0]:
                return _joined(kind, value, text)
    return _words(value) if isinstance(value, list) and _texts(value) else value


def _texts(value: Sequence[Any]) -> bool:
    return all(isinstance(one, str) for one in value)


FORMATS.register("label-studio")(
    Format(
        name="label-studio",
        title="a Label Studio export (its data, and an answer to each question)",
        detect=_detect,
        read=annotated_rows(_parse),
        recipe=recipe_from(_parse),
        rank=15,
    )
)
