"""Row templates: what they make, and that they are harmless."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval.metrics.sequence_labeling import get_entities

from luthier.data.entities import entities
from luthier.data.reading import SourceRow
from luthier.data.template_library import library_template
from luthier.data.template_rows import TemplateRows
from luthier.data.templates import compile_template
from luthier.errors import InputError
from luthier.task_sections import Data

ROW = {
    "a": "x",
    "gone": None,
    "nan": float("nan"),
    "list": ["p", "q"],
    "tags": ["B-loc", "O"],
    "object": {"items": [1, 2], "deep": ["u"]},
    "two words": "odd",
    "number": 5.0,
    "html": "<b>&",
    "long": "y" * 1000,
}


def render(text: str, values: dict[str, Any] | None = None) -> str:
    row = SourceRow(ROW if values is None else values, "data/t.csv row 3")
    return compile_template(text, "data.input").render(row)


def failure(text: str, values: dict[str, Any] | None = None) -> str:
    with pytest.raises(InputError) as caught:
        render(text, values)
    assert "data.input" in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{ a }}\n", "x"),
        ("{{ html }}", "<b>&"),
        ("{{ number }} {{ number | int }}", "5.0 5"),
        ("[{{ gone }}{{ nan }}{{ gone ~ a }}{{ gone | trim }}]", "[x]"),
        ("{{ 'no' if gone is none else 'yes' }}{% if nan is none %}!{% endif %}", "no!"),
        ("{{ a if b is defined else 'none' }} {{ b | default('d') }}", "none d"),
        ('{{ row["two words"] }}', "odd"),
        ("{{ object['items'] | join('+') }} {{ object.items | sum }}", "1+2 3"),
        ("{{ object.deep[0] }}", "u"),
        ("{% for x in list %}{{ loop.index }}/{{ loop.length }}{{ x }} {% endfor %}", "1/2p 2/2q "),
        ("{{ list | map('upper') | join(', ') }} {{ a | replace('x', 'zz') }}", "P, Q zz"),
        ("{{ 7 % 2 }} {{ 2 * 3 }} {{ 'a' + 'b' }} {{ 'a' ~ 1 ~ 'b' }}", "1 6 ab a1b"),
        ("{{ list | json }} {{ gone | json }} {{ object | json }}",
         '["p","q"] null {"items":[1,2],"deep":["u"]}'),
        ("{{ list | entities(tags) }}", "loc: p"),
    ],
)  # fmt: skip
def test_rendered(text: str, expected: str) -> None:
    assert render(text) == expected


def test_turns_are_sent_to_data_messages_and_one_of_them_can_be_written() -> None:
    row = {"t": [{"role": "user", "content": "Hi"}, {"role": "user", "content": "Still there?"}]}
    assert "name their column under `data.messages`" in failure("{{ t }}", row)
    assert render("{{ t[-1].content }}", row) == "Still there?"
    # an empty list, or objects that are no turns, are told of as before
    assert "a list would be printed" in failure("{{ t }}", {"t": [{"role": "user"}]})
    assert "a list would be printed" in failure("{{ t }}", {"t": []})


def test_json_is_compact_in_its_order_with_letters_as_they_are() -> None:
    value = {"ü": [1, None, "é"], "a": {"z": True, "b": 2.5}}
    assert render("{{ v | json }}", {"v": value}) == '{"ü":[1,null,"é"],"a":{"z":true,"b":2.5}}'


@settings(deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=10,
    )
)
def test_json_gives_back_its_value(value: Any) -> None:
    assert json.loads(render("{{ v | json }}", {"v": value})) == value


@settings(deadline=None)
@given(st.text())
def test_a_text_comes_through_unchanged(text: str) -> None:
    assert render("{{ v }}", {"v": text}) == text


def test_a_missing_column_names_the_key_the_row_and_the_nearest() -> None:
    message = failure("{{ qestion }}", {"question": "q", "kind": "k"})
    assert (
        "`data.input` names the column 'qestion', which data/t.csv row 3 does not have" in message
    )
    assert "Its columns: kind, question." in message
    assert "Did you mean 'question'?" in message
    assert "Did you mean 'two words'?" in failure('{{ row["two word"] }}')
    assert "'b'" in failure("{% if b %}{% endif %}")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{ a", "line 1: unexpected end of template"),
        ("\n{% if %}{% endif %}", "line 2: Expected an expression"),
        ("{{ a | uper }}", "No filter named 'uper'. Did you mean 'upper'?"),
        ("{{ list }}", "a list would be printed as Python code"),
        ("{{ object }}", "an object would be printed as Python code"),
        ("{{ object.nope }}", "has no attribute 'nope'"),
        ("{{ 1 / 0 }}", "division by zero"),
        ("{{ list | entities(list) }}", "the tag 'p' is none of"),
        ("{{ list | entities('O') }}", "2 tokens and 1 tags"),
        ("{{ " + "(" * 3000 + "a" + ")" * 3000 + " }}", "nested too deeply"),
        ("x" * 20_001, "longer than 20,000 characters"),
    ],
)
def test_what_is_wrong_is_said(text: str, expected: str) -> None:
    assert expected in failure(text)


DOUBLING = "{% set x0 = long %}" + "".join(f"{{% set x{n + 1} = x{n} ~ x{n} %}}" for n in range(20))


@pytest.mark.parametrize(
    "text",
    [
        "{% for i in range(10**9) %}x{% endfor %}",
        "{% for i in range(1000000000) %}x{% endfor %}",
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{% for i in range(99999) %}{{ long }}{% endfor %}",
        "{{ 'a' * 1000000000 }}",
        "{{ [1] * 1000000000 }}",
        "{{ 9 ** 9 ** 9 }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ '{:>1000000000}'.format(1) }}",
        "{{ a.ljust(1000000000) }}",
        "{{ a.center(1000000000) }}",
        "{{ a.__class__.__mro__ }}",
        "{{ row.__class__ }}",
        "{{ list.append(1) }}",
        "{{ row.update({}) }}",
        "{{ range(99999) | join(long) }}",
        "{{ long | replace('y', long) | replace('y', long) }}",
        DOUBLING,
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{% for x in list recursive %}{{ loop(list) }}{% endfor %}",
        "{% set x %}{{ long }}{% endset %}",
        "{% include 'a' %}",
        "{{ self }}",
        "{{ lipsum() }}",
        "{{ list | random }}",
        "{{ cycler }}",
        "{{ a.upper }}",
    ],
)
def test_templates_can_do_no_harm(text: str) -> None:
    start = time.perf_counter()
    failure(text)
    assert time.perf_counter() - start < 2


def test_the_size_of_the_result_is_capped() -> None:
    assert len(render("{{ v }}", {"v": "x" * 1_000_000})) == 1_000_000
    assert "over 1,000,000 characters" in failure("{{ v }}!", {"v": "x" * 1_000_000})


def test_two_renderings_do_not_share_their_budget() -> None:
    template = compile_template("{% for i in range(60000) %}{% endfor %}ok", "data.input")
    row = SourceRow({}, "r")
    assert [template.render(row) for _ in range(3)] == ["ok"] * 3


@pytest.mark.parametrize(
    ("tokens", "tags", "expected"),
    [
        (["Empire", "State", "=", "ESB"], ["B-l", "I-l", "O", "B-l"], "l: Empire State\nl: ESB"),
        (["a", "b", "c"], ["B-x", "B-x", "I-x"], "x: a\nx: b c"),
        (["a", "b", "c"], ["I-x", "I-y", "I-y"], "x: a\ny: b c"),  # as conlleval reads stray I-
        (["a", "b", "c"], ["B-x", "O", "I-x"], "x: a\nx: c"),
        (["a", "b"], ["O", "O"], "none"),
        ([], [], "none"),
        ("a b", '["B-x", "I-x"]', "x: a b"),
        (["two\nlines"], ["B-x"], "x: two lines"),
        (["a"], ["B-per-son"], "per-son: a"),
    ],
)  # fmt: skip
def test_entities(tokens: Any, tags: Any, expected: str) -> None:
    assert entities(tokens, tags) == expected


TAGS = st.sampled_from(["O", "B-x", "I-x", "B-y", "I-y"])


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), TAGS)))
def test_entities_agree_with_seqeval(pairs: list[tuple[str, str]]) -> None:
    words, tags = [w for w, _ in pairs], [t for _, t in pairs]
    lines = [f"{kind}: {' '.join(words[i : j + 1])}" for kind, i, j in get_entities(tags)]
    assert entities(words, tags) == ("\n".join(lines) or "none")


def fill(name: str, values: dict[str, Any]) -> tuple[str, str]:
    written = TemplateRows([SourceRow(values, "r row 1")], Data(train="r", template=name))
    (asked,), said = written.turns(next(written.kept()))
    return asked.content, said.content


def test_library() -> None:
    assert fill("alpaca", {"instruction": "do", "input": "", "output": "o"}) == ("do", "o")
    assert fill("alpaca", {"instruction": "do", "output": "o"}) == ("do", "o")
    assert fill("alpaca", {"instruction": "do", "input": "i", "output": "o"}) == ("do\n\ni", "o")
    asked = {"context": "c", "question": "q?"}
    assert fill("squad-with-context", asked | {"answers": {"text": ["a", "b"]}}) == (
        "c\n\nQuestion: q?",
        "a",
    )
    assert fill("squad-with-context", asked | {"answers": {"text": []}})[1] == "unanswerable"
    assert fill("squad-with-context", asked | {"answer": "a"})[1] == "a"
    assert fill("prompt-completion", {"prompt": "p", "completion": "c"}) == ("p", "c")
    assert fill("tokens-tags", {"tokens": ["a", "b"], "tags": ["B-x", "O"]}) == ("a b", "x: a")


def test_a_name_that_is_not_in_the_library_is_answered_with_the_nearest() -> None:
    with pytest.raises(InputError, match="Did you mean 'alpaca'"):
        library_template("alpacca")
    with pytest.raises(InputError, match="the library has version 1"):
        library_template("alpaca@7")
    assert library_template("alpaca@1") is library_template("alpaca")


@pytest.mark.parametrize(
    ("text", "meant"), [("number", "{{ number }}"), (" two words ", '{{ row["two words"] }}')]
)
def test_a_column_s_bare_name_is_no_template(text: str, meant: str) -> None:
    with pytest.raises(InputError, match="the same for every row") as caught:
        render(text)
    assert caught.value.fix is not None and meant in caught.value.fix
    assert render("some words") == "some words"
