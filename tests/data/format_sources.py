"""A small source of every format that is read, each with all that the format can say."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

Rows = list[dict[str, Any]]


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: str, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **more}


def system(text: str) -> dict[str, Any]:
    return {"role": "system", "content": text}


TALK = [system("Be brief."), user("Hi"), assistant("Hello"), user("Who?"), assistant("Me")]

#: Sources that are JSON Lines.
LINES: dict[str, Rows] = {
    "alpaca": [
        {"instruction": "Add.", "input": "1 + 1", "output": "2", "id": "a"},
        {"instruction": "Say hi", "input": "", "output": "hi", "system": "Be kind.", "id": "b",
         "history": [["a", "b"], ["c", "d"]]},
    ],
    "sharegpt": [
        {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}],
         "id": 1},
        {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"},
                           {"from": "human", "value": "c"}, {"from": "gpt", "value": "d"}],
         "system": "Be brief.", "id": 2},
    ],
    "openai": [
        {"messages": TALK, "id": 1},
        {"messages": [user("a"), assistant("b", weight=0.5), user("c"), assistant("d")], "id": 2},
    ],
    "prompt-completion": [
        {"prompt": "Hi", "completion": "Hello", "source": "x"},
        {"prompt": TALK[:-1], "completion": [TALK[-1]], "source": "y"},
        {"prompt": '[{"role": "user", "content": "x"}]', "completion": "{}", "source": "z"},
    ],
    "prompt-response": [{"prompt": "Hi", "response": "Hello"}, {"prompt": "a", "response": "b"}],
    "preference": [
        {"prompt": "Hi", "chosen": "Hello", "rejected": "No", "id": 1},
        {"prompt": TALK[:-1], "chosen": [TALK[-1]], "rejected": [assistant("You")], "id": 2},
    ],
    "preference, implicit": [
        {"chosen": [user("Hi"), assistant("Hello")], "rejected": [user("Hi"), assistant("No")]},
        {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: a\n\nAssistant: c"},
        {"chosen": "Which?\nThis.", "rejected": "Which?\nThat."},
    ],
    "preference of Alpaca": [
        {"instruction": "Add.", "input": "1 + 1", "chosen": "2", "rejected": "3"},
        {"instruction": "Add.", "input": "", "chosen": "2", "rejected": "3", "system": "Be brief.",
         "history": [["a", "b"]]},
    ],
    "preference of ShareGPT": [
        {"conversations": [{"from": "human", "value": "Hi"}],
         "chosen": {"from": "gpt", "value": "Hello"}, "rejected": {"from": "gpt", "value": "No"}},
    ],
    "kto": [
        {"prompt": "Hi", "completion": "Hello", "label": True, "id": 1},
        {"prompt": TALK[:-1], "completion": [TALK[-1]], "label": False, "id": 2},
    ],
    "kto of messages": [
        {"messages": [user("Hi"), assistant("Hello")], "label": True},
        {"messages": TALK, "label": False},
    ],
    "squad, flat": [
        {"id": "a", "title": "t", "context": "Rome is old.", "question": "What is old?",
         "answers": {"text": ["Rome"], "answer_start": [0]}},
        {"id": "b", "title": "t", "context": "Rome is old.", "question": "Who?",
         "answers": {"text": [], "answer_start": []}},
    ],
    "parallel": [{"en": "a dog", "de": "ein Hund"}, {"en": "a cat", "de": "eine Katze"}],
    "superannotate": [
        {"metadata": {"name": f"item {n}", "item_category": {"value": "c"},
                      "lastAction": {"email": "a@x.org"}},
         "data": {"prompt": {"value": f"q {n}"}, "response": {"value": f"a {n}"}}}
        for n in (1, 2)
    ],
    "argilla": [
        {"id": "r", "status": "completed", "fields": {"text": "Lovely"},
         "responses": {"mood": [{"value": "good", "user_id": "u", "status": "submitted"}]},
         "suggestions": {"mood": {"value": "bad", "score": 0.5}}, "metadata": {"k": 1}},
    ],
    "argilla, flat": [
        {"id": "r", "status": "completed", "text": "Lovely", "mood.responses": ["good", "bad"],
         "mood.responses.users": ["u", "v"], "mood.responses.status": ["submitted", "submitted"],
         "mood.suggestion": "bad", "mood.suggestion.score": 0.5, "mood.suggestion.agent": "m"},
    ],
    "label-studio, chat": [
        {"id": 7, "data": {"talk": [user("Hi")]},
         "annotations": [{"completed_by": 1, "result": [
             {"from_name": "answer", "to_name": "talk", "type": "textarea",
              "value": {"text": ["Hello"]}}]}]},
    ],
}  # fmt: skip

_SPANS = [
    {"from_name": "ner", "to_name": "text", "type": "labels",
     "value": {"start": 0, "end": 3, "text": "Ann", "labels": ["PER"]}},
]  # fmt: skip
#: Sources that are one JSON document.
DOCUMENTS: dict[str, Any] = {
    "squad": {"version": "v2.0", "data": [{"title": "Rome", "paragraphs": [
        {"context": "Rome is old.", "qas": [
            {"id": "a", "question": "What is old?", "is_impossible": False,
             "answers": [{"text": "Rome", "answer_start": 0}]},
            {"id": "b", "question": "Who?", "answers": [], "is_impossible": True}]}]}]},
    "label-studio": [
        {"id": 1, "data": {"text": "Ann sings"},
         "annotations": [{"completed_by": 1, "result": _SPANS}]},
        {"id": 2, "data": {"text": "It rains"}, "annotations": [{"completed_by": 1, "result": []}]},
    ],
    "label-studio, flat": [
        {"text": "Lovely", "id": 1, "mood": "good", "annotator": 1, "annotation_id": 1,
         "created_at": "2024-01-01T00:00:00Z", "updated_at": "2024-01-01T00:00:00Z",
         "lead_time": 1.5},
    ],
}  # fmt: skip
#: Sources that are text, by the name of the file.
TEXTS: dict[str, tuple[str, str]] = {
    "conll": ("t.conll", "-DOCSTART-\tO\n\nAnn\tB-PER\nSmith\tI-PER\nsings\tO\n\nRome\tB-LOC\n"),
    "text": ("t.txt", "One paragraph\nof two lines.\n\nAnother.\n"),
    "irc": ("t.log", "[10:00] <ann> Is it open?\n[10:01] <bob> Yes, it is\n[10:02] <ann> Good\n"),
    "whatsapp": ("t.txt", "01/02/24, 10:00 - Ann: Is it open?\n01/02/24, 10:01 - Bob: Yes\n"),
    "slack": (
        "t.jsonl",
        '{"type": "message", "ts": "1.0", "thread_ts": "1.0", "user": "U1", "text": "Open?"}\n'
        '{"type": "message", "ts": "2.0", "thread_ts": "1.0", "user": "U2", "text": "Yes"}\n',
    ),
}


def written_csv(path: Path, rows: Rows) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)


def _superannotate_csv(folder: Path) -> str:
    written_csv(
        folder / "t.csv",
        [{"_item_name": f"item {n}", "_item_category": "c", "_folder": "f", "question": f"q {n}",
          "answer": f"a {n}"} for n in (1, 2)],
    )  # fmt: skip
    return "t.csv"


def _parallel_files(folder: Path) -> str:
    (folder / "t.en").write_text("a dog\na cat\n")
    (folder / "t.de").write_text("ein Hund\neine Katze\n")
    return "t.{en,de}"


MADE: dict[str, Callable[[Path], str]] = {
    "superannotate, csv": _superannotate_csv,
    "parallel, files": _parallel_files,
}
SOURCES = (*LINES, *DOCUMENTS, *TEXTS, *MADE)


def written(folder: Path, name: str) -> str:
    """Write the source of a name of `SOURCES` into a folder; what to call it."""
    folder.mkdir(parents=True, exist_ok=True)
    if name in MADE:
        return MADE[name](folder)
    if name in TEXTS:
        file, text = TEXTS[name]
        (folder / file).write_text(text, encoding="utf-8")
        return file
    if name in DOCUMENTS:
        (folder / "t.json").write_text(json.dumps(DOCUMENTS[name]), encoding="utf-8")
        return "t.json"
    write_lines(folder / "t.jsonl", LINES[name])
    return "t.jsonl"


def write_lines(path: Path, rows: Rows) -> None:
    """Write rows as JSON Lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
