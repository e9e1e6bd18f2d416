"""Tone and format beside wanted outputs: each trait by hand, and when answers are called unlike."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luthier.evaluation.behaviour import behaviour
from luthier.evaluation.manner import FORMAT, NUMBERS, TONE, manner, sentences

TRAITS = {key: holds for key, _, holds in (*FORMAT, *TONE)}
WANTED = [
    "The parcel left the warehouse on Monday. It will arrive within three days.",
    "The refund was sent to the card. Banks need about five days to show it.",
]


@pytest.mark.parametrize(
    ("key", "has", "has_not"),
    [
        ("capital", ["Yes", '"Quoted', "5 Stars", "日本"], ["yes", "e-mail us", "", "5 stars"]),
        ("mark", ["Yes.", "Yes!)", "Yes.**", "好。", "So…"], ["Yes", "a, b;", "e.g. this"]),
        ("paragraphs", ["a\n\nb"], ["a\nb", "a\n\n"]),
        ("list", ["- a\n- b", "1. a\n2) b", "Text:\n* a\n* b"], ["- a", "1. a", "a - b\nc - d"]),
        (
            "markdown",
            ["# Head", "a **bold** b", "`code`", "```\nx\n```", "[a](b)", "| a | b |"],
            ["2 * 3 * 4", "#1 of all", "a_b_c", "it costs 5 | 6", "snake__case"],
        ),
        ("json", ['{"a": 1}', "[1, 2]", ' {"a": []} '], ["{a: 1}", "1", '"text"', "{"]),
        ("exclaims", ["Great!"], ["Great."]),
        ("asks", ["Is it?"], ["It is."]),
        ("emoji", ["ok 👍", "☀"], ["ok :)", "π"]),
        (
            "itself",
            ["I can", "Send it to us.", "Our team", "we ship"],
            ["in the US", "i = 3", "power"],
        ),
        ("reader", ["Your parcel", "you'll see"], ["the youth", "young"]),
        (
            "greeting",
            ["Hi Ann, it left.", "Dear Sir", "It left.\n\nBest regards,\nAnn", "Hope this helps!"],
            ["The high price", "with regard to it", "This helps you."],
        ),
        ("preamble", ["Sure, it left.", "Here's the text:"], ["Here in York", "Surely"]),
        ("hedges", ["It may rain", "Perhaps", "I think so", "It seems fine"], ["in May", "mighty"]),
        ("contractions", ["don't", "it’s", "We'll see"], ["Ann's book", "do not", "dogs' food"]),
    ],
)  # fmt: skip
def test_a_trait_is_what_its_name_says(key: str, has: list[str], has_not: list[str]) -> None:
    assert {text: TRAITS[key](text) for text in has} == dict.fromkeys(has, True)
    assert {text: TRAITS[key](text) for text in has_not} == dict.fromkeys(has_not, False)


def test_sentences_are_cut_where_people_cut_them() -> None:
    assert sentences("One. Two! Three?") == ["One.", "Two!", "Three?"]
    assert sentences('He said "no." Then 3.5 km.') == ['He said "no.', "Then 3.5 km."]
    assert sentences("A line\nanother") == ["A line", "another"]
    assert sentences("  ... ") == []


def found(answers: list[str], wanted: list[str] = WANTED) -> dict[str, Any]:
    held = manner(answers, WANTED, wanted)
    assert held is not None
    return held


def test_answers_like_the_wanted_ones_are_called_so() -> None:
    held = found(WANTED * 10)
    assert held["english"] and held["wanted"] == 2
    assert not any(trait["unlike"] for trait in held["traits"].values())
    assert not any(one["unlike"] for one in held["numbers"].values())
    assert held["traits"]["mark"]["answers"]["share"] == 1.0


def test_answers_of_another_manner_are_told_by_trait() -> None:
    chatty = "Sure! I think **your** parcel's on its way 🎉\n\n- it may take\n- some days"
    held = found([chatty] * 12)
    unlike = {key for key, trait in held["traits"].items() if trait["unlike"]}
    # the wanted ones end with a mark, and have none of the rest
    assert unlike == {
        *("mark", "paragraphs", "list", "markdown", "exclaims", "emoji"),
        *("itself", "reader", "preamble", "hedges"),
    }
    assert held["traits"]["list"]["wanted"] == {"count": 0, "of": 2}
    assert held["numbers"]["sentence_words"] == {
        "answers": 3.5, "references": 7.0, "wanted": 7.0, "unlike": True,
    }  # fmt: skip


def test_half_of_the_answers_is_not_most_of_them() -> None:
    answers = [WANTED[0], WANTED[0].rstrip(".")] * 10
    assert not found(answers)["traits"]["mark"]["unlike"]
    assert found([WANTED[0].rstrip(".")] * 10)["traits"]["mark"]["unlike"]
    # three answers show nothing
    assert not found([WANTED[0].rstrip(".")] * 3)["traits"]["mark"]["unlike"]


def test_wanted_outputs_that_differ_or_stand_alone_ask_for_nothing() -> None:
    other = WANTED[1].rstrip(".")
    for wanted in ([WANTED[0]], [WANTED[0], other]):
        for answers in ([WANTED[0]] * 20, [other] * 20):
            held = found(answers, wanted)
            assert not held["traits"]["mark"]["unlike"]
    assert not any(one["unlike"] for one in found(["Word."] * 20, WANTED[:1])["numbers"].values())


def test_words_are_looked_at_in_english_alone() -> None:
    german = ["Das Paket ist am Montag abgegangen. Es kommt in drei Tagen bei Ihnen an."] * 2
    held = manner(german, german, german)
    assert held is not None and not held["english"]
    assert held["traits"].keys() == {key for key, *_ in FORMAT}
    assert found(WANTED)["traits"].keys() == {key for key, *_ in (*FORMAT, *TONE)}


def test_it_is_there_only_where_outputs_are_wanted() -> None:
    assert manner(WANTED, WANTED, []) is None
    assert manner(WANTED, WANTED, ["  "]) is None
    held = behaviour("generation", WANTED, WANTED, wanted=WANTED)
    assert held is not None and held["manner"] == manner(WANTED, WANTED, WANTED)
    plain = behaviour("generation", WANTED, WANTED)
    assert plain is not None and plain["manner"] is None
    empty = manner(["", " "], WANTED, WANTED)
    assert empty is not None and empty["traits"]["mark"]["answers"] is None
    assert not any(trait["unlike"] for trait in empty["traits"].values())


@given(
    st.lists(st.text(max_size=60), max_size=8),
    st.lists(st.text(max_size=60), min_size=2, max_size=3),
)
def test_any_text_has_a_manner(answers: list[str], wanted: list[str]) -> None:
    held = manner(answers, answers, wanted)
    assert (held is None) == (not any(text.strip() for text in wanted))
    if held is None:
        return
    assert held["numbers"].keys() == {key for key, _ in NUMBERS}
    for trait in held["traits"].values():
        assert 0 <= trait["wanted"]["count"] <= trait["wanted"]["of"]
        if trait["answers"] is not None:
            low, high = trait["answers"]["interval"]
            assert 0 <= low <= trait["answers"]["share"] <= high <= 1
