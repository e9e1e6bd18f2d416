"""Argilla: records as `to_datasets` and flat JSON have them (columns `question.responses`,
`question.responses.status`, `question.suggestion`), or as `to_json` has them (`fields`,
`responses`, `suggestions`)."""

from __future__ import annotations

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
from luthier.errors import InputError

_RESPONSES, _SUGGESTION = ".responses", ".suggestion"
_PARTS = (_RESPONSES, _SUGGESTION, ".responses.users", ".responses.status", ".suggestion.score",
          ".suggestion.agent")  # fmt: skip
#: A response that counts: others are drafts, or were thrown away.
_FINISHED = ("submitted", None)
_ABOUT = ("id", "status", "_server_id")


def _flat(values: Values) -> bool:
    return any(name.endswith((_RESPONSES, _SUGGESTION)) for name in values)


def _nested(values: Values) -> bool:
    held = [values.get(name) for name in ("responses", "suggestions")]
    return (
        isinstance(values.get("fields"), dict)
        and any(isinstance(one, dict) for one in held)
        and all(one is None or isinstance(one, dict) for one in held)
    )


def _detect(sample: Sample) -> bool:
    return sample.most(lambda values: _flat(values) or _nested(values))


def _parse(values: Values, source: str) -> Item:
    return _from_nested(values, source) if _nested(values) else _from_flat(values, source)


def _from_flat(values: Values, source: str) -> Item:
    questions = dict.fromkeys(
        name.removesuffix(ending)
        for name in values
        for ending in (_RESPONSES, _SUGGESTION)
        if name.endswith(ending)
    )
    if not questions:
        raise InputError(f"{source} has no column that ends in .responses or .suggestion.")
    fields = {
        name: structured(value)
        for name, value in values.items()
        if name not in _ABOUT
        and not any(name == f"{question}{part}" for question in questions for part in _PARTS)
    }
    item = Item(fields, about={name: values[name] for name in _ABOUT if name in values})
    text = only_text(fields)
    for question in questions:
        responses = _list(values.get(f"{question}.responses"))
        users = _list(values.get(f"{question}.responses.users"))
        statuses = _list(values.get(f"{question}.responses.status"))
        for number, value in enumerate(responses):
            status = statuses[number] if number < len(statuses) else None
            user = users[number] if number < len(users) else ""
            _add(item, question, value, user, status, text)
        if values.get(f"{question}.suggestion") is not None:
            suggested = structured(values[f"{question}.suggestion"])
            item.suggestions[question] = _value(suggested, text)
    return item


def _from_nested(values: Values, source: str) -> Item:
    fields = dict(values["fields"])
    metadata = values.get("metadata")
    about = {**(metadata if isinstance(metadata, dict) else {})}
    about |= {name: values[name] for name in _ABOUT if name in values}
    item, text = Item(fields, about=about), only_text(fields)
    for question, responses in (values.get("responses") or {}).items():
        for response in _list(responses):
            if not isinstance(response, dict) or "value" not in response:
                raise InputError(f"{source}: a response to {question!r} has no value.")
            user, status = response.get("user_id", ""), response.get("status")
            _add(item, question, response["value"], user, status, text)
    for question, suggestion in (values.get("suggestions") or {}).items():
        if isinstance(suggestion, dict) and suggestion.get("value") is not None:
            item.suggestions[question] = _value(suggestion["value"], text)
    return item


def _add(item: Item, question: str, value: Any, user: Any, status: Any, text: str | None) -> None:
    if status not in _FINISHED or value is None:
        return
    item.finished = True
    words = isinstance(value, str)
    answer = Answer(_value(value, text), str(user or ""), words=words)
    item.answers.setdefault(question, []).append(answer)


def _value(value: Any, text: str | None) -> Any:
    """Choices as text, marked spans with what they mark, a ranking as it is."""
    if isinstance(value, list) and value and all(isinstance(one, str) for one in value):
        return chosen(value)
    if isinstance(value, list) and value and all(_is_span(one) for one in value):
        return [span(one, one["label"], text) for one in value]
    return value


def _is_span(value: Any) -> bool:
    return isinstance(value, dict) and {"start", "end", "label"} <= set(value)


def _list(value: Any) -> list[Any]:
    held = structured(value)
    if held is None or held == "":
        return []
    return held if isinstance(held, list) else [held]


FORMATS.register("argilla")(
    Format(
        name="argilla",
        title="an Argilla export (its fields, and an answer to each question)",
        detect=_detect,
        read=annotated_rows(_parse),
        recipe=recipe_from(_parse),
        rank=15,
    )
)
