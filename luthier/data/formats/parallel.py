"""Parallel text: two columns that are languages, each row a text and its translation."""

from __future__ import annotations

import re
from collections.abc import Iterator

from luthier.data.annotated import written_column
from luthier.data.format import FORMATS, Format, Recipe, Sample
from luthier.data.reading import Place, SourceRow

_LANGUAGE = re.compile(r"[a-z]{2,3}([_-][A-Za-z]{2,4})?")
#: Words of three letters or less that columns are called and languages are not.
_WORDS = (
    "id", "no", "in", "out", "to", "mr", "idx", "url", "tag", "src", "tgt", "ref", "hyp", "key",
    "val", "ner", "pos", "bad", "ans", "ctx",
)  # fmt: skip


def _languages(sample: Sample) -> list[str]:
    names = list(sample.rows[0].values)
    fit = len(names) == 2 and all(
        _LANGUAGE.fullmatch(name) and name.lower() not in _WORDS for name in names
    )
    return names if fit else []


def _detect(sample: Sample) -> bool:
    names = _languages(sample)
    return bool(names) and sample.most(
        lambda values: all(isinstance(values.get(name), str) for name in names)
    )


def _read(rows: Iterator[SourceRow], place: Place, option: str) -> Iterator[SourceRow]:
    return rows


def _recipe(sample: Sample) -> Recipe | None:
    names = _languages(sample) or list(sample.rows[0].values)[:2]
    return Recipe(*(f"{{{{ {written_column(name)} }}}}" for name in names))


FORMATS.register("parallel")(
    Format(
        name="parallel",
        title="parallel text (from the first language to the second)",
        detect=_detect,
        read=_read,
        recipe=_recipe,
        keeps=True,
        rank=70,
    )
)
