"""Equal and near inputs among the splits of a task, computed once for all lints that ask."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

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
    sizes = [len(examples) for _, examples in context.splits.items()]

    def made() -> dict[str, Any]:
        texts = texts_of_inputs(context.everything)
        return _packed(find_twins(texts, sides=sizes, reporter=context.reporter))

    return context.once(
        "twins", lambda: _unpacked(context.kept_once("twins", sum(sizes), made), len(sizes))
    )


def _packed(twins: Twins) -> dict[str, Any]:
    """Twins as arrays that a file can hold."""
    arrays: dict[str, Any] = {"equal": twins.equal, "cluster": twins.cluster}
    for (one, other), found in twins.across.items():
        lines = [(row, twin, same) for row, (twin, same) in found.items()]
        arrays[f"across-{one}-{other}"] = np.array(lines, np.int64).reshape(-1, 3)
    return arrays


def _unpacked(arrays: dict[str, Any], sides: int) -> Twins:
    across = {
        (one, other): {
            row: (twin, bool(same)) for row, twin, same in arrays[f"across-{one}-{other}"].tolist()
        }
        for one in range(sides)
        for other in range(one)
    }
    return Twins(arrays["equal"], arrays["cluster"], across)


def outputs_of(context: LintContext) -> npt.NDArray[np.uint64]:
    """[rows of `context.everything`] hashes of the folded outputs."""
    everything = context.everything

    def made() -> dict[str, Any]:
        return {"hashes": hashed(fold(example.output) for example in everything)}

    found: npt.NDArray[np.uint64] = context.kept_once("outputs", len(everything), made)["hashes"]
    return found


def hashed(texts: Iterable[str]) -> npt.NDArray[np.uint64]:
    """64 bits of each text."""
    digests = (
        hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        for text in texts
    )
    return np.fromiter((int.from_bytes(digest, "little") for digest in digests), np.uint64)
