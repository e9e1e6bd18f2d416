"""An encoder without a model: words hashed into a vector."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

WIDTH = 1024


class WordEncoder:
    """A stand-in for `Encoder`; counts what it was asked."""

    def __init__(self) -> None:
        self.model = SimpleNamespace(config=SimpleNamespace(hidden_size=WIDTH))
        self.encoded = 0

    def encode(self, texts: Sequence[str], progress: Any = None) -> tuple[Any, list[int], int]:
        vectors = np.zeros((len(texts), WIDTH), dtype=np.float32)
        for row, text in enumerate(texts):
            for word in re.findall(r"\w+", text.lower()):
                place = hashlib.blake2b(word.encode(), digest_size=2).digest()
                vectors[row, int.from_bytes(place, "little") % WIDTH] += 1
        self.encoded += len(texts)
        if progress:
            progress(len(texts))
        lengths = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
        return vectors / lengths, [0] * len(texts), 0
