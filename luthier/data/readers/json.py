"""One JSON document: a list of objects, or an object that holds one such list."""

from __future__ import annotations

from collections.abc import Iterator

from luthier.data.json_window import Item, Window
from luthier.data.reading import READERS, Place, SourceRow
from luthier.errors import InputError

_WANTED = "a list of objects, or an object with one key that holds such a list"


@READERS.register(".json")
def read_json(place: Place) -> Iterator[SourceRow]:
    """Read a JSON file item by item; values keep their types. Rows are counted from 1.

    An object around the list is read twice, first to find the list in it.

    Raises:
        InputError: broken JSON, with its line; neither of the two shapes; no rows. An item that is
            no object, names a key twice or is too long is refused.
    """
    with place.path.open("rb") as file:
        window = Window(place, file)
        opened = window.peek()
        if not opened:
            raise InputError(
                f"{place.shown} is empty.", fix="Put rows into it, or name another file."
            )
        if opened == "[":
            yield from _rows(window.items(), place)
            if window.peek():
                raise window.broken("Extra data")
            return
        if opened != "{":
            window.value()
            if window.peek():
                raise window.broken("Extra data")
            raise InputError(f"{place.shown} holds no rows: expected {_WANTED}.")
        wanted = _find_list(window, place)
    with place.path.open("rb") as file:
        window = Window(place, file)
        for key in window.pairs():
            if key == wanted:
                yield from _rows(window.items(), place)
                return
            window.value()


def _rows(items: Iterator[Item], place: Place) -> Iterator[SourceRow]:
    number = 0
    for number, item in enumerate(items, 1):
        where = f"{place.shown} row {number}"
        if item.too_long is not None:
            place.refuse(where, item.too_long)
        elif item.twice is not None:
            problem = f"{where}: an object has two keys called {item.twice!r}."
            place.refuse(where, InputError(problem, fix="Rename one of them."))
        elif not isinstance(item.value, dict):
            problem = f"{where} is no object with column names."
            place.refuse(where, InputError(problem, fix='Write it as {"column": value, ...}.'))
        else:
            yield SourceRow(item.value, where)
    if not number:
        raise InputError(f"{place.shown} holds an empty list.", fix="Put rows into it.")


def _find_list(window: Window, place: Place) -> str:
    """The key of the only list of objects in an object; the whole document is looked through."""
    lists: list[str] = []
    keys: dict[str, None] = {}
    for key in window.pairs():
        if key in keys:
            raise InputError(f"{place.shown}: an object has two keys called {key!r}.")
        keys[key] = None
        if window.peek() != "[":
            window.value()
        elif _all_objects(window.items()):
            lists.append(key)
    if window.peek():
        raise window.broken(
            "Extra data",
            fix="It holds one object a line: end the file's name in .jsonl instead of .json.",
        )
    if len(lists) > 1:
        raise InputError(
            f"{place.shown} holds several lists of objects: {', '.join(sorted(lists))}.",
            fix="Keep one of them in the file.",
        )
    if not lists:
        raise InputError(
            f"{place.shown} holds no rows: expected {_WANTED}; its keys are "
            f"{', '.join(sorted(keys)[:10]) or 'none'}.",
            fix="Write one object a row (in pandas: to_json(..., orient='records')).",
        )
    return lists[0]


def _all_objects(items: Iterator[Item]) -> bool:
    found, objects = False, True
    for item in items:
        whole = item.too_long is None
        found, objects = True, objects and (not whole or isinstance(item.value, dict))
    return found and objects
