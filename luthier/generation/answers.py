"""What comes back when a model, or anything else that can do the task, is asked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Answer:
    """One answer.

    Attributes:
        text: the answer, without stop tokens and surrounding white space.
        seconds: wall time; for answers computed together, the batch's time shared out among them.
        prompt_tokens: tokens read, those of a shared prefix included (0 for arms without a prompt).
        completion_tokens: tokens written, the stop token included.
        finish_reason: "stop" when the model ended by itself, "length" when it was cut off.
        extra: what the arm adds to a row of predictions.jsonl (label probabilities, citations).
    """

    text: str
    seconds: float
    prompt_tokens: int = 0
    completion_tokens: int = 0
    finish_reason: Literal["stop", "length"] = "stop"
    extra: dict[str, Any] = field(default_factory=dict)
