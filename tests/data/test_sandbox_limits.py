"""Row templates under attack: each ends soon in one clear line, and escapes nothing."""

from __future__ import annotations

import time

import pytest

from luthier.data.reading import SourceRow
from luthier.data.templates import compile_template
from luthier.errors import InputError

_ITEMS = list(range(100_000))
ROW = SourceRow(
    {
        "text": "a" * 900_000,
        "items": _ITEMS,
        "same": list(_ITEMS),
        "digits": "9" * 900_000,
        "word": "x",
    },
    "row 1",
)


def loop(body: str) -> str:
    return "{% for i in range(90000) %}" + body + "{% endfor %}"


def doubled(name: str, times: int) -> str:
    again = f"{{% set {name} = [{name}, {name}, {name}, {name}] %}}"
    return f"{{% set {name} = [1, 2] %}}" + again * times


TOO_MUCH = [
    "{% for i in range(10**9) %}{% endfor %}",
    loop(loop("")),
    loop("{{ range(99999) | sum }}"),
    loop("{% set b = row.text | upper %}"),
    loop("{% set b = row.text.split('a') %}"),
    loop("{% set b = row.text[::-1] %}"),
    loop("{% set b = row['items'] | sort %}"),
    loop("{% set b = 99999 in row['items'] %}"),
    loop("{% set b = row['items'] == row.same %}"),
    loop("{% set b = row.digits | int(0, 16) %}"),
    "{{ row['items'] | select('in', row.same) | list | length }}",
    "{{ [" + "row.text.split('a')," * 200 + "] | length }}",
    doubled("a", 10) + doubled("b", 10) + "{{ a == b }}",
    doubled("a", 20) + "{{ a | json }}",
    "{{ 'a' * 10**9 }}",
    "{{ [1] * 10**9 }}",
    "{{ '%1000000000d' % 1 }}",
    "{{ '{:1000000000d}'.format(1) }}",
    "{{ 'a' | center(10**9) }}",
    "{{ 'a'.ljust(10**9) }}",
    "{{ text | replace('a', 'bb') | length }}",
    "{{ text.replace('', text) }}",
    "{{ text.expandtabs(10**9) }}",
    "{{ 9 ** 9 ** 9 }}",
    "{{ digits | int(0, 16) // 3 }}",
    "{{ [[1], [2]] | sum(start=[]) }}",
    "{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}",
    "{% for i in items recursive %}{{ loop(items) }}{% endfor %}",
]


@pytest.mark.parametrize("text", TOO_MUCH, ids=lambda text: text[:60])
def test_too_much_work_is_refused_soon(text: str) -> None:
    begun = time.process_time()
    with pytest.raises(InputError):
        compile_template(text, "data.input").render(ROW)
    assert time.process_time() - begun < 20  # up to 2.5 s on two cores; without limits, hours


@pytest.mark.parametrize(
    "text",
    [
        "{{ word.__class__ }}",
        "{{ ''.__class__.__mro__ }}",
        "{{ word | attr('__class__') }}",
        "{{ row.__class__.__base__.__subclasses__() }}",
        "{{ self._TemplateReference__context }}",
        "{{ range.__class__ }}",
        "{{ cycler.__init__.__globals__ }}",
        "{% for i in [1] %}{{ loop.cycle.__globals__ }}{% endfor %}",
        "{{ row.get.__self__ }}",
        "{{ [1] | map(attribute='__class__') | list }}",
        "{{ [1] | groupby('__class__') }}",
        "{{ word.format_map(row) }}",
        "{{ row['items'].append(1) }}",
        "{% import 'os' as os %}",
        "{% include '/etc/passwd' %}",
    ],
)
def test_nothing_reaches_python(text: str) -> None:
    with pytest.raises(InputError):
        compile_template(text, "data.input").render(ROW)


def test_honest_templates_are_far_from_the_limits() -> None:
    """Three times a conversation of 300 turns, with filters on each, is within them."""
    turns = [{"role": "user", "content": "word " * 200} for _ in range(300)]
    text = (
        "{% for turn in turns %}{{ turn.role | upper }}: {{ turn.content | trim | lower }}\n"
        "{% endfor %}{{ turns | map(attribute='role') | unique | join(', ') }}"
    )
    template = compile_template(text * 3, "data.input")
    assert template.render(SourceRow({"turns": turns}, "row 1")).count("USER") == 900
