"""Counts in the Prometheus text format, as little of it as a server of this size needs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from luthier.generation.answers import Answer
from luthier.serving.pool import ModelPool

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """What has been answered since the start. Used from the event loop only."""

    def __init__(self) -> None:
        self._responses: Counter[str] = Counter()
        self._answers: Counter[str] = Counter()
        self._prompt_tokens: Counter[str] = Counter()
        self._completion_tokens: Counter[str] = Counter()
        self._seconds: Counter[str] = Counter()

    def responded(self, status: int) -> None:
        """Count a response by its HTTP status."""
        self._responses[str(status)] += 1

    def answered(self, model: str, answer: Answer, seconds: float) -> None:
        """Count an answer that took `seconds` from the request to its end, waiting included."""
        self._answers[model] += 1
        self._prompt_tokens[model] += answer.prompt_tokens
        self._completion_tokens[model] += answer.completion_tokens
        self._seconds[model] += seconds  # type: ignore[assignment]  # a Counter takes floats

    def render(self, pool: ModelPool) -> str:
        """The text of /metrics."""
        loaded = {name: batcher for name in pool.names if (batcher := pool.loaded(name))}
        calls = {name: batcher.counts()[0] for name, batcher in loaded.items()}
        lines: list[str] = []
        for name, meaning, label, values in (
            ("responses", "HTTP responses by status.", "status", self._responses),
            ("answers", "Answers given.", "model", self._answers),
            ("prompt_tokens", "Tokens read.", "model", self._prompt_tokens),
            ("completion_tokens", "Tokens written.", "model", self._completion_tokens),
            ("request_seconds", "Seconds from request to answer.", "model", self._seconds),
            ("model_calls", "Batches and streams computed.", "model", calls),
        ):
            lines += _metric(f"luthier_{name}_total", "counter", meaning, label, values)
        waiting = {name: batcher.waiting() for name, batcher in loaded.items()}
        meaning = "Requests that wait for their turn."
        lines += _metric("luthier_waiting", "gauge", meaning, "model", waiting)
        return "\n".join(lines) + "\n"


def _metric(
    name: str, kind: str, meaning: str, label: str, values: Mapping[str, float]
) -> Iterable[str]:
    yield f"# HELP {name} {meaning}"
    yield f"# TYPE {name} {kind}"
    for value in sorted(values):
        escaped = value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
        yield f'{name}{{{label}="{escaped}"}} {values[value]}'
