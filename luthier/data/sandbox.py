"""The sandbox that row templates run in.

Task files are passed around, so a template must be harmless: Jinja's immutable sandbox keeps it
from Python's insides, and what is added here keeps it from filling memory or running for ever.
Text is capped wherever it can grow (joining, adding, multiplying, replacing, the result), loops
draw from one budget of turns, all that filters, methods and comparisons read and make from one of
work (`sandbox_work`), and what is left out (macros, recursive loops, block assignments,
includes, padding filters) would let a few lines ask for exponential work. What a template makes
is also the same on every run: the random filters are left out.
"""

from __future__ import annotations

import datetime
import decimal
import functools
import json
import math
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, cast

from jinja2 import StrictUndefined, Template, nodes, pass_context
from jinja2.exceptions import SecurityError, TemplateRuntimeError, TemplateSyntaxError
from jinja2.filters import FILTERS
from jinja2.runtime import Context, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from luthier.data.entities import entities
from luthier.data.sandbox_work import begin, check_items, pay, pay_for, pay_for_all

#: Longest text a template may make, or hold on the way, in characters.
LIMIT = 1_000_000
#: Turns that all loops of one rendering may take together.
BUDGET = 100_000
#: Names that one template may give to values (set, with, for).
NAMES = 24
#: Bits of the largest whole number that is computed.
_BITS = 256
#: Bits of the largest one that is read from a row to compute with.
_ROW_BITS = 16_384


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Not words that a template could write, so they cannot meet a column.
_TURNS = " turns"
_CONCAT = " concat"
_COUNTED = " counted"
_PAID = " paid"
_PAID_WHOLE = " paid whole"
_FEW = " few"

_FILTERS = _words(
    "abs capitalize count d default dictsort first float groupby int items last length list lower "
    "map max min reject rejectattr reverse select selectattr sort striptags sum title trim "
    "truncate unique upper wordcount"
)
#: Those that look at what is inside the items too.
_DEEP = _words("dictsort groupby max min sort unique")
_TEXT_METHODS = _words(
    "capitalize casefold count endswith find index isalnum isalpha isascii isdecimal isdigit "
    "islower isnumeric isspace istitle isupper lower lstrip partition removeprefix removesuffix "
    "rfind rindex rpartition rsplit rstrip split splitlines startswith strip swapcase title upper"
)
#: What is left out, by the tag a template writes it with.
_LEFT_OUT: dict[type[nodes.Node], str] = {
    nodes.Macro: "macro",
    nodes.CallBlock: "call",
    nodes.FilterBlock: "filter blocks",
    nodes.AssignBlock: "set blocks",
    nodes.Include: "include",
    nodes.Import: "import",
    nodes.FromImport: "import",
    nodes.Extends: "extends",
    nodes.Block: "block",
}
#: What prints as itself besides text and numbers; Parquet brings these.
_PLAIN = (datetime.date, datetime.time, datetime.timedelta, decimal.Decimal, uuid.UUID)


class Missing(str):
    """The empty text that stands for a missing value; `is none` holds for it."""

    __slots__ = ()


MISSING = Missing()


def row_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """What a template sees of a row: its columns, `row`, and a fresh budget of turns and work."""
    begin()
    seen = {name: MISSING if _is_missing(value) else value for name, value in values.items()}
    return {"row": seen, **seen, _TURNS: [BUDGET]}


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _is_none(value: Any) -> bool:
    return _is_missing(value) or value is MISSING


def _text(value: Any) -> str:
    """A value as it is printed: text and numbers; a list or an object must say how."""
    if isinstance(value, Undefined):
        return str(value)  # raises, naming it
    if _is_missing(value):
        return ""
    if isinstance(value, (str, int, float, *_PLAIN)):
        return str(value)
    if isinstance(value, bytes):
        raise TemplateRuntimeError("bytes (an image, a sound) are no text")
    if isinstance(value, list | tuple | dict | set):
        if _are_turns(value):
            raise TemplateRuntimeError(
                "the turns of a conversation would be printed as Python code; where the last turn "
                "is the wanted answer, name their column under `data.messages` and leave input and "
                "output out; one turn alone is `{{ NAME[-1].content }}`"
            )
        kind = "an object" if isinstance(value, dict) else "a list"
        raise TemplateRuntimeError(
            f"{kind} would be printed as Python code; write it as JSON with `| json`, or join "
            "a list with `| join(', ')`"
        )
    raise TemplateRuntimeError(f"a {type(value).__name__} is no text")


def _are_turns(value: Any) -> bool:
    """Whether a value looks like messages with roles."""
    return (
        isinstance(value, list | tuple)
        and bool(value)
        and all(isinstance(turn, dict) and {"role", "content"} <= turn.keys() for turn in value)
    )


def _capped(text: str) -> str:
    if len(text) > LIMIT:
        raise TemplateRuntimeError(f"a text grew over {LIMIT:,} characters")
    return text


def _join(values: Iterable[Any], separator: str = "", attribute: str | None = None) -> str:
    parts: list[str] = []
    size = 0
    for value in values:
        item = value.get(attribute) if attribute and isinstance(value, dict) else value
        parts.append(_text(item))
        size += len(parts[-1]) + len(separator)
        if size > LIMIT:
            raise TemplateRuntimeError(f"a text grew over {LIMIT:,} characters")
    pay(size)
    return separator.join(parts)


def _replace(value: Any, old: str, new: str, count: int = -1) -> str:
    text = _text(value)
    grown = len(text) + (text.count(old) if count < 0 else count) * max(0, len(new) - len(old))
    if grown > LIMIT:
        raise TemplateRuntimeError(f"a text grew over {LIMIT:,} characters")
    return text.replace(old, new, count)


def to_json(value: Any) -> str:
    """Compact JSON: keys in their order, letters beyond ASCII as they are."""
    encoder = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=_json_default)
    parts: list[str] = []
    size = 0
    for part in encoder.iterencode(_without_missing(value)):
        parts.append(part)
        size += len(part)
        if size > LIMIT:
            raise TemplateRuntimeError(f"a text grew over {LIMIT:,} characters")
    return "".join(parts)


def _json_default(value: Any) -> Any:
    if isinstance(value, Undefined | bytes) or callable(value):
        return _text(value)
    if isinstance(value, Iterable):
        return list(value)
    return str(value)


def _without_missing(value: Any) -> Any:
    if isinstance(value, Missing) or _is_missing(value):
        return None
    if isinstance(value, dict):
        return {key: _without_missing(item) for key, item in value.items()}
    return value


def _round(value: float, precision: int = 0) -> float:
    return round(float(value), precision)


@pass_context
def _counted(context: Context, values: Iterable[Any]) -> Iterator[Any]:
    """The values of a loop, each paid for from the budget of the rendering."""
    turns = context.get(_TURNS) or [BUDGET]
    for value in values:
        turns[0] -= 1
        if turns[0] < 0:
            raise TemplateRuntimeError(f"its loops take more than {BUDGET:,} turns together")
        yield value


def _capping(function: Callable[..., Any], deep: bool = False) -> Callable[..., Any]:
    """The function with what it reads and makes paid for, and with a cap on the text it makes."""
    count = pay_for_all if deep else pay_for

    @functools.wraps(function)  # carries the marks by which Jinja passes a context
    def capped(*args: Any, **options: Any) -> Any:
        for value in args:
            count(value)
        result = pay_for(function(*args, **options))
        if isinstance(result, int) and result.bit_length() > _BITS:
            raise TemplateRuntimeError("a number grew too large")
        return _capped(result) if isinstance(result, str) else result

    return capped


def _sum(values: Iterable[Any], attribute: str | None = None, start: float = 0) -> float:
    total = start
    for value in values:
        item = value.get(attribute) if attribute and isinstance(value, dict) else value
        if not isinstance(item, int | float) or not isinstance(total, int | float):
            raise TemplateRuntimeError("only numbers have a sum")
        total += item
    return total


class _Harmless(NodeTransformer):
    """Refuses what is left out; sends joining and looping through the caps."""

    def __init__(self) -> None:
        self.names = 0

    def visit(self, node: nodes.Node, *args: Any, **options: Any) -> Any:
        recursive = isinstance(node, nodes.For) and node.recursive
        what = "recursive loops" if recursive else _LEFT_OUT.get(type(node))
        if what:
            raise TemplateSyntaxError(f"row templates leave out {what}", node.lineno)
        self.names += isinstance(node, nodes.Assign | nodes.With | nodes.For)
        if self.names > NAMES:
            raise TemplateSyntaxError(f"more than {NAMES} set, with and for", node.lineno)
        self.generic_visit(node)
        if isinstance(node, nodes.Compare):
            node.expr = self._filter(node.expr, _PAID_WHOLE)
            for operand in node.ops:
                operand.expr = self._filter(operand.expr, _PAID_WHOLE)
        if isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Slice):
            return self._filter(node, _PAID)
        literal = isinstance(node, nodes.List | nodes.Dict | nodes.Tuple)
        if literal and getattr(node, "ctx", "load") == "load":
            return self._filter(cast("nodes.Expr", node), _FEW)
        if isinstance(node, nodes.Concat):
            return self._filter(nodes.List(node.nodes, lineno=node.lineno), _CONCAT)
        if isinstance(node, nodes.For):
            node.iter = self._filter(cast("nodes.Expr", node.iter), _COUNTED)
        return node

    @staticmethod
    def _filter(value: nodes.Expr, name: str) -> nodes.Filter:
        return nodes.Filter(value, name, [], [], None, None, lineno=value.lineno)


class RowEnvironment(ImmutableSandboxedEnvironment):
    """The environment row templates are compiled in; see the module's first lines."""

    intercepted_binops = frozenset(("+", "*", "**", "%"))

    def __init__(self) -> None:
        super().__init__(undefined=StrictUndefined, autoescape=False, finalize=_text)
        self.globals = {"range": self.globals["range"]}
        own: dict[str, Callable[..., Any]] = {"json": to_json, "tojson": to_json, "sum": _sum}
        own |= {"join": _join, "replace": _replace, "string": _text, "round": _round}
        filters: dict[str, Callable[..., Any]] = {name: FILTERS[name] for name in _FILTERS}
        filters |= own | {"entities": entities}
        self.filters = {name: _capping(made, name in _DEEP) for name, made in filters.items()}
        self.filters |= {_CONCAT: _join, _COUNTED: _counted, _FEW: check_items}
        self.filters |= {_PAID: pay_for, _PAID_WHOLE: pay_for_all}
        tests = {**cast("dict[str, Callable[..., Any]]", self.tests), "none": _is_none}
        self.tests = {name: _capping(made, True) for name, made in tests.items()}

    def from_tree(self, tree: nodes.Template) -> Template:
        """Compile a parsed template with the caps built in.

        Raises:
            TemplateSyntaxError: it uses something that row templates leave out.
        """
        begin()  # what is constant is computed now
        code = self.compile(_Harmless().visit(tree))
        return Template.from_code(self, code, self.make_globals(None), None)

    def getattr(self, obj: Any, attribute: str) -> Any:
        """`a.b`: of an object with a key `b`, always the key (`items` and `values` are columns)."""
        if isinstance(obj, dict) and attribute in obj:
            return obj[attribute]
        return super().getattr(obj, attribute)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Only methods of text that cannot make it longer, and what the sandbox allows."""
        if isinstance(obj, str):
            return attr in _TEXT_METHODS
        if isinstance(obj, bytes | int | float):
            return False
        return super().is_safe_attribute(obj, attr, value)

    def wrap_str_format(self, value: Any) -> None:
        """No str.format: its widths ask for text of any length."""

    def call(self, context: Context, obj: Any, *args: Any, **options: Any) -> Any:
        """A method called, paid for: its text or list, what it is given, and what it makes."""
        for value in (getattr(obj, "__self__", None), *args):
            # of an object only one key is looked up
            if isinstance(value, str):
                pay_for(value)
            elif not isinstance(value, dict):
                pay_for_all(value)
        return pay_for(super().call(context, obj, *args, **options))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Arithmetic with caps: no powers, no %-formatting, nothing that grows without end."""
        numbers = isinstance(left, int | float) and isinstance(right, int | float)
        if operator == "**" or (operator == "%" and not numbers):
            raise SecurityError(f"row templates leave out {operator!r} here")
        if operator == "*" and not numbers:
            raise SecurityError("row templates multiply numbers only")
        if isinstance(left, str) and isinstance(right, str) and operator == "+":
            return _join((left, right))
        if any(isinstance(one, int) and one.bit_length() > _ROW_BITS for one in (left, right)):
            raise TemplateRuntimeError("a number is too large")
        result = super().call_binop(context, operator, left, right)
        pay_for(result)
        if isinstance(result, int) and result.bit_length() > _BITS:
            raise TemplateRuntimeError("a number grew too large")
        if isinstance(result, list | tuple) and len(result) > BUDGET:
            raise TemplateRuntimeError(f"a list grew over {BUDGET:,} items")
        return result
