"""Equal and near inputs among the splits of a task, computed once for all lints that ask."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from luthier.data.columns import texts_of_inputs
from luthier.data.folding import fold
from luthier.data.linting import LintContext
from luthier.data.near_duplicates import Twins, find_twins

#: The sides of `twins_of`, in order.
SIDES = {"train": 0, "validation": 1, "test": 2}


def twins_of(context: LintContext) -> Twins:
    """What is equal or near among `context.everything`; the sides are the three splits."""

    def made() -> Twins:
        sizes = [len(examples) for _, examples in context.splits.items()]
        texts = texts_of_inputs(context.everything)
        return find_twins(texts, sides=sizes, reporter=context.reporter)

    return context.once("twins", made)


def outputs_of(context: LintContext) -> npt.NDArray[np.uint64]:
    """[rows of `context.everything`] hashes of the folded outputs."""
    return context.once(
        "folded outputs", lambda: hashed(fold(example.output) for example in context.everything)
    )


def hashed(texts: Iterable[str]) -> npt.NDArray[np.uint64]:
    """64 bits of each text."""
    digests = (
        hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        for text in texts
    )
    return np.fromiter((int.from_bytes(digest, "little") for digest in digests), np.uint64)
