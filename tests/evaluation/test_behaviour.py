"""How answers are written: lengths, repetition, ends, what is put off, languages."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luthier.evaluation.behaviour import behaviour, repetition
from luthier.evaluation.statistics import wilson_interval

ENGLISH = "The parcel that you sent us last week has arrived at our warehouse this morning."
GERMAN = "Das Paket, das Sie uns letzte Woche geschickt haben, ist heute bei uns angekommen."


@pytest.mark.parametrize("kind", ["classification", "ner", "extraction"])
def test_labels_and_records_do_not_behave(kind) -> None:
    assert behaviour(kind, ["a"], ["a"]) is None


def test_repetition_by_hand() -> None:
    # a b c d | b c d a | c d a b | d a b c | a b c d: five runs, one of them again
    assert repetition(["a b c d a b c d"]) == pytest.approx(1 / 5)
    assert repetition(["one two three four five"]) == 0
    assert repetition(["Ja, ja! JA ja ja"]) == pytest.approx(1 / 2)
    assert repetition(["too short", ""]) is None
    # runs are counted within a text, and texts by their runs
    assert repetition(["a b c d", "a b c d"]) == 0


@given(st.lists(st.text("ab ", max_size=40), max_size=6))
def test_repetition_is_a_share(texts) -> None:
    found = repetition(texts)
    assert found is None or 0 <= found < 1
    assert repetition(texts * 2) == (None if found is None else pytest.approx(found))


def test_what_is_said_of_answers() -> None:
    found = behaviour(
        "generation",
        ["one two three four", "one two"],
        ["one two three four five six", "Sure, I'll look into it tomorrow morning."],
        endings=["stop", "length"],
        wanted=["one two three", "one two three four five"],
    )
    assert found is not None
    assert found["length_ratio"] == pytest.approx((6 + 7) / 6)
    assert found["words"] == 6.5 and found["length_ratio_wanted"] == pytest.approx(6.5 / 4)
    one_of_two = {"share": 0.5, "interval": list(wilson_interval(1, 2)), "of": 2}
    assert found["ended"] == found["cut_off"] == found["answers_nothing"] == one_of_two
    assert found["references_answer_nothing"]["share"] == 0
    assert found["same_language"] is None  # too short to tell


def test_the_words_of_the_data_check_are_those_of_the_answers() -> None:
    put_off = ["I shall work on that in the morning", "ok", "As an AI language model, I cannot"]
    assert behaviour("chat", put_off, put_off)["answers_nothing"]["share"] == 1
    # "ok" may be the right answer to a question, and is a translation
    assert behaviour("qa", put_off, put_off)["answers_nothing"]["share"] == pytest.approx(2 / 3)
    assert behaviour("translation", put_off, put_off)["answers_nothing"] is None


def test_languages_are_compared_where_both_can_be_told() -> None:
    found = behaviour(
        "translation", [ENGLISH, ENGLISH, ENGLISH, "Hm"], [ENGLISH, GERMAN, "ok", ENGLISH]
    )
    assert found["same_language"]["share"] == 0.5 and found["same_language"]["of"] == 2


def test_what_is_not_known_is_not_said() -> None:
    found = behaviour("chat", [""], [""])
    assert found["length_ratio"] is None and found["length_ratio_wanted"] is None
    assert found["ended"] is None and found["cut_off"] is None and found["repetition"] is None
    some = behaviour("chat", ["a", "b"], ["a", "b"], endings=["stop", None])
    assert some["ended"]["of"] == 1
    assert behaviour("chat", [], []) is None


def test_one_of_several_right_answers_is_what_an_answer_is_held_against() -> None:
    references = ['["a b c d", "A b c d", "a b c d e"]', "not in the documents", '["x y"]']
    answers = ["a b c d", "not in the documents", "x y"]
    found = behaviour("qa", references, answers)
    assert found is not None
    assert found["length_ratio"] == 1
    assert found["repetition_of_references"] == 0
    # where lists are what is wanted they are texts like any other
    other = behaviour("generation", references, answers)
    assert other is not None
    assert other["length_ratio"] < 1 and other["repetition_of_references"] > 0
