"""Other wordings of an instruction."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from luthier.data.examples import Example, Message
from luthier.prompts.wordings import Wording, by_model, by_rule, clean, distinct


def example(text: str, output: str) -> Example:
    return Example(text, (Message("user", text),), output)


REFUND = [example(f"please give my money back, order {n}", "refund") for n in range(6)]
LOGIN = [example(f"the password page shows error {n}", "login") for n in range(6)]


def named(found: list[Wording]) -> dict[str, str]:
    return {one.name: one.text for one in found}


def test_the_instruction_itself_comes_first_and_texts_differ() -> None:
    found = by_rule("Sort the message.", REFUND + LOGIN, ("login", "refund"), goal="Route mail.")
    assert found[0] == Wording("the task's own", "Sort the message.")
    assert len({one.text for one in found}) == len(found)
    assert named(found)["with the goal"] == "Route mail.\n\nSort the message."
    assert named(found)["no instruction"] == ""


def test_labels_are_listed_unless_the_instruction_does() -> None:
    said = named(by_rule("Sort.", REFUND + LOGIN, ("login", "refund")))
    assert said["with the form of the answer"].endswith(
        "Reply with exactly one of these labels and nothing else: login, refund."
    )
    listed = named(by_rule("Sort into login or Refund.", REFUND + LOGIN, ("login", "refund")))
    assert listed["with the form of the answer"].endswith("\n\nReply with the label only.")


def test_words_typical_of_a_label_are_those_the_others_lack() -> None:
    text = named(by_rule("Sort.", REFUND + LOGIN, ("login", "refund")))[
        "with words typical of each label"
    ]
    login, refund = (line for line in text.splitlines() if line.startswith("- "))
    assert "password" in login and "error" in login and "money" not in login
    assert "money" in refund and "password" not in refund


def test_words_that_all_labels_share_are_no_hint() -> None:
    rows = [example("the same words again", label) for label in ("a", "b") * 8]
    assert "with words typical of each label" not in named(by_rule("Sort.", rows, ("a", "b")))


def test_labels_inside_other_words_are_not_listed() -> None:
    labels = ("no", "a", "dark red", "red")
    said = named(by_rule("Annotate: a message that is dark red.", REFUND, labels))
    assert "exactly one of these labels" in said["with the form of the answer"]
    said = named(by_rule("Say no, a, dark red or Red!", REFUND, labels))
    assert said["with the form of the answer"].endswith("Reply with the label only.")


@given(st.lists(st.tuples(st.text("ab 1", max_size=9), st.sampled_from("xy")), max_size=12))
def test_few_words_are_no_hint_and_no_error(rows: list[tuple[str, str]]) -> None:
    found = by_rule("Sort.", [example(*row) for row in rows], ("x", "y"))
    assert found[0].text == "Sort."
    single = [example(f"price {n}", "xy"[n % 2]) for n in range(8)]
    assert "with words typical of each label" not in named(by_rule("Sort.", single, ("x", "y")))


def test_the_form_of_answers_is_read_off_them() -> None:
    objects = [example(f"t{n}", json.dumps({"name": "x", "price": n})) for n in range(5)]
    assert (
        "the keys name, price"
        in named(by_rule("Extract.", objects, None))["the form of the answer alone"]
    )
    words = [example(f"t{n}", "yes") for n in range(5)]
    assert "one word" in named(by_rule("Say.", words, None))["the form of the answer alone"]
    short = [example(f"t{n}", "a few words here") for n in range(20)]
    assert "at most 4 words" in named(by_rule("Say.", short, None))["the form of the answer alone"]
    long = [example(f"t{n}", "word " * 80) for n in range(5)]
    assert "the form of the answer alone" not in named(by_rule("Say.", long, None))
    assert by_rule("Say.", [], None)[0].text == "Say."


def replying(reply: str) -> Callable[[list[str]], list[str]]:
    return lambda requests: [f"{reply} {n}" for n, _ in enumerate(requests)]


def test_a_model_rewrites_and_guesses() -> None:
    seen: list[str] = []

    def write(requests: list[str]) -> list[str]:
        seen.extend(requests)
        return [f"Instruction: Do it so, {n}." for n, _ in enumerate(requests)]

    found = by_model("Sort.", REFUND + LOGIN, write, count=4, seed=0)
    assert [one.text for one in found] == [f"Do it so, {n}." for n in range(4)]
    assert [one.name.split(" by")[0] for one in found] == [
        "rewritten",
        "guessed from examples",
    ] * 2
    assert "Instruction:\nSort." in seen[0] and "Instruction:\nSort." not in seen[1]
    assert seen[1].count("\nOutput: ") == 5
    again: list[str] = []
    by_model("Sort.", REFUND + LOGIN, lambda r: again.extend(r) or r, count=4, seed=0)
    assert again == seen  # the same requests for the same seed


def test_without_an_instruction_all_are_guessed_and_without_both_none() -> None:
    found = by_model("", REFUND, replying("Do"), count=3, seed=0)
    assert {one.name.split(" by")[0] for one in found} == {"guessed from examples"}
    assert by_model("", [], replying("Do"), count=3, seed=0) == []
    assert len(by_model("Sort.", [], replying("Do it"), count=2, seed=0)) == 2


def test_an_instruction_that_holds_a_training_example_is_left_out() -> None:
    for said in (REFUND[0].input, "Please,  give MY money back - order 0"):
        reply = f"Say refund for: {said}!"
        assert by_model("Sort.", REFUND, lambda r, t=reply: [t] * len(r), count=2, seed=0) == []


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        ("**New Instruction:** Name it.", "Name it."),
        ('"Name the colour."', "Name the colour."),
        ("**Instruction**: Name it.", "Name it."),
        ("New instruction:\nName it.", "Name it."),
        ("Name it.\n\nInput: x\nOutput: y", "Name it."),
        ("Name it.\nExample 1: x", "Name it."),
        ("Instruction:", ""),
        ("**New instruction**\nName it.", "Name it."),
        ("**New instruction**\n\n**Name it.**", "Name it."),
        ("## Rewritten Instruction\n\nName it.", "Name it."),
        ("New Instruction - Name it.", "Name it."),
        ("Here is the rewritten instruction:\n\nName it.", "Name it."),
        ("Here's a clearer version of the instruction: Name it.", "Name it."),
        ('Sure! Here is the new instruction:\n\n"Name it."', "Name it."),
        ("Certainly, the revised instruction is:\n> Name it.", "Name it."),
        ("Here is the rewritten instruction:\n\n**Instruction:** 'Name it.'", "Name it."),
        ("Revised version: \u201cName it.\u201d", "Name it."),
        ("```text\nName it.\n```", "Name it."),
        ("```\nInstruction: Name it.\n```", "Name it."),
        ("1. Name it.", "Name it."),
        ("- Name it.", "Name it."),
        ("Here are three rewritten instructions:\n1. Name it.\n2. Say it.\n3. Do.", "Name it."),
        ("Name it.\n\nNote: I kept the labels.", "Name it."),
        ("Name it.\n\nThis instruction is clearer than before.", "Name it."),
        ("Name it.\n\nLet me know if you want more.", "Name it."),
        # what belongs to an instruction stays
        ("1. Read it.\n2. Name it.", "1. Read it.\n2. Name it."),
        ("Instructions:\n1. Read it.\n2. Name it.", "1. Read it.\n2. Name it."),
        ("Instruction manuals are sorted by colour.", "Instruction manuals are sorted by colour."),
        ("Here is a mail: say whose it is.", "Here is a mail: say whose it is."),
        ("Sure or unsure: say which.", "Sure or unsure: say which."),
        ("Task forces are teams; name them.", "Task forces are teams; name them."),
        ("Say **yes** or **no**", "Say **yes** or **no**"),
        ('"yes" and "no" are the labels "', '"yes" and "no" are the labels "'),
        ('"Yes" or "no"', '"Yes" or "no"'),
        ("Note: answer in one word.", "Note: answer in one word."),
        ("3.5 is a number: name its kind.", "3.5 is a number: name its kind."),
        ("  ", ""),
        ("x" * 5000, ""),
    ],
)
def test_replies_are_cleaned(reply: str, text: str) -> None:
    assert clean(reply) == text


@given(st.text())
def test_any_reply_gives_a_text_of_bounded_length(reply: str) -> None:
    text = clean(reply)
    assert text == text.strip() and len(text) <= 1200


SAID = st.from_regex(r"[A-Z][a-z]{2,8}( [a-z]{1,8}){1,6}\.", fullmatch=True).filter(
    lambda text: not text.startswith(("This", "Sure", "Here", "Let", "New", "The"))
)
BEFORE = st.sampled_from(
    [
        "Instruction: ",
        "**Instruction:** ",
        "### New instruction\n",
        "**New instruction**\n\n",
        "Rewritten instruction:\n",
        "Here is the rewritten instruction:\n\n",
        "Sure, here's the revised instruction: ",
        "Okay. Here is a clearer version:\n",
    ]
)
AROUND = st.sampled_from(
    [
        '"{}"',
        "'{}'",
        "\u201c{}\u201d",
        "\u00ab{}\u00bb",
        "`{}`",
        "**{}**",
        "> {}",
        "1. {}",
        "```\n{}\n```",
    ]
)
BEHIND = st.sampled_from(
    ["", "\n\nInput: a\nOutput: b", "\n\nExamples:\n- a", "\n\nNote: it is shorter.", "\n\n"]
)


@given(
    SAID,
    AROUND | st.just("{}"),
    st.lists(BEFORE, max_size=2),
    st.sampled_from(["{}", "\u00ab{}\u00bb", "```\n{}\n```", "> {}"]),
    BEHIND,
)
def test_whatever_stands_around_an_instruction_goes(
    said: str, inner: str, before: list[str], outer: str, behind: str
) -> None:
    assume(inner == "{}" or inner != outer)
    reply = outer.format("".join(before) + inner.format(said)) + behind
    assert clean(reply) == said


@given(st.lists(BEFORE | AROUND | BEHIND | SAID | st.text(max_size=5), max_size=8))
def test_what_was_cleaned_is_clean(parts: list[str]) -> None:
    text = clean("".join(parts))
    assert clean(text) == text


@given(st.lists(st.tuples(st.text(max_size=4), st.text(max_size=4))))
def test_distinct_keeps_the_first_of_each(pairs: list[tuple[str, str]]) -> None:
    given_ = [Wording(*pair) for pair in pairs]
    kept = distinct(given_)
    assert {one.text.strip() for one in kept} == {one.text.strip() for one in given_}
    assert len(kept) == len({one.text.strip() for one in given_})
