"""Transfer learning at its cheapest: a frozen sentence encoder and a linear head on top."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luthier.arms.base import ARMS, Answerer, Arm, Choice, Fit, Progress, Workplace
from luthier.arms.readings import score_on
from luthier.data.examples import Conversation
from luthier.errors import InputError
from luthier.files import write_atomically
from luthier.generation.answers import Answer
from luthier.generation.options import AnswerOptions
from luthier.models.pool import ModelPool
from luthier.task import Task

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

ENCODER = "all-minilm-l6-v2"
_STRENGTHS = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
_FILE = "head.safetensors"


@ARMS.register("linear-probe")
class LinearProbe(Arm):
    """Embeds the question with a frozen encoder and fits multinomial logistic regression."""

    name = "linear-probe"
    title = "Frozen encoder with a linear head"
    kinds = frozenset({"classification"})
    learns = True
    order = 10

    def fit(self, place: Workplace) -> Fit:
        """Choose the strength of the regularisation on validation."""
        import numpy as np
        from safetensors.numpy import save_file
        from sklearn.linear_model import LogisticRegression

        started = time.perf_counter()
        encoder = place.pool.encoder(ENCODER)
        examples = (*place.train, *place.validation)
        with place.reporter.work("linear-probe: embedding", len(examples)) as bar:
            vectors, tokens, cut = encoder.encode(
                [_text(e.messages) for e in examples], progress=bar.advance
            )
        train, held_out = vectors[: len(place.train)], vectors[len(place.train) :]
        goals = [e.output for e in place.train]
        if len(set(goals)) < 2:
            raise InputError("All training examples have the same label.")
        results = []
        for index, strength in enumerate(_STRENGTHS):
            head = LogisticRegression(C=strength, max_iter=2000).fit(train, goals)
            answers = [Answer(str(label), 0.0) for label in head.predict(held_out)]
            value = score_on(place, place.validation, answers) if answers else 0.0
            fitting = -_log_loss(head, held_out, [e.output for e in place.validation])
            # among equals the one whose probabilities say best how sure it may be; then the
            # strongest regularisation, the first
            results.append((value, fitting, -index, strength, head))
        *_, strength, head = max(results, key=lambda result: result[:3])
        coefficients, intercepts = head.coef_, head.intercept_
        if len(head.classes_) == 2:  # sklearn keeps one row for two classes; write out both
            coefficients = np.concatenate([-coefficients, coefficients]) / 2
            intercepts = np.concatenate([-intercepts, intercepts]) / 2
        tensors = {
            "weight": np.ascontiguousarray(coefficients, dtype=np.float32),
            "bias": np.ascontiguousarray(intercepts, dtype=np.float32),
        }
        write_atomically(place.folder / "model" / _FILE, lambda part: save_file(tensors, str(part)))
        seconds = time.perf_counter() - started
        head_size = sum(int(t.size) for t in tensors.values())
        notes = [f"{cut} texts were longer than the encoder reads and were cut."] if cut else []
        if any(len(e.messages) > 1 for e in examples):
            notes.append("Conversations of several turns are embedded as one text.")
        return Fit(
            settings={"encoder": ENCODER, "classes": [str(c) for c in head.classes_]},
            choices=[
                Choice(
                    what="inverse regularisation strength C",
                    options=[{"value": s, "score": v} for v, _, _, s, _ in results],
                    chosen=strength,
                    why=f"the highest score on {len(place.validation)} validation examples; among "
                    "equals, the probabilities that fit them best",
                )
            ],
            costs={
                "train_seconds": seconds,
                "train_tokens_per_second": sum(tokens) / seconds,
                "trained_parameters": head_size,
                "total_parameters": head_size + sum(p.numel() for p in encoder.model.parameters()),
            },
            notes=notes,
        )

    def open(
        self,
        task: Task,
        labels: tuple[str, ...] | None,
        folder: Path,
        settings: dict[str, Any],
        pool: ModelPool,
    ) -> Answerer:
        """The answerer."""
        from safetensors.numpy import load_file

        tensors = load_file(str(folder / "model" / _FILE))
        return _Probe(
            pool.encoder(settings["encoder"]),
            settings["classes"],
            tensors["weight"],
            tensors["bias"],
        )


def _log_loss(head: Any, vectors: Array, goals: Sequence[str]) -> float:
    """Mean surprise at the right labels, in nats; 0 without rows."""
    import numpy as np

    if not goals:
        return 0.0
    places = {str(label): place for place, label in enumerate(head.classes_)}
    said = head.predict_proba(vectors)
    right = [
        float(row[places[goal]]) if goal in places else 0.0
        for row, goal in zip(said, goals, strict=True)
    ]
    return float(-np.log(np.maximum(right, 1e-12)).mean())


class _Probe(Answerer):
    name = "linear-probe"

    def __init__(self, encoder: Any, classes: list[str], weight: Array, bias: Array) -> None:
        self._encoder = encoder
        self._classes = classes
        self._weight = weight
        self._bias = bias

    def answer(
        self,
        conversations: Sequence[Conversation],
        options: AnswerOptions | None = None,
        progress: Progress | None = None,
    ) -> list[Answer]:
        """Softmax over the classes; the likeliest is the answer."""
        import numpy as np

        started = time.perf_counter()
        vectors, tokens, _ = self._encoder.encode(
            [_text(conversation) for conversation in conversations], progress=progress
        )
        scores = vectors @ self._weight.T + self._bias
        weights = np.exp(scores - scores.max(axis=1, keepdims=True))
        likely = weights / weights.sum(axis=1, keepdims=True)
        seconds = (time.perf_counter() - started) / max(1, len(conversations))
        return [
            Answer(
                self._classes[int(row.argmax())],
                seconds=seconds,
                prompt_tokens=count,
                extra={
                    "probabilities": {
                        label: round(float(p), 6)
                        for label, p in zip(self._classes, row, strict=True)
                    }
                },
            )
            for row, count in zip(likely, tokens, strict=True)
        ]


def _text(conversation: Conversation) -> str:
    """What is embedded: the turns, without a system message."""
    return "\n".join(turn.content for turn in conversation if turn.role != "system")
