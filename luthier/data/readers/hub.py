"""A data set on the Hugging Face hub: `hub:owner/name[:config][:split]`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from luthier.data.plain import plain
from luthier.data.reading import READERS, Place, SourceRow
from luthier.errors import InputError, ModelError

#: A single part behind the name is taken for a split when it is one of these, else for a config.
SPLITS = frozenset({"train", "validation", "valid", "val", "dev", "test", "all"})


def parse_hub(source: str) -> tuple[str, str | None, str]:
    """(owner/name, config or None, split) of a hub source; the split is "train" unless given.

    `hub:owner/name:test` names a split, `hub:owner/name:en` a config, `hub:owner/name::dev2` a
    split of the default config.

    Raises:
        InputError: not of that form.
    """
    name, *rest = source.removeprefix("hub:").split(":")
    if not name or name.count("/") > 1 or name.startswith("/") or name.endswith("/"):
        raise InputError(
            f"{source!r} names no data set.", fix="Write hub:owner/name[:config][:split]."
        )
    if len(rest) > 2:
        raise InputError(
            f"{source!r} has too many parts.", fix="Write hub:owner/name[:config][:split]."
        )
    if len(rest) == 2:
        return name, rest[0] or None, rest[1] or "train"
    if len(rest) == 1 and rest[0] in SPLITS:
        return name, None, rest[0]
    return name, (rest[0] or None) if rest else None, "train"


@READERS.register("hub:")
def read_hub(place: Place) -> Iterator[SourceRow]:
    """Download (or take from the cache) and read one split; class numbers become class names.

    Code that a data set brings along is never run.

    Raises:
        InputError: `datasets` is not installed, or no such data set, config or split.
        ModelError: the hub cannot be reached.
    """
    name, config, split = parse_hub(place.shown)
    try:
        import datasets
    except ImportError:
        raise InputError(
            f"{place.shown} needs the library `datasets`, which is not installed.",
            fix="Run: pip install 'luthier[hub]'",
        ) from None
    try:
        loaded = datasets.load_dataset(name, config, split=split)
    except (ConnectionError, TimeoutError) as error:
        raise ModelError(
            f"{place.shown} could not be fetched: {_first_line(error)}.",
            fix="Check the network, or download the data elsewhere and name the file.",
        ) from None
    except Exception as error:  # the library raises its own, OSError, ValueError and others
        raise InputError(
            f"{place.shown} could not be loaded: {_first_line(error)}.",
            fix="Check the name, the config and the split: hub:owner/name[:config][:split].",
        ) from None
    named = {column: _names(feature) for column, feature in loaded.features.items()}
    number = 0
    for number, values in enumerate(loaded, 1):
        row = {column: plain(named[column](value)) for column, value in values.items()}
        yield SourceRow(row, f"{place.shown} row {number}")
    if not number:
        raise InputError(f"{place.shown} has no rows.", fix="Name another split.")


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__).rstrip(".")


def _names(feature: Any) -> Callable[[Any], Any]:
    """What turns a column's class numbers (alone, or in a list) into names; else no change."""
    inner = getattr(feature, "feature", None)
    if inner is None and isinstance(feature, list) and len(feature) == 1:
        inner = feature[0]  # how older versions spell a list
    if inner is not None and hasattr(inner, "int2str"):
        return lambda value: None if value is None else [_one(inner, item) for item in value]
    if hasattr(feature, "int2str"):
        return lambda value: _one(feature, value)
    return lambda value: value


def _one(feature: Any, number: Any) -> Any:
    # -1 is how the library writes "no label", in test splits that keep theirs secret
    return None if number is None or number < 0 else feature.int2str(number)
