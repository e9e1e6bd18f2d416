"""Every template of the library: what it writes of its own example, and what it must never do."""

from __future__ import annotations

import hashlib
import json
import re
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2 import meta

from luthier.data.reading import SourceRow
from luthier.data.sandbox import RowEnvironment
from luthier.data.template_files import read_group
from luthier.data.template_library import (
    LETTERS,
    LibraryTemplate,
    Phrasing,
    groups,
    library,
    library_template,
)
from luthier.data.template_rendering import (
    BoundTemplate,
    LeftOut,
    Written,
    draw_for,
    phrasing_for,
    row_key,
    share,
)
from luthier.errors import InputError
from luthier.yaml_files import read_yaml

FOLDER = Path(str(resources.files("luthier.data.library")))
PINNED = Path(__file__).parent / "template_versions.json"
LIBRARY = list(library().values())
PHRASINGS = [(t, p) for t in LIBRARY for p in t.phrasings.values()]
NAMED = [f"{t.name}/{p.name}" for t, p in PHRASINGS]


def bound(template: LibraryTemplate, row: SourceRow) -> BoundTemplate:
    made = BoundTemplate(template, {name: name for name in template.fields if name in row.values})
    label = made.label_of(row)
    if label is not None:
        values = template.fields[str(template.choices)].values
        made.choose_from([*(values or ()), label])
    return made


def example(template: LibraryTemplate, **changes: Any) -> SourceRow:
    return SourceRow({**template.example, **changes}, "the example row 1")


def write(template: LibraryTemplate, phrasing: Phrasing, draw: int = 0, **changes: Any) -> Written:
    row = example(template, **changes)
    written = bound(template, row).write(row, phrasing, draw)
    assert isinstance(written, Written), (template.name, written)
    return written


def variables(text: str) -> set[str]:
    return meta.find_undeclared_variables(RowEnvironment().parse(text)) - {"choices", "range"}


# ---- what each must be -------------------------------------------------------------------------


@pytest.mark.parametrize(("template", "phrasing"), PHRASINGS, ids=NAMED)
def test_written_of_its_own_example(template: LibraryTemplate, phrasing: Phrasing) -> None:
    for draw in (0, 1, 6, 9999):
        made = write(template, phrasing, draw)
        for text in (made.input, made.output):
            assert text and text == text.strip("\n")
            assert all(line == line.rstrip() for line in text.split("\n"))
            assert "\n\n\n" not in text
            assert "{{" not in text and "{%" not in text
        if made.choices is None:
            assert template.choices is None
        else:
            assert made.output in made.choices
            assert len(set(made.choices)) == len(made.choices) >= 1


@pytest.mark.parametrize(("template", "phrasing"), PHRASINGS, ids=NAMED)
def test_the_answer_is_not_in_the_question(template: LibraryTemplate, phrasing: Phrasing) -> None:
    if template.answer_in_input:
        return
    asked, said = variables(phrasing.input), variables(phrasing.output)
    assert not asked & said, "what the answer is made of stands in the question"
    assert "draw" not in asked | said
    made = write(template, phrasing)
    if made.choices is None:
        assert made.output.lower() not in made.input.lower()


def test_declared_answers_in_the_question_are_declared_for_a_reason() -> None:
    """Every such template takes its answer from the input, or shows several things by draw."""
    for template in LIBRARY:
        if template.answer_in_input:
            assert len(template.answer_in_input) > 15, template.name
            assert template.kind != "classification" or any(
                "draw" in p.output for p in template.phrasings.values()
            ), template.name


@pytest.mark.parametrize("template", LIBRARY, ids=lambda t: t.name)
def test_a_template_is_whole(template: LibraryTemplate) -> None:
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", template.name)
    assert template.about.endswith(".") and len(template.about) < 120
    assert template.verbatim == (len(template.phrasings) < 3)
    names = list(template.phrasings)
    assert "all" not in names and not any(name.isdigit() for name in names)
    inputs = [phrasing.input for phrasing in template.phrasings.values()]
    assert len(set(inputs)) == len(inputs)
    used = {v for p in template.phrasings.values() for v in variables(p.input + p.output)}
    conditions = {
        v for test, _ in template.unless for v in variables(f"{{% if {test} %}}{{% endif %}}")
    }
    assert used - {"draw"} <= set(template.fields)
    assert set(template.required) <= used, "a needed field that nothing uses"
    assert conditions <= set(template.fields)
    assert set(template.example) <= set(template.fields)
    if isinstance(template.choices, tuple):
        assert template.kind == "classification"
    if template.kind == "classification":
        assert template.choices is not None


@pytest.mark.parametrize("template", LIBRARY, ids=lambda t: t.name)
def test_optional_fields_may_be_absent(template: LibraryTemplate) -> None:
    without = {k: v for k, v in template.example.items() if k not in template.optional}
    row = SourceRow(without, "row 1")
    for phrasing in template.phrasings.values():
        made = bound(template, row).write(row, phrasing)
        assert isinstance(made, Written)
        assert "None" not in made.input and not re.search(r"\S  \S|: \n|\n\n\n", made.input)


def test_the_library_is_as_large_and_as_wide_as_promised() -> None:
    assert len(LIBRARY) >= 60
    assert len(groups()) >= 15
    assert sum(len(t.phrasings) for t in LIBRARY) >= 3 * (len(LIBRARY) - 2)
    for name in ("alpaca", "squad-with-context", "prompt-completion", "prompt-response",
                 "question-answer", "text-label", "document-summary", "tokens-tags"):  # fmt: skip
        assert library_template(name).group == "shapes"


def test_no_key_is_given_twice_in_a_library_file() -> None:
    for file in FOLDER.glob("*.yaml"):
        read_yaml(file)


def test_a_change_of_what_is_written_raises_the_version() -> None:
    """To change a template: raise its version, and put the line this prints into the file."""
    pinned = json.loads(PINNED.read_text())
    now = {template.name: [template.version, template.digest] for template in LIBRARY}
    changed = {
        name: held for name, held in now.items() if name not in pinned or held != pinned[name]
    }
    silent = [name for name, (version, _) in changed.items() if pinned.get(name, [0])[0] == version]
    assert not silent, f"changed without a new version: {silent}"
    assert not changed, f"put into {PINNED.name}: {json.dumps(changed)}"
    assert set(pinned) == set(now), "a template was taken away"


def test_the_digest_sees_every_change() -> None:
    text = (FOLDER / "reviews.yaml").read_text()
    for old, new in (
        ("Is this review negative", "Was this review negative"),
        ("rating < 3", "rating < 2"),
        ("[negative, neutral, positive]", "[negative, positive, neutral]"),
        ("fields: [text, rating]\n    choices: [neg", "fields: [rating, text]\n    choices: [neg"),
    ):
        assert text.count(old) >= 1
        before, after = (
            {t.name: t.digest for t in read_group(_File(body), _shared())}
            for body in (text, text.replace(old, new))
        )
        expected = "fields" not in old  # the order of fields decides nothing that is written
        assert (before["review-sentiment"] != after["review-sentiment"]) == expected


class _File:
    """A library file that is not on disk."""

    name = "made_up.yaml"

    def __init__(self, body: str) -> None:
        self.body = body

    def read_text(self, encoding: str) -> str:
        return self.body


def _shared() -> Any:
    from luthier.data.template_files import read_vocabulary

    return read_vocabulary(FOLDER / "_fields.yaml")


ENTRY: dict[str, Any] = {
    "version": 1,
    "kind": "generation",
    "about": "Something.",
    "fields": ["text"],
    "output": "x",
    "phrasings": {"plain": "{{ text }}"},
    "example": {"text": "t"},
}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"fields": ["texxt"]}, "needs the field 'texxt'"),
        ({"choices": "text"}, "none of its fields of kind label"),
        ({"version": 0}, "templates.made-up.version"),
        ({"phrasing": {}}, "unknown key"),
        ({"kind": "poem"}, "templates.made-up.kind"),
    ],
)
def test_a_broken_entry_is_named(changes: dict[str, Any], said: str) -> None:
    body = yaml.safe_dump({"templates": {"made-up": {**ENTRY, **changes}}})
    with pytest.raises(InputError) as caught:
        read_group(_File(body), _shared())  # type: ignore[arg-type]
    assert said in str(caught.value)


def test_a_new_file_needs_nothing_else() -> None:
    body = yaml.safe_dump({"templates": {"made-up": {**ENTRY, "output": "{{ text | length }}"}}})
    (made,) = read_group(_File(body), _shared())  # type: ignore[arg-type]
    assert made.group == "made up"
    assert write(made, made.first, text="four").output == "4"


# ---- what is in the data is data ---------------------------------------------------------------

HOSTILE = (
    "{{ 7*7 }}", "{% for x in range(9) %}!{% endfor %}", "{# gone #}", "${{x}}", "{{ choices }}",
    "naïve — “quotes” 日本語 🙂 e\u0301", "<b>&amp;</b>", "a\u2028b",
)  # fmt: skip


@pytest.mark.parametrize(("template", "phrasing"), PHRASINGS, ids=NAMED)
def test_text_in_a_value_is_never_evaluated(template: LibraryTemplate, phrasing: Phrasing) -> None:
    shown = variables(phrasing.input)
    for name in shown - {"draw"}:
        if template.fields[name].kind not in ("text", "line", "document", "code", "dialogue"):
            continue
        for hostile in HOSTILE:
            # long enough to be no shorter than what it is compared with
            value = f"{hostile} {template.example.get(name, '')} {hostile}"
            row = example(template, **{name: value})
            made = bound(template, row).write(row, phrasing)
            if isinstance(made, LeftOut):
                assert made.reason in {why for _, why in template.unless}
            else:
                assert hostile in made.input


@settings(deadline=None, max_examples=60)
@given(st.text(min_size=1))
def test_any_text_comes_through_as_it_is(text: str) -> None:
    template = library_template("review-rating")
    row = SourceRow({"text": text, "rating": 4}, "r row 1")
    made = bound(template, row).write(row, template.phrasings["labelled"])
    if isinstance(made, LeftOut):
        assert not text.strip()
    else:
        assert made.input.removeprefix("Review: ").startswith(text.strip())


# ---- fields ------------------------------------------------------------------------------------


def left_out(name: str, **values: Any) -> str:
    template = library_template(name)
    row = example(template, **values)
    made = bound(template, row).write(row, template.first)
    assert isinstance(made, LeftOut)
    return f"{made.reason}: {made.detail}"


def test_rows_that_cannot_be_written_say_why() -> None:
    assert left_out("review-rating", text=" ").startswith("`text` is blank")
    assert left_out("review-rating", rating=None).startswith("`rating` is blank")
    assert "outside 1 to 5" in left_out("review-rating", rating=7)
    assert "no number" in left_out("review-rating", rating="five")
    assert "none of the choices" in left_out("review-rating", rating="3.5")
    assert "a list" in left_out("review-rating", text=["a"])
    assert "three stars" in left_out("review-recommends", rating=3)
    assert "repeats the stars" in left_out("review-title", title="Five Stars!")
    assert "none of spam, not spam" in left_out("spam", spam="perhaps")
    assert "names none of the 3 options" in left_out("multiple-choice", gold="Z")
    assert "same answer twice" in left_out("multiple-choice", options=["a", "a"])
    assert "no object" in left_out("extract-json", record="[1]")
    assert "'X-1'" in left_out("named-entities", tags=["X-1"] * 5)
    assert "has no answer" in left_out("open-question", answer={"text": []})


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("review-rating", {"rating": "5.0"}, "5"),
        ("review-sentiment", {"rating": 3.0}, "neutral"),
        ("review-sentiment", {"rating": 2.5}, "negative"),
        ("sentiment", {"sentiment": "POS"}, "positive"),
        ("sentiment", {"sentiment": 0}, "negative"),
        ("spam", {"spam": "ham"}, "not spam"),
        ("nli", {"entailment": 2}, "contradiction"),
        ("nli-yes-no-maybe", {"entailment": "entailment"}, "yes"),
        ("yes-no-question", {"yes_no": False}, "no"),
        ("multiple-choice", {"gold": "B"}, "iron"),
        ("multiple-choice", {"gold": "salt"}, "salt"),
        ("multiple-choice", {"options": '["x", "y"]', "gold": "1"}, "y"),
        ("multiple-choice", {"options": {"text": ["x", "y"], "label": ["1", "2"]}, "gold": "1"},
         "x"),
        ("multiple-choice-letter", {"gold": 2}, "C"),
        ("open-question", {"answer": {"text": ["Hg", "mercury"]}}, "Hg"),
        ("passage-question", {"answer": {"text": [], "answer_start": []}}, "unanswerable"),
        ("keywords", {"keywords": "a; b ;c"}, "a, b, c"),
        ("marked-entities", {"spans": []}, "none"),
        ("marked-entities", {"spans": [{"label": "B", "text": "y", "start": 9},
                                       {"label": "A", "text": "x", "start": 1}]}, "A: x\nB: y"),
        ("preferred-answer", {"chosen": [{"role": "user", "content": "q"},
                                         {"role": "assistant", "content": "a"}]}, "a"),
        ("better-answer", {"preferred": 0}, "tie"),
        ("similarity", {"similarity": 4.0}, "4"),
        ("extract-json", {"record": {"ü": [1, None]}}, '{"ü":[1,null]}'),
    ],
)  # fmt: skip
def test_a_value_is_read_in_the_ways_people_write_it(
    name: str, values: dict[str, Any], expected: str
) -> None:
    template = library_template(name)
    assert write(template, template.first, **values).output == expected


def test_a_conversation_becomes_lines() -> None:
    template = library_template("next-reply")
    turns = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]
    assert write(template, template.first, dialogue=turns).input.startswith(
        "User: Hi\nAssistant: Hello\n"
    )
    one = write(template, template.first, dialogue=turns[:1])
    assert one.input.startswith("Hi\n")


def test_a_wrong_number_of_stars_is_never_the_right_one() -> None:
    template = library_template("review-rating-check")
    for rating in range(1, 6):
        for draw in range(20):
            made = write(template, template.first, draw, rating=rating)
            shown = int(re.search(r"gives (\d) out", made.input)[1])  # type: ignore[index]
            assert 1 <= shown <= 5
            assert made.output == ("yes" if shown == rating else "no")
    shown_wrong = {
        int(re.search(r"gives (\d)", write(template, template.first, d, rating=3).input)[1])  # type: ignore[index]
        for d in range(1, 20, 2)
    }
    assert shown_wrong == {1, 2, 4, 5}


def test_the_preferred_answer_stands_on_either_side() -> None:
    template = library_template("chosen-or-rejected")
    for draw, letter in ((0, "A"), (1, "B")):
        made = write(template, template.first, draw, chosen="good", rejected="bad")
        assert made.output == letter
        assert f"{letter}: good" in made.input


def test_choices_that_are_too_many_to_read_are_not_listed() -> None:
    template = library_template("topic")
    row = example(template)
    made = BoundTemplate(template, {"text": "text", "topic": "topic"})
    for count, listed in ((40, True), (41, False)):
        made.choose_from(["sports", *(f"t{n}" for n in range(count - 1))])
        written = made.write(row, template.first)
        assert isinstance(written, Written)
        assert ("t1" in written.input) == listed
        assert written.choices is not None and len(written.choices) == count


def test_letters_are_as_many_as_options() -> None:
    template = library_template("multiple-choice-letter")
    assert template.choices == LETTERS
    assert write(template, template.first, options=["x", "y"], gold=1).choices == ("A", "B")


# ---- what a row gets ---------------------------------------------------------------------------


def test_phrasings_are_mixed_by_weight() -> None:
    template = library_template("review-rating")
    counts = dict.fromkeys(template.phrasings, 0)
    for n in range(4000):
        counts[phrasing_for(template, f"row {n}", 3).name] += 1
    # 4 of equal weight: 1,000 each, give or take four standard errors (27 each)
    assert all(abs(count - 1000) < 110 for count in counts.values())
    heavy = library_template("alpaca")
    assert {phrasing_for(heavy, str(n), 0).name for n in range(50)} == set(heavy.phrasings)


def test_a_row_gets_the_same_on_every_machine() -> None:
    assert share(0, "a") == int(hashlib.sha256(b"0:a").hexdigest()[:14], 16) / 16**14
    row = SourceRow({"b": [1, "é"], "a": None}, "x row 1")
    assert row_key(row) == row_key(SourceRow({"a": None, "b": [1, "é"]}, "y row 9"))
    assert row_key(SourceRow({"id": 7}, "x")) == "id:7"
    template = library_template("review-rating-check")
    assert 0 <= draw_for(template, row_key(row), 0) < 10_000
    assert len({draw_for(template, str(n), 0) for n in range(200)}) > 150
