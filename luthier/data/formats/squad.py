"""SQuAD 1.1 and 2.0: articles with paragraphs and questions on them, or the flat rows that hubs
make of them."""

from __future__ import annotations

from typing import Any

from luthier.data.format import FORMATS, Format, Recipe, Sample, Values, by_row, structured
from luthier.data.turns import asked_and_answered, is_turns
from luthier.errors import InputError

_RECIPE = Recipe(
    input="{{ context }}\n\nQuestion: {{ question }}",
    output="{% if answers.text %}{{ answers.text[0] }}{% else %}unanswerable{% endif %}",
)


def _is_article(values: Values) -> bool:
    paragraphs = values.get("paragraphs")
    return (
        isinstance(paragraphs, list)
        and bool(paragraphs)
        and all(isinstance(one, dict) and {"context", "qas"} <= set(one) for one in paragraphs)
    )


def _is_flat(values: Values) -> bool:
    answers = structured(values.get("answers"))
    return {"context", "question"} <= set(values) and (
        isinstance(answers, dict) and {"text", "answer_start"} <= set(answers)
    )


def _detect(sample: Sample) -> bool:
    return sample.most(
        lambda values: _is_article(values) or (_is_flat(values) and not _converted(values))
    )


def _converted(values: Values) -> bool:
    talks = (values.get(name) for name in ("messages", "conversations"))
    return asked_and_answered(values) or any(map(is_turns, talks))


def _row(values: Values, source: str) -> list[Values] | Values:
    if _is_flat(values):
        answers = structured(values["answers"])
        known = values.get("is_impossible")
        impossible = known if isinstance(known, bool) else not answers["text"]
        return {**values, "answers": answers, "is_impossible": impossible}
    if not _is_article(values):
        raise InputError(
            f"{source} is no article of SQuAD: it has no `paragraphs` with `context` and `qas`.",
            fix="Files of SQuAD hold {data: [{title, paragraphs: [{context, qas: [...]}]}]}.",
        )
    return [
        _question(values.get("title"), paragraph["context"], asked, f"{source}, paragraph {number}")
        for number, paragraph in enumerate(values["paragraphs"], 1)
        for asked in _list(paragraph["qas"], f"{source}, paragraph {number}: `qas`")
    ]


def _question(title: Any, context: Any, asked: Values, where: str) -> Values:
    question = asked.get("question")
    if not isinstance(context, str) or not isinstance(question, str):
        raise InputError(f"{where} has a context or question that is no text.")
    name = f"{where}, question {asked.get('id')!r}"
    answers = _list(asked.get("answers") or [], name)
    if any(not isinstance(one.get("text"), str) for one in answers):
        raise InputError(f"{name} has an answer without text.")
    impossible = asked.get("is_impossible")
    return {
        "id": asked.get("id"),
        "title": title,
        "context": context,
        "question": question,
        "answers": {
            "text": [one["text"] for one in answers],
            "answer_start": [one.get("answer_start") for one in answers],
        },
        "is_impossible": impossible if isinstance(impossible, bool) else not answers,
    }


def _list(value: Any, where: str) -> list[Values]:
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise InputError(f"{where} is no list of objects.")
    return value


def _recipe(_: Sample) -> Recipe | None:
    return _RECIPE


FORMATS.register("squad")(
    Format(
        name="squad",
        title="SQuAD (a question on a passage, and its answers)",
        detect=_detect,
        read=by_row(_row),
        recipe=_recipe,
        rank=65,  # its columns may stand beside a conversation that was made of them
    )
)
