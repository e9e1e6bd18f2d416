"""Sets of training examples that a prompt may show, to be tried against each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from luthier.arms.few_shot import pick_examples
from luthier.data.examples import Example

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class ExampleSet:
    """Examples under a name.

    Attributes:
        nearest: how many of the nearest to each question are shown, instead of `examples`.
    """

    name: str
    examples: tuple[Example, ...] = ()
    nearest: int = 0


NOTHING = ExampleSet("no examples")


def sets_of(
    pool: Sequence[Example],
    vectors: Array | None,
    labels: Sequence[str] | None,
    *,
    sizes: Sequence[int],
    nearest: Sequence[int],
    draws: int,
    seed: int,
) -> list[ExampleSet]:
    """Random, diverse, typical and nearest examples.

    Args:
        pool: n examples of a single turn.
        vectors: (n, d), dense or sparse, of length 1: likeness is their product; None for
            examples that cannot be compared.
        labels: of a classification, else None.
        sizes: of random and diverse sets.
        nearest: numbers of nearest examples.
        draws: random sets of each size.
        seed: of draws and clusters.
    """
    found: list[ExampleSet] = []
    for size in sizes:
        for draw in range(draws):
            chosen = tuple(pick_examples(pool, size, f"{seed}-{size}-{draw}"))
            found.append(ExampleSet(f"{len(chosen)} examples, draw {draw + 1}", chosen))
    if vectors is not None and labels and len(labels) <= max(sizes):
        chosen = tuple(
            pool[row] for label in labels for row in _middle(_rows_of(pool, label), vectors, 1)
        )
        found.append(ExampleSet(f"{len(chosen)} typical ones, one a label", chosen))
    for size in sizes:
        if vectors is not None and size < len(pool):
            chosen = tuple(pool[row] for row in diverse(vectors, size, seed=seed))
            found.append(ExampleSet(f"{len(chosen)} diverse ones", chosen))
    found += [
        ExampleSet(f"the {size} nearest to the question", nearest=size)
        for size in nearest
        if size < len(pool)
    ]
    by_examples: dict[Any, ExampleSet] = {}
    for one in found:
        by_examples.setdefault((tuple(e.id for e in one.examples), one.nearest), one)
    return list(by_examples.values())


def diverse(vectors: Array, size: int, *, seed: int) -> list[int]:
    """The rows nearest to the middles of `size` clusters (k-means), as in automatic chain of
    thought (Zhang et al. 2023, arXiv 2210.03493).

    Args:
        vectors: (n, d), dense or sparse.
        size: at most n.

    Returns:
        Distinct rows, rising; fewer than `size` where vectors repeat.
    """
    import warnings

    import numpy as np
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        # fewer distinct vectors than clusters: the middles repeat, and one row serves them
        warnings.simplefilter("ignore", ConvergenceWarning)
        distances = KMeans(size, n_init=2, random_state=seed).fit_transform(vectors)
    return sorted({int(row) for row in np.argmin(distances, axis=0)})


def _rows_of(pool: Sequence[Example], label: str) -> list[int]:
    return [row for row, example in enumerate(pool) if example.output == label]


def _middle(rows: Sequence[int], vectors: Array, count: int) -> list[int]:
    """The rows most like the mean of them all."""
    import numpy as np

    if not rows:
        return []
    own = vectors[list(rows)]
    mean = np.asarray(own.mean(axis=0)).ravel()
    likeness = np.asarray(own @ mean).ravel()
    order = np.argsort(-likeness, kind="stable")[:count]
    return [rows[int(place)] for place in order]
