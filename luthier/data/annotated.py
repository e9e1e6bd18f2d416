"""What annotation studios export, in one form: the fields that people saw, and for each question
what each of them answered. From it come plain columns that templates name."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from luthier.data.format import Read, Recipe, Sample, Values
from luthier.data.reading import Place, SourceRow
from luthier.data.turns import Turn, is_turns, turn, turns
from luthier.errors import InputError


@dataclass(frozen=True)
class Answer:
    """What one person answered to one question.

    Attributes:
        value: text, a number, a list of spans ({start, end, text, label}), or another list.
        user: who; "" where that is not known.
        truth: whether it is marked as the right one.
        words: whether it was written freely and is no choice.
    """

    value: Any
    user: str = ""
    truth: bool = False
    words: bool = False


@dataclass
class Item:
    """One annotated item.

    Attributes:
        fields: what people saw, by name.
        answers: question to answers, in the order they were given.
        suggestions: question to what a model proposed.
        about: other things that are known of the item.
        finished: whether somebody has been through it; with nothing to mark in a text there may be
            no answer.
    """

    fields: Values
    answers: dict[str, list[Answer]] = field(default_factory=dict)
    suggestions: Values = field(default_factory=dict)
    about: Values = field(default_factory=dict)
    finished: bool = False


#: From a row and where it was read to its item.
Parse = Callable[[Values, str], Item]


def annotated_rows(parse: Parse) -> Read:
    """A `Format.read`: a row for each item that has answers. The others are left out, and counted
    where refused rows are."""

    def read(rows: Iterator[SourceRow], place: Place, option: str) -> Iterator[SourceRow]:
        found = seen = False

        def items() -> Iterator[tuple[Item, str]]:
            nonlocal seen
            for row in rows:
                seen = True
                try:
                    item = parse(row.values, row.source)
                except InputError as error:
                    place.refuse(row.source, error)
                    continue
                yield item, row.source

        for item, source in _marked(items()):
            if item.answers:
                found = True
                yield SourceRow(_columns(item, source), source)
            elif place.refused is not None:
                place.refused.add(source, InputError(f"{source} has no finished answer."))
        if seen and not found and place.refused is None:
            raise InputError(
                f"{place.shown}: none of its items has a finished answer.",
                fix="Export the items that are annotated; skipped ones and drafts do not count.",
            )

    return read


def _marked(items: Iterator[tuple[Item, str]]) -> Iterator[tuple[Item, str]]:
    """The items, with an empty list where somebody found nothing to mark: exports say nothing of
    a question then, so which questions mark parts of a text is told from the other items."""
    questions: dict[str, None] = {}
    waiting: list[tuple[Item, str]] = []
    for item, source in items:
        for question, answers in item.answers.items():
            if all(_is_marks(one.value) for one in answers):
                questions[question] = None
        waiting.append((item, source))
        if item.answers or not item.finished:
            yield from _filled(waiting, questions)
            waiting = []
    yield from _filled(waiting, questions)


def _filled(
    items: Sequence[tuple[Item, str]], questions: Mapping[str, None]
) -> Iterator[tuple[Item, str]]:
    for item, source in items:
        if item.finished:
            for question in questions:
                item.answers.setdefault(question, [Answer([])])
        yield item, source


def _is_marks(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_span, value))


def recipe_from(parse: Parse) -> Callable[[Sample], Recipe | None]:
    """A `Format.recipe`: what was seen is the input and what was answered the output, where there
    is one text and one question, or a conversation; else None."""

    def recipe(sample: Sample) -> Recipe | None:
        def items() -> Iterator[tuple[Item, str]]:
            for row in sample.rows:
                try:
                    yield parse(row.values, row.source), row.source
                except InputError:
                    continue

        used = [item for item, _ in _marked(items()) if item.answers]
        return _recipe(used) if used else None

    return recipe


def best(answers: Sequence[Answer]) -> Answer:
    """The answer to go by: of those marked as right, else of all, the one given most often; of
    several such, the first."""
    held = [one for one in answers if one.truth] or list(answers)
    keys = [json.dumps(one.value, sort_keys=True, default=str) for one in held]
    most = max(keys.count(key) for key in keys)
    return next(one for one, key in zip(held, keys, strict=True) if keys.count(key) == most)


def chosen(values: Sequence[Any]) -> Any:
    """One choice as it is, several as text with commas between: an answer is one text."""
    texts = [value if isinstance(value, str) else json.dumps(value) for value in values]
    return texts[0] if len(texts) == 1 else ", ".join(texts)


def span(value: Mapping[str, Any], label: Any, text: str | None) -> Values:
    """A marked part of a text.

    Args:
        value: with `start` and `end` in characters, and perhaps its own `text`.
        label: its type.
        text: the whole text, where it is known.
    """
    start, end = value.get("start"), value.get("end")
    said = value.get("text")
    if not isinstance(said, str) and text is not None and _inside(start, end, text):
        said = text[start:end]
    return {"start": start, "end": end, "text": said, "label": label}


def _inside(start: Any, end: Any, text: str) -> bool:
    return isinstance(start, int) and isinstance(end, int) and 0 <= start <= end <= len(text)


def only_text(fields: Values) -> str | None:
    """The text of the one field that holds text; None where there are none or several."""
    texts = [value for value in fields.values() if isinstance(value, str) and value.strip()]
    return texts[0] if len(texts) == 1 else None


def _columns(item: Item, source: str) -> Values:
    made: Values = dict(item.fields)
    talk = _conversation(item, source)
    if talk is not None:
        made["messages"] = talk

    def put(name: str, value: Any) -> None:
        while name in made:
            name += "_"
        made[name] = value

    for question, answers in item.answers.items():
        name = question if question not in item.fields else f"{question}_answer"
        put(name, best(answers).value)
        if len(answers) > 1:
            put(f"{name}_answers", [one.value for one in answers])
            put(f"{name}_annotators", [one.user for one in answers])
        elif answers[0].user:
            put(f"{name}_annotator", answers[0].user)
    for question, value in item.suggestions.items():
        put(f"{question}_suggestion", value)
    for name, value in item.about.items():
        if name not in made:
            made[name] = value
    return made


def _conversation(item: Item, source: str) -> list[Turn] | None:
    """What was seen as turns, and what people wrote as the answer to it."""
    seen = [value for value in item.fields.values() if is_turns(value)]
    said = [best(answers) for answers in item.answers.values()]
    chats = [one.value for one in said if is_turns(one.value)]
    if len(seen) > 1 or len(chats) > 1 or "messages" in item.answers:
        return None
    if chats:
        made = turns(seen[0], source) if seen else []
        return made + turns(chats[0], source)
    words = [one.value for one in said if one.words and isinstance(one.value, str)]
    if not seen or len(words) > 1:
        return None
    made = turns(seen[0], source)
    if made[-1]["role"] == "user" and words:
        return [*made, turn("assistant", words[0])]
    return made if made[-1]["role"] == "assistant" and not words else None


def _recipe(items: Sequence[Item]) -> Recipe | None:
    talks = []
    for item in items:
        try:
            talks.append(_conversation(item, ""))
        except InputError:
            talks.append(None)
    if all(talk and talk[-1]["role"] == "assistant" for talk in talks):
        return Recipe(messages="messages")
    fields = {
        name
        for item in items
        for name, value in item.fields.items()
        if isinstance(value, str)
        and value.strip()
        and not value.startswith(("http://", "https://"))
    }
    questions = {name for item in items for name in item.answers}
    if len(fields) != 1 or len(questions) != 1:
        return None
    shown, asked = fields.pop(), questions.pop()
    asked_column = f"{asked}_answer" if any(asked in item.fields for item in items) else asked
    values = [best(item.answers[asked]).value for item in items if asked in item.answers]
    if any(shown not in item.fields for item in items) or len(values) < len(items):
        return None
    column = written_column(asked_column)
    if all(isinstance(value, str | int | float) for value in values):
        return Recipe(f"{{{{ {written_column(shown)} }}}}", f"{{{{ {column} }}}}")
    if all(map(_is_marks, values)):
        output = (
            f"{{% for span in {column} %}}{{{{ span.label }}}}: {{{{ span.text }}}}"
            "{% if not loop.last %}\n{% endif %}{% else %}none{% endfor %}"
        )
        return Recipe(f"{{{{ {written_column(shown)} }}}}", output)
    return None


def _is_span(value: Any) -> bool:
    return isinstance(value, dict) and {"label", "text"} <= set(value)


def written_column(name: str) -> str:
    """A column as a template names it: text, or row["Question text"]."""
    return name if name.isidentifier() else f"row[{json.dumps(name, ensure_ascii=False)}]"
