"""Which templates fit a file, and what is said where one does not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.data.reading import SourceRow, stream_rows
from luthier.data.template_evidence import fold_name, look, name_words
from luthier.data.template_library import library, library_template
from luthier.data.template_matching import Fit, bind, match, match_all
from luthier.errors import InputError

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


def rows(*values: dict[str, Any]) -> list[SourceRow]:
    return [SourceRow(one, f"t.jsonl line {n}") for n, one in enumerate(values, 1)]


def reviews(**names: str) -> list[SourceRow]:
    """Thirty reviews; `names` renames the columns text, stars and head."""
    made = [
        {
            "text": f"The {n}th pair of shoes was {'good' if n % 2 else 'poor'} and {n} days late",
            "stars": float(1 + n % 5),
            "head": f"{'Nice' if n % 2 else 'Weak'} shoes number {n}",
        }
        for n in range(30)
    ]
    return rows(*({names.get(k, k): v for k, v in one.items()} for one in made))


def fit(name: str, held: list[SourceRow], **given: str) -> Fit:
    return match(library_template(name), look(held), given)


def levels(held: list[SourceRow]) -> dict[str, str]:
    return {fit.template.name: fit.level for fit in match_all(look(held))}


def test_every_template_fits_its_own_example() -> None:
    """With the fields' own names, a file of one row is recognised, or at worst proposed."""
    for template in library().values():
        found = match(template, look(rows(dict(template.example))))
        assert not found.missing, (template.name, found)
        assert found.columns == {
            name: name for name in template.fields if name in template.example
        }, template.name
        assert found.level != "no"


@pytest.mark.parametrize(
    ("name", "words"),
    [("reviewText", ["review", "text"]), ("review_text", ["review", "text"]), ("Q1", ["q", "1"])],
)
def test_names_are_compared_without_their_spelling(name: str, words: list[str]) -> None:
    assert name_words(name) == words
    assert fold_name("review Text") == fold_name("review_text") == fold_name("reviewText")


def test_columns_are_known_by_their_names() -> None:
    found = fit("review-writing", reviews(text="reviewText", stars="overall", head="summary"))
    assert found.level == "fits"
    assert found.columns == {"text": "reviewText", "rating": "overall", "title": "summary"}


def test_a_column_of_one_to_five_is_a_rating_whatever_its_name() -> None:
    found = fit("review-rating", reviews(stars="zzz"))
    assert (found.level, found.columns["rating"]) == ("may fit", "zzz")
    one_to_nine = rows(*({"text": f"words {n} and more", "zzz": n % 10} for n in range(40)))
    assert fit("review-rating", one_to_nine).level == "no"


def test_few_values_are_a_label_and_many_are_none() -> None:
    few = rows(*({"text": f"some words {n}", "zzz": f"kind {n % 3}"} for n in range(60)))
    many = rows(*({"text": f"some words {n}", "zzz": f"kind {n}"} for n in range(60)))
    assert fit("topic", few).columns == {"text": "text", "topic": "zzz"}
    assert fit("topic", few).level == "may fit"
    assert fit("topic", many).level == "no"
    assert fit("review-title", many).level == "no"


def test_a_long_text_is_a_document_and_a_short_one_hardly() -> None:
    def held(words: int) -> list[SourceRow]:
        return rows(*({"text": f"{n} " + "word " * words, "summary": f"sum {n}"} for n in range(9)))

    assert fit("summary", held(80)).score > fit("summary", held(20)).score
    assert fit("summary", held(20)).score > fit("summary", held(2)).score


def test_zero_and_one_say_nothing_under_a_name_that_says_nothing() -> None:
    plain = rows(*({"text": f"some words {n}", "label": n % 2} for n in range(30)))
    named = rows(*({"text": f"some words {n}", "sentiment": n % 2} for n in range(30)))
    worded = rows(
        *({"text": f"some words {n}", "label": ("ham", "spam")[n % 2]} for n in range(30))
    )
    assert levels(plain)["sentiment"] == levels(plain)["spam"] == "may fit"
    assert levels(named)["sentiment"] == "fits"
    assert levels(named)["spam"] == "no"
    assert levels(worded)["spam"] == "fits"
    assert levels(worded)["sentiment"] == "no"


def test_two_fields_never_get_one_column() -> None:
    held = rows(*({"text": f"some words {n}"} for n in range(9)))
    for found in match_all(look(held)):
        assert len(set(found.columns.values())) == len(found.columns)


def test_what_is_missing_is_named_with_the_nearest_column() -> None:
    held = reviews(head="hedline", stars="zzz")
    with pytest.raises(InputError) as caught:
        bind(library_template("review-title"), look(held), None, "review-title", "t.jsonl")
    assert "needs 'title' (a title or headline, one line), which t.jsonl does not have" in str(
        caught.value
    )
    assert "Its columns: text, zzz, hedline." in str(caught.value)
    assert "`--field title=hedline`" in str(caught.value)


def test_a_task_takes_columns_by_name_alone() -> None:
    held = look(reviews(stars="zzz"))
    template = library_template("review-rating")
    assert bind(template, held, None, "x", "t.jsonl")["rating"] == "zzz"
    with pytest.raises(InputError, match=r"data\.fields: \{rating: zzz\}"):
        bind(template, held, None, "x", "t.jsonl", "data.fields", by_name=True)
    given = {"rating": "zzz"}
    assert bind(template, held, given, "x", "t", "data.fields", by_name=True)["rating"] == "zzz"


def test_what_the_user_says_is_taken() -> None:
    held = look(reviews())
    template = library_template("review-rating")
    assert bind(template, held, {"text": "head"}, "x", "t")["text"] == "head"
    with pytest.raises(InputError, match="Did you mean 'rating'"):
        bind(template, held, {"ratin": "stars"}, "x", "t")
    with pytest.raises(InputError, match="Did you mean 'stars'"):
        bind(template, held, {"rating": "star"}, "x", "t")


VALUE = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.text())


@settings(deadline=None, max_examples=25)
@given(st.lists(st.dictionaries(st.text(max_size=8), VALUE, max_size=4), max_size=6))
def test_any_table_is_matched_without_a_fault(table: list[dict[str, Any]]) -> None:
    for found in match_all(look(rows(*table))):
        assert 0 <= found.score <= 1
        json.dumps(found.to_dict())


@pytest.mark.parametrize(
    ("file", "fitting"),
    [
        ("amazon_fashion/reviews.jsonl",
         ["review-sentiment", "review-rating", "review-recommends", "review-title",
          "review-writing", "review-from-rating", "review-title-sentiment",
          "review-rating-check"]),
        ("sst2/train.jsonl", ["sentiment"]),
        ("banking77/train.csv", ["topic", "intent", "routing"]),
        ("trec/train.csv", ["question-type"]),
        ("e2e/devset.csv", ["facts-to-text", "attributes-from-text"]),
        ("general/arc_easy.jsonl", ["multiple-choice", "multiple-choice-letter"]),
        ("general/lambada_openai.jsonl", ["continuation"]),
        ("presidio_pii/generated_small.json", ["marked-entities", "marked-entities-json"]),
        ("preferences/dpo_en_demo.json", ["chosen-or-rejected", "preferred-answer"]),
        ("instructions/alpaca_en_demo.json", ["alpaca"]),
    ],
)  # fmt: skip
def test_real_files_fit_what_they_are_for(file: str, fitting: list[str]) -> None:
    if not (DATA / file).is_file():
        pytest.skip("the public data sets are not here")
    fits = match_all(look(stream_rows(file, DATA)))
    assert {fit.template.name for fit in fits if fit.level == "fits"} == set(fitting)
