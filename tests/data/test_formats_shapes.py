"""SQuAD, CoNLL columns, parallel and plain text; and that no format takes what is another's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.data import lines
from luthier.data.format import FORMATS, detect, named
from luthier.data.prepare import prepare
from luthier.data.reading import Line, Place, SourceRow, read_rows, stream_rows
from luthier.data.recipes import make_examples
from luthier.data.refused import Refused
from luthier.data.sources import reading_note, understood
from luthier.data.texts import prepare_texts
from luthier.errors import InputError
from luthier.task import Task


def written(folder: Path, name: str, text: str) -> str:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text, "utf-8")
    return name


def failure(folder: Path, name: str, format: str = "auto") -> str:
    with pytest.raises(InputError) as caught:
        read_rows(name, folder, format=format)
    return str(caught.value)


def task_of(folder: Path, kind: str, **data: Any) -> Task:
    return Task.from_dict({"name": "t", "kind": kind, "data": data}, path=folder / "task.yaml")


def pairs(folder: Path, kind: str, name: str) -> list[tuple[str, str]]:
    """(input, output) of each row in a task that says nothing of how rows become examples."""
    task = understood(task_of(folder, kind, train=name, format="auto"))
    made = make_examples(read_rows(name, folder, format="auto"), task.data)
    return [(example.messages[-1].content, example.output) for example in made]


# --- SQuAD

SQUAD = {
    "version": "v2.0",
    "data": [
        {
            "title": "Rome",
            "paragraphs": [
                {
                    "context": "Rome is old.",
                    "qas": [
                        {
                            "id": "a",
                            "question": "What is old?",
                            "answers": [
                                {"text": "Rome", "answer_start": 0},
                                {"text": "Rome is", "answer_start": 0},
                            ],
                            "is_impossible": False,
                        },
                        {"id": "b", "question": "Who?", "answers": [], "is_impossible": True},
                    ],
                }
            ],
        }
    ],
}
SQUAD_ROWS = [
    {
        "id": "a",
        "title": "Rome",
        "context": "Rome is old.",
        "question": "What is old?",
        "answers": {"text": ["Rome", "Rome is"], "answer_start": [0, 0]},
        "is_impossible": False,
    },
    {
        "id": "b",
        "title": "Rome",
        "context": "Rome is old.",
        "question": "Who?",
        "answers": {"text": [], "answer_start": []},
        "is_impossible": True,
    },
]


def test_squad_nested_and_flat_are_the_same_rows(tmp_path: Path) -> None:
    nested = written(tmp_path, "squad.json", json.dumps(SQUAD))
    assert read_rows(nested, tmp_path, format="auto") == [
        SourceRow(SQUAD_ROWS[0], "squad.json row 1.1"),
        SourceRow(SQUAD_ROWS[1], "squad.json row 1.2"),
    ]
    text = "".join(json.dumps(row) + "\n" for row in SQUAD_ROWS)
    flat = written(tmp_path, "flat.jsonl", text)
    assert [row.values for row in read_rows(flat, tmp_path, format="auto")] == SQUAD_ROWS
    assert pairs(tmp_path, "qa", nested) == [
        ("Rome is old.\n\nQuestion: What is old?", "Rome"),
        ("Rome is old.\n\nQuestion: Who?", "unanswerable"),
    ]


def test_squad_without_is_impossible_and_broken_articles(tmp_path: Path) -> None:
    asked = {"id": "a", "question": "Q?", "answers": [{"text": "x", "answer_start": 1}]}
    good = {"title": "t", "paragraphs": [{"context": "c x", "qas": [asked]}]}
    bad = {"title": "t", "paragraphs": [{"context": "c", "qas": [{"id": "b"}]}]}
    name = written(tmp_path, "s.json", json.dumps({"data": [*[good] * 8, bad, {"title": "u"}]}))
    refused = Refused()
    made = list(stream_rows(name, tmp_path, format="squad", refused=refused))
    assert [row.values["is_impossible"] for row in made] == [False] * 8
    assert [row.source for row in refused.rows] == ["s.json row 9", "s.json row 10"]
    assert "paragraph 1 has a context or question that is no text" in refused.rows[0].reason
    assert "is no article of SQuAD" in refused.rows[1].reason


# --- CoNLL

CONLL = "-DOCSTART-\tO\n\nAnn\tB-PER\nSmith\tI-PER\nsings\tO\n\t\nRome\tI-LOC\n\n"


def test_conll_sentences(tmp_path: Path) -> None:
    name = written(tmp_path, "t.conll", CONLL)
    assert read_rows(name, tmp_path) == [
        SourceRow(
            {
                "tokens": ["Ann", "Smith", "sings"],
                "tags": ["B-PER", "I-PER", "O"],
                "text": "Ann Smith sings",
                "entities": "PER: Ann Smith",
                "document": 1,
            },
            "t.conll line 3",
        ),
        SourceRow(
            {
                "tokens": ["Rome"],
                "tags": ["I-LOC"],
                "text": "Rome",
                "entities": "LOC: Rome",
                "document": 1,
            },
            "t.conll line 7",
        ),
    ]
    assert pairs(tmp_path, "ner", name) == [("Ann Smith sings", "PER: Ann Smith"),
                                            ("Rome", "LOC: Rome")]  # fmt: skip


def test_conll_with_spaces_more_columns_notes_and_other_schemes(tmp_path: Path) -> None:
    text = "# sent_id = 1\nAnn NNP B-NP B-PER\nSmith NNP I-NP E-PER\n# SYM O O\n"
    text += "Rome NNP B-NP U-LOC\n"
    [row] = read_rows(written(tmp_path, "t.txt", text), tmp_path)
    assert row.values["tokens"] == ["Ann", "Smith", "#", "Rome"]
    assert row.values["tags"] == ["B-PER", "E-PER", "O", "U-LOC"]
    assert row.values["entities"] == "PER: Ann Smith\nLOC: Rome"
    assert "document" not in row.values


def test_tags_that_are_no_entities(tmp_path: Path) -> None:
    name = written(tmp_path, "t.conll", "The\tDET\ndog\tNOUN\n")
    [row] = read_rows(name, tmp_path)
    assert "entities" not in row.values
    assert pairs(tmp_path, "generation", name) == [("The dog", "DET NOUN")]


def test_a_sentence_with_a_line_without_a_tag_is_refused_whole(tmp_path: Path) -> None:
    sentence = "a\tO\nb\tO\nc\tO\n\n"
    name = written(tmp_path, "t.conll", f"{sentence * 3}a\tO\nb\nc\tO\n\n{sentence}d\t\ne\tO\n")
    refused = Refused()
    assert len(list(stream_rows(name, tmp_path, refused=refused))) == 4
    fix = "Mend the line. A sentence with such a line is left out whole."
    assert [row.reason for row in refused.rows] == [
        f"t.conll line 14 has 1 column where the others have 2: 'b'. {fix}",
        f"t.conll line 21 has an empty column: 'd'. {fix}",
    ]
    assert failure(tmp_path, name).startswith("t.conll line 14 has 1 column where")
    # a byte order mark where files were joined is no word
    mark = written(tmp_path, "joined.conll", f"{sentence}\ufeff\n{sentence}\ufeff")
    assert len(read_rows(mark, tmp_path)) == 2


def test_conll_forced_on_other_text(tmp_path: Path) -> None:
    name = written(tmp_path, "t.annotated", CONLL)
    assert "ends in '.annotated'" in failure(tmp_path, name)
    assert len(read_rows(name, tmp_path, format="conll")) == 2
    prose = written(tmp_path, "p.txt", "One two three.\nFour.\nFive and six are numbers.\n")
    assert "p.txt: its lines are not in columns" in failure(tmp_path, prose, "conll")


words = st.lists(
    st.tuples(st.text("abcé", min_size=1, max_size=4), st.sampled_from(["O", "B-x", "I-x", "B-y"])),
    min_size=1,
    max_size=6,
)


@settings(deadline=None, max_examples=50)
@given(st.lists(words, min_size=1, max_size=8), st.sampled_from(["\t", " "]))
def test_conll_keeps_every_word(sentences: list[list[tuple[str, str]]], between: str) -> None:
    texts = ["\n".join(between.join(pair) for pair in sentence) for sentence in sentences]
    rows = [Line({"text": line}, f"t line {n}") for n, line in
            enumerate("\n\n".join(texts).split("\n"), 1)]  # fmt: skip
    made = named("conll")[0].read(iter(rows), Place("t", Path("t")), "")
    got = [list(zip(row.values["tokens"], row.values["tags"], strict=True)) for row in made]
    assert got == sentences


# --- parallel and plain text


def test_parallel_files(tmp_path: Path) -> None:
    written(tmp_path, "t.en", "One\nTwo\n")
    written(tmp_path, "t.de", "Eins\nZwei\n")
    for name, wanted in (
        ("t.{de,en}", [("Eins", "One"), ("Zwei", "Two")]),
        ("t.en", [("One", "Eins"), ("Two", "Zwei")]),
    ):
        assert pairs(tmp_path, "translation", name) == wanted
        assert "parallel text" in detect(name, tmp_path).sentence
    table = written(tmp_path, "t.csv", "id,no\n1,2\n")
    assert detect(table, tmp_path).format is None


def texts(folder: Path, name: str, format: str = "auto") -> list[tuple[str, str]]:
    return [(row.values["text"], row.source) for row in read_rows(name, folder, format=format)]


def test_plain_text_in_paragraphs_lines_or_whole(tmp_path: Path) -> None:
    name = written(tmp_path, "t.txt", "\nOne\ntwo.\n\n\n  Three.\n")
    parts = [("One\ntwo.", "t.txt line 2"), ("  Three.", "t.txt line 6")]
    assert texts(tmp_path, name) == texts(tmp_path, name, "text:paragraphs") == parts
    assert [text for text, _ in texts(tmp_path, name, "text:lines")] == ["One", "two.", "  Three."]
    assert texts(tmp_path, name, "text:documents") == [("One\ntwo.\n\n\n  Three.", "t.txt")]
    assert texts(tmp_path, written(tmp_path, "u.txt", "One.\nTwo.\n")) == [
        ("One.", "u.txt line 1"),
        ("Two.", "u.txt line 2"),
    ]
    said = failure(tmp_path, name, "text:line")
    assert "has no unit 'line'" in said and "lines" in said


def test_paragraphs_do_not_go_on_in_the_next_file(tmp_path: Path) -> None:
    written(tmp_path, "f/a.txt", "One\n\nTwo")
    written(tmp_path, "f/b.txt", "Three\n\nFour\n")
    assert [text for text, _ in texts(tmp_path, "f")] == ["One", "Two", "Three", "Four"]
    assert [text for text, _ in texts(tmp_path, "f", "text:documents")] == [
        "One\n\nTwo",
        "Three\n\nFour",
    ]


def test_a_paragraph_that_is_too_long_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "LONGEST", 20)
    name = written(tmp_path, "t.txt", "Short.\n\n" + "Many words.\n" * 3 + "\nShort again.\n")
    refused = Refused()
    made = list(stream_rows(name, tmp_path, format="text", refused=refused))
    assert [row.values["text"] for row in made] == ["Short.", "Short again."]
    assert [row.source for row in refused.rows] == ["t.txt line 3"]


def test_plain_text_is_what_a_task_trains_on(tmp_path: Path) -> None:
    name = written(tmp_path, "t.txt", "\n\n".join(f"Paragraph {n}." for n in range(20)))
    task = understood(task_of(tmp_path, "generation", train=name, format="auto"))
    assert task.data.text == "{{ text }}"
    splits = prepare_texts(task).splits
    assert len(splits.train) + len(splits.validation) == 20


# --- which format it is

TURNS = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
SHARE = [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]
ANNOTATION = {"result": [{"from_name": "q", "type": "choices", "value": {"choices": ["x"]}}]}
MESSAGE = {"type": "message", "user": "U1", "ts": "1704100001.0", "text": "a"}
#: A small file of each format: the file's name and what is in it.
SAMPLES: dict[str, tuple[str, Any]] = {
    "alpaca": ("t.json", [{"instruction": "a", "input": "", "output": "b"}]),
    "argilla": ("t.jsonl", [{"text": "a", "q.responses": ["x"], "q.suggestion": None}]),
    "conll": ("t.txt", CONLL),
    "irc": ("t.log", "12:00 <ann> a\n12:01 <bob> b\n"),
    "kto": ("t.jsonl", [{"prompt": "a", "completion": "b", "label": True}]),
    "label-studio": ("t.json", [{"id": 1, "data": {"text": "a"}, "annotations": [ANNOTATION]}]),
    "openai": ("t.jsonl", [{"messages": TURNS}]),
    "parallel": ("t.csv", "en,de\nOne,Eins\n"),
    "preference": ("t.jsonl", [{"prompt": "a", "chosen": "b", "rejected": "c"}]),
    "prompt-completion": ("t.jsonl", [{"prompt": "a", "completion": "b"}]),
    "sharegpt": ("t.json", [{"conversations": SHARE}]),
    "slack": ("t.json", [MESSAGE, MESSAGE | {"user": "U2"}]),
    "squad": ("t.json", SQUAD),
    "superannotate": ("t.json", [{"metadata": {"name": "i"}, "data": {"r_a": {"value": "x"}}}]),
    "text": ("t.txt", "One day.\n\nAnother day, at 12:00, it was over: so they said.\n"),
    "whatsapp": ("t.txt", "31/12/20, 23:58 - Ann: a\n31/12/20, 23:59 - Bob: b\n"),
}
#: Files that look a little like a format and are plain tables or text.
OTHERS: list[tuple[str, Any, str | None]] = [
    ("t.csv", "text,label\na,b\n", None),
    ("t.csv", "question,context,answer\na,b,c\n", None),
    ("t.jsonl", [{"text": "a", "user": "u", "ts": "1704100001.0"}], None),
    ("t.jsonl", [{"tokens": ["a"], "tags": ["O"]}], None),
    ("t.jsonl", [{"data": {"text": "a"}, "metadata": {"lang": "en"}}], None),
    ("t.jsonl", [{"messages": ["a", "b"]}], None),
    ("t.jsonl", [{"data": {"a": "b"}, "annotations": [{"label": "x"}]}], None),
    ("t.txt", "12:00 the train leaves\n12:30 it arrives\n", "text"),
    ("t.txt", "12/31/20 was a day - Ann: said so\nand so on\n", "text"),
    ("t.txt", "A line of words\nB line of words\n", "text"),
]


def sampled(folder: Path, name: str, content: Any) -> str:
    if isinstance(content, str):
        return written(folder, name, content)
    if name.endswith(".jsonl"):
        return written(folder, name, "".join(json.dumps(one) + "\n" for one in content))
    return written(folder, name, json.dumps(content))


def test_there_is_a_sample_of_every_format() -> None:
    assert sorted(name for name, _ in FORMATS) == sorted(SAMPLES)


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_a_format_is_told_from_its_rows(tmp_path: Path, name: str) -> None:
    source = sampled(tmp_path, *SAMPLES[name])
    found = detect(source, tmp_path)
    assert found.format is not None and found.format.name == name
    assert found.sentence == f"{source}: read as {found.format.title}."
    assert read_rows(source, tmp_path, format="auto") == read_rows(source, tmp_path, format=name)


#: Pairs that are both right, of which one is asked first: the rows of one hold what another needs.
ALSO = {
    ("kto", "prompt-completion"), ("alpaca", "preference"), ("text", "conll"), ("conll", "text"),
    ("irc", "text"), ("whatsapp", "text"),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_no_other_format_takes_it(tmp_path: Path, name: str) -> None:
    from luthier.data.format import _peek
    from luthier.data.reading import find_reader

    place, read = find_reader(sampled(tmp_path, *SAMPLES[name]), tmp_path)
    sample, _ = _peek(place, read(place))
    of_lines = bool(sample.lines)
    fitting = {
        other
        for other, one in FORMATS
        if one.of_lines == of_lines and one.detect(sample) and (name, other) not in ALSO
    }
    assert fitting == {name}


@pytest.mark.parametrize(("name", "content", "wanted"), OTHERS)
def test_what_only_looks_like_a_format(
    tmp_path: Path, name: str, content: Any, wanted: str | None
) -> None:
    found = detect(sampled(tmp_path, name, content), tmp_path).format
    assert (found.name if found else None) == wanted


# --- the format in a task


def test_the_format_is_said_and_can_be_forced(tmp_path: Path) -> None:
    written(tmp_path, "squad.json", json.dumps(SQUAD))
    asked = {"input": "{{ question }}", "output": "{{ is_impossible }}"}
    forced = task_of(tmp_path, "qa", train="squad.json", format="squad", **asked)
    assert reading_note(forced) == [
        "squad.json: read as SQuAD (a question on a passage, and its answers), as `format` says."
    ]
    assert forced is understood(forced)
    plain = task_of(tmp_path, "qa", train="squad.json", input="{{ title }}", output="{{ title }}")
    assert reading_note(plain) == [
        "squad.json: read as a table (title, paragraphs); it looks like SQuAD (a question on a "
        "passage, and its answers). `data.format: squad` gives the rows that it means."
    ]
    with pytest.raises(InputError, match="is made of lines of text"):
        read_rows("squad.json", tmp_path, format="irc")
    with pytest.raises(InputError, match="Did you mean 'squad'"):
        detect("squad.json", tmp_path, format="squat")
    with pytest.raises(InputError, match="takes nothing behind a colon"):
        detect("squad.json", tmp_path, format="squad:x")


def test_a_task_whose_rows_do_not_tell(tmp_path: Path) -> None:
    written(tmp_path, "t.csv", "review,stars\na,1\n")
    with pytest.raises(InputError, match=r"the rows do not tell\. t\.csv: read as a table") as said:
        prepare(task_of(tmp_path, "classification", train="t.csv", format="auto"))
    assert "input: '{{ review }}'" in str(said.value)
    with pytest.raises(InputError, match="give exactly one of"):
        task_of(tmp_path, "classification", train="t.csv")


def test_what_was_said_before_a_pair_of_answers_is_kept(tmp_path: Path) -> None:
    row = {"instruction": "and you?", "input": "", "history": [["hi", "hello"]],
           "chosen": "fine", "rejected": "no"}  # fmt: skip
    (tmp_path / "t.json").write_text(json.dumps([row]), "utf-8")
    (found,) = read_rows("t.json", tmp_path, format="auto")
    said = [turn["content"] for turn in found.values["messages"]]
    assert said == ["hi", "hello", "and you?", "fine"]
    assert "history" not in found.values
