"""What a library template makes of a column's value: one form for each kind of field.

People write a label as text or as a number, a list as JSON or with commas, an answer as text or as
SQuAD does. A template sees one form, whatever the file held; a value that has no such form is
refused with a reason, never guessed at.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

#: What an answer is where SQuAD 2 says that the passage does not hold one.
UNANSWERABLE = "unanswerable"
#: Turns of a speaker, by the names that data sets write them with.
_SPEAKERS = {
    **dict.fromkeys(("user", "human", "customer", "client"), "User"),
    **dict.fromkeys(("assistant", "gpt", "bot", "agent", "model"), "Assistant"),
    "system": "System",
}


class RefusedValueError(ValueError):
    """A value that a field cannot take; the message says why, without the column's name."""


def is_blank(value: Any) -> bool:
    """Whether there is nothing: no value, NaN, or text of white space alone."""
    if isinstance(value, str):
        return not value.strip()
    return value is None or (isinstance(value, float) and math.isnan(value))


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, list | tuple | dict | set):
        raise RefusedValueError("an object" if isinstance(value, dict) else "a list")
    if isinstance(value, bytes):
        raise RefusedValueError("bytes, which are no text")
    return str(value)


def _code(value: Any) -> str:
    if not isinstance(value, str):
        raise RefusedValueError("no text")
    # the first line's indentation is part of the code
    return value.rstrip().lstrip("\n")


def _number(value: Any) -> int | float:
    if isinstance(value, bool):
        raise RefusedValueError("a truth value and no number")
    try:
        number = float(value.strip() if isinstance(value, str) else value)
    except (TypeError, ValueError, OverflowError):
        raise RefusedValueError(f"no number ({_shown(value)})") from None
    if not math.isfinite(number):
        raise RefusedValueError("no finite number")
    return int(number) if number.is_integer() else number


def _rating(value: Any) -> int | float:
    number = _number(value)
    if not 1 <= number <= 5:
        raise RefusedValueError(f"{number}, which is outside 1 to 5")
    return number


def _parsed(value: Any) -> Any:
    """Text that holds a JSON list or object, as that; anything else as it is."""
    if isinstance(value, str) and value.strip()[:1] in ("[", "{"):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    # Parquet brings numpy arrays, which are lists to people
    if hasattr(value, "tolist") and not isinstance(value, str):
        return value.tolist()
    return value


def _items(value: Any) -> list[str]:
    value = _parsed(value)
    if isinstance(value, str):
        separator = next((mark for mark in ("\n", ";", "|", ",") if mark in value), "\n")
        value = value.split(separator)
    if not isinstance(value, list | tuple):
        raise RefusedValueError("no list")
    items = [_text(item).lstrip("-*• ") for item in value if not is_blank(item)]
    if not items:
        raise RefusedValueError("an empty list")
    return items


def _answer(value: Any) -> str:
    value = _parsed(value)
    if isinstance(value, dict) and "text" in value:
        value = value["text"]
    elif isinstance(value, dict) and "value" in value:  # TriviaQA
        value = value["value"]
    if isinstance(value, list | tuple):
        if not value:
            return UNANSWERABLE
        value = value[0]["text"] if isinstance(value[0], dict) and "text" in value[0] else value[0]
    return _text(value)


def _options(value: Any) -> list[str]:
    value = _parsed(value)
    if isinstance(value, dict) and "text" in value:
        value = value["text"]
    if not isinstance(value, list | tuple):
        raise RefusedValueError("no list of answers to choose from")
    options = [_text(item) for item in value]
    if len(options) < 2 or any(not option for option in options):
        raise RefusedValueError("no list of two or more answers, or one of them is blank")
    if len(set(options)) < len(options):
        raise RefusedValueError("a list that holds the same answer twice")
    if len(options) > 26:
        raise RefusedValueError("a list of more than 26 answers, which letters cannot name")
    return options


def _record(value: Any) -> dict[str, Any]:
    value = _parsed(value)
    if not isinstance(value, dict) or not value:
        raise RefusedValueError("no object with keys")
    return value


def _tokens(value: Any) -> list[str]:
    value = _parsed(value)
    items = value.split() if isinstance(value, str) else value
    if not isinstance(items, list | tuple) or not items:
        raise RefusedValueError("no list of words")
    return [_text(item) for item in items]


def _tags(value: Any) -> list[str]:
    tags = _tokens(value)
    wrong = next((tag for tag in tags if not re.fullmatch(r"O|[BI]-.+", tag)), None)
    if wrong is not None:
        raise RefusedValueError(f"tags of which {wrong!r} is none of B-type, I-type and O")
    return tags


def _spans(value: Any) -> list[dict[str, str]]:
    """[{type, text}] in the order of the text, from the ways that tools write marked spans."""
    value = _parsed(value)
    if not isinstance(value, list | tuple):
        raise RefusedValueError("no list of spans")
    found: list[tuple[int, dict[str, str]]] = []
    for item in value:
        if not isinstance(item, dict):
            raise RefusedValueError("a list of other things than spans")
        kind = _first(item, "entity_type", "label", "type", "tag", "labels")
        surface = _first(item, "entity_value", "text", "value", "surface", "word")
        start = _first(item, "start_position", "start", "begin", "start_offset")
        kind = kind[0] if isinstance(kind, list) and kind else kind
        if is_blank(kind) or is_blank(surface):
            raise RefusedValueError("a span without its type or its text")
        line = {"type": _text(kind), "text": " ".join(_text(surface).split())}
        found.append((start if isinstance(start, int) else len(found), line))
    return [span for _, span in sorted(found, key=lambda pair: pair[0])]


def _first(item: Mapping[str, Any], *names: str) -> Any:
    return next((item[name] for name in names if name in item), None)


def _dialogue(value: Any) -> str:
    """Turns as lines, `Speaker: what was said`; a user's turn that is the only one as it is."""
    value = _parsed(value)
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, dict):
        value = [value]
    if not isinstance(value, list | tuple) or not value:
        raise RefusedValueError("no conversation")
    lines = []
    for number, turn in enumerate(value):
        if isinstance(turn, dict):
            who = _first(turn, "role", "from", "speaker", "user", "author")
            said = _first(turn, "content", "value", "text", "utterance", "message")
        else:
            who, said = ("user", "assistant")[number % 2], turn
        if is_blank(said):
            raise RefusedValueError("a conversation with a blank turn")
        name = _text(who) if not is_blank(who) else "Speaker"
        lines.append(f"{_SPEAKERS.get(name.lower(), name)}: {_text(said)}")
    if len(lines) == 1 and lines[0].startswith("User: "):
        return lines[0].removeprefix("User: ")
    return "\n".join(lines)


def _reply(value: Any) -> str:
    """What was answered: text, or what the last turn says."""
    value = _parsed(value)
    if isinstance(value, list | tuple) and value:
        value = value[-1]
    if isinstance(value, dict):
        value = _first(value, "content", "value", "text")
    if is_blank(value):
        raise RefusedValueError("no answer")
    return _text(value)


#: Every kind of field, and what turns a value into its form. "label" and "gold" need more than the
#: value (see `read_label` and `read_gold`); here is what they share with text.
KINDS: dict[str, Callable[[Any], Any]] = {
    "text": _text,
    "line": _text,
    "document": _text,
    "code": _code,
    "label": _text,
    "rating": _rating,
    "number": _number,
    "list": _items,
    "answer": _answer,
    "options": _options,
    "gold": _text,
    "record": _record,
    "tokens": _tokens,
    "tags": _tags,
    "spans": _spans,
    "dialogue": _dialogue,
    "reply": _reply,
}


def read_value(kind: str, value: Any) -> Any:
    """The value in the form that a field of this kind has.

    Args:
        kind: a key of `KINDS`.
        value: not blank; as a reader gave it.

    Returns:
        a number for rating and number; a list of texts for list, options, tokens and tags; a list
        of {type, text} for spans; a dictionary for record; text for all others.

    Raises:
        RefusedValueError: it has no such form.
    """
    return KINDS[kind](value)


def read_label(value: Any, aliases: Mapping[str, str]) -> str:
    """A label by its own name.

    Args:
        value: as the column holds it.
        aliases: what a file may write, in lower case, to the label; empty where any label goes.

    Raises:
        RefusedValueError: it is none of the aliases.
    """
    text = _text(value)
    if not aliases:
        if not text or "\n" in text:
            raise RefusedValueError("no label, which is one line")
        return text
    known = aliases.get(" ".join(text.lower().replace("_", " ").replace("-", " ").split()))
    if known is None:
        names = list(dict.fromkeys(aliases.values()))
        raise RefusedValueError(f"{_shown(text)}, which is none of {', '.join(names)}")
    return known


def read_gold(value: Any, options: Sequence[str], labels: Any = None) -> int:
    """Which option is right, counted from 0.

    Args:
        value: a whole number (counted from 0), a letter (A is the first), or an option's text.
        options: the answers to choose from.
        labels: the names the file itself gives the options ({"label": [...]} beside the texts).

    Raises:
        RefusedValueError: it names none of the options.
    """
    text = _text(value)
    if isinstance(labels, list) and text in (names := [_text(name) for name in labels]):
        place = names.index(text)
    elif text in options:
        place = list(options).index(text)
    elif re.fullmatch(r"\d{1,2}", text):
        place = int(text)
    elif re.fullmatch(r"[A-Za-z]", text):
        place = ord(text.upper()) - ord("A")
    else:
        place = -1
    if not 0 <= place < len(options):
        raise RefusedValueError(f"{_shown(text)}, which names none of the {len(options)} options")
    return place


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
