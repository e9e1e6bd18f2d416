"""Examples chosen for each question: the training examples nearest to it.

A question is embedded by itself, never in a batch, so which examples it gets does not depend on who
asks beside it: what is served is what was measured.

References:
    Liu et al. 2022, "What makes good in-context examples for GPT-3?", arXiv 2101.06804 (KATE:
    nearest neighbours in an embedding space, the nearest last).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luthier.arms.prompted import shots_from
from luthier.data.examples import Conversation, Example
from luthier.errors import ModelError
from luthier.files import hash_of, read_jsonl, write_atomically, write_jsonl
from luthier.prompts.prompt import Prompt, Shot

if TYPE_CHECKING:
    import numpy as np

    from luthier.models.encoder import Encoder

    Array = np.ndarray[Any, Any]

_EXAMPLES = "examples.jsonl"
_VECTORS = "vectors.safetensors"


def text_of(conversation: Conversation) -> str:
    """What is embedded: the turns, without a system message."""
    return "\n".join(turn.content for turn in conversation if turn.role != "system")


class Neighbours:
    """Worked examples that can be looked up by their likeness to a question.

    Args:
        shots: the examples, n.
        vectors: their embeddings, (n, d), of length 1.
        encoder: what made them.
    """

    def __init__(self, shots: Sequence[Shot], vectors: Array, encoder: Encoder) -> None:
        self.shots = tuple(shots)
        self.vectors = vectors
        self.encoder = encoder
        self._found: dict[str, Array] = {}

    @classmethod
    def of(cls, examples: Sequence[Example], encoder: Encoder) -> Neighbours:
        """Embed examples of a single turn.

        Raises:
            InputError: an example has several turns.
        """
        shots = shots_from(examples)
        vectors, _, _ = encoder.encode([text_of(e.messages) for e in examples])
        return cls(shots, vectors, encoder)

    def nearest(self, text: str, k: int) -> list[int]:
        """Places of the k examples most like a text (cosine), the likest last; among equals the
        earlier is the likelier. The text's own example is not left out: training examples are only
        ever asked about by mistake."""
        import numpy as np

        vector = self._found.get(text)
        if vector is None:
            vector = self.encoder.encode([text])[0][0]
            if len(self._found) >= 4096:
                self._found.clear()
            self._found[text] = vector
        order = np.argsort(-(self.vectors @ vector), kind="stable")[:k]
        return [int(place) for place in order[::-1]]

    # ---- on disk -------------------------------------------------------------------------------

    @property
    def hash(self) -> str:
        """Names the examples and their order."""
        return hash_of([[shot.input, shot.output] for shot in self.shots])

    def save(self, folder: Path) -> dict[str, Any]:
        """Write examples and vectors; returns what `load` must be given besides the folder."""
        import numpy as np
        from safetensors.numpy import save_file

        write_jsonl(
            folder / _EXAMPLES, ({"input": s.input, "output": s.output} for s in self.shots)
        )
        tensors = {"vectors": np.ascontiguousarray(self.vectors, dtype=np.float32)}
        write_atomically(folder / _VECTORS, lambda part: save_file(tensors, str(part)))
        return {"encoder": self.encoder.name, "hash": self.hash}

    @classmethod
    def load(cls, folder: Path, stored: dict[str, Any], encoder: Encoder) -> Neighbours:
        """The inverse of `save`.

        Raises:
            ModelError: files are missing, or are not those that were measured.
        """
        from safetensors.numpy import load_file

        vectors = folder / _VECTORS
        if not vectors.is_file() or not (folder / _EXAMPLES).is_file():
            raise ModelError(
                f"{folder} does not hold the examples that this prompt chooses from.",
                fix="Copy the whole run folder, or run the task again.",
            )
        shots = [Shot(row["input"], row["output"]) for row in read_jsonl(folder / _EXAMPLES)]
        held = cls(shots, load_file(str(vectors))["vectors"], encoder)
        if held.hash != stored["hash"] or len(held.vectors) != len(shots):
            raise ModelError(
                f"The examples in {folder} are not those that were measured.",
                fix="Run the task again.",
            )
        return held


class NearestPrompt(Prompt):
    """A prompt whose examples depend on the question.

    Args:
        bare: instruction and tokenizer; its own examples come before the chosen ones.
        neighbours: what is chosen from.
        k: how many are shown.
        room: tokens that a prompt may have; the least like examples are left out until it fits.
    """

    def __init__(self, bare: Prompt, neighbours: Neighbours, k: int, room: int) -> None:
        super().__init__(
            bare.tokenizer, instruction=bare.instruction, shots=bare.shots, stop_ids=bare.stop_ids
        )
        self.bare = bare
        self.neighbours = neighbours
        self.k = k
        self.room = room

    def ask(self, conversation: Conversation) -> list[int]:
        """See `Prompt.ask`."""
        places = self.neighbours.nearest(text_of(conversation), self.k)
        while places:
            chosen = [self.neighbours.shots[place] for place in places]
            ids = self.bare.with_shots([*self.bare.shots, *chosen]).ask(conversation)
            if len(ids) <= self.room:
                return ids
            places = places[1:]
        return self.bare.ask(conversation)

    def to_dict(self) -> dict[str, Any]:
        """What is stored, the neighbours' own files aside."""
        return {**self.bare.to_dict(), "nearest": {"k": self.k, "room": self.room}}
