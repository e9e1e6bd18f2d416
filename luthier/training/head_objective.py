"""What objectives that put a head for labels on a model have in common.

This is transfer learning in its plain form: the body is what another task trained, the head is new.
`--method head` trains the head alone on frozen features; lora, last-layers and full train more and
more of the body; `training.unfreeze` and `training.layer_decay` say when and how fast
(`layerwise.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch.nn import functional

from luthier.errors import InputError
from luthier.models.headed import (
    BODY,
    Headed,
    HeadSpec,
    Of,
    Pooling,
    load_body,
    save_head,
    without_pooler,
)
from luthier.training.batches import micro_batches
from luthier.training.losses import IGNORED
from luthier.training.objective import StageObjective

if TYPE_CHECKING:
    from luthier.models.info import ModelInfo
    from luthier.models.loading import LoadedModel
    from luthier.training.config import TrainingConfig
    from luthier.training.method import TuningMethod

#: The tuning method that trains nothing but the head.
HEAD_ALONE = "head"
#: Peak rate for a head on frozen features: it has few numbers, and nothing to forget.
HEAD_RATE = 1e-3


@dataclass(frozen=True)
class LabelItem:
    """One text, or a window of one: `ids` (n,) are read. `targets` are indices of labels: one for a
    text as a whole, or (n,) with IGNORED where a token has none."""

    ids: list[int]
    targets: list[int]

    @property
    def length(self) -> int:
        """Tokens, padding not counted."""
        return len(self.ids)

    @property
    def weight(self) -> float:
        """How many labels there are to predict."""
        return sum(target != IGNORED for target in self.targets)


class HeadObjective(StageObjective):
    """Loads a body, adds a head, and stores the two."""

    of: Of
    methods = frozenset({"full", "lora", "rslora", "dora", "last-layers", HEAD_ALONE})
    writes = False

    def __init__(self) -> None:
        self.labels: tuple[str, ...] = ()
        self.loaded: Any = None
        self.causal = False
        self.micro_tokens = 1024

    def load(self, name: str, dtype: torch.dtype, **options: Any) -> LoadedModel:
        """The body of a causal model or an encoder."""
        return cast("LoadedModel", load_body(name, dtype, **options))

    def defaults(self, *, examples: int, info: ModelInfo, method: str) -> dict[str, Any]:
        """More passes than a model that writes needs, because the head starts from nothing; the
        rates of short fine-tuning of encoders (Devlin et al. 2019, arXiv 1810.04805, appendix A.3,
        for larger ones), measured for a small one in docs/log.md."""
        del info
        epochs = 12 if examples < 1500 else 6 if examples < 5000 else 3
        found: dict[str, Any] = {"epochs": float(epochs), "batch_size": 16}
        if method == HEAD_ALONE:
            found |= {"epochs": 2.0 * epochs, "learning_rate": HEAD_RATE}
        return found

    def describe(self, name: str, base: Path | None) -> ModelInfo:
        """Of any model; whether it reads both ways is remembered."""
        info = super().describe(name, base)
        self.causal = info.kind == "causal"
        return info

    def begin(self, loaded: LoadedModel, instruction: str) -> None:
        """Take the tokenizer; there is no prompt."""
        del instruction
        self.loaded, self.tokenizer = loaded, loaded.tokenizer

    def consult(
        self, model: Any, items: list[Any], config: TrainingConfig, info: ModelInfo
    ) -> list[Any]:
        """Nothing is asked of the model; its context length is remembered."""
        del model, info
        self.micro_tokens = config.micro_tokens
        return items

    def pooling(self, config: TrainingConfig) -> Pooling:
        """How a text becomes one vector."""
        return "first"

    def prepare(self, model: Any, tuning: TuningMethod, config: TrainingConfig, base: str) -> Any:
        """Open the body as the method says, and put the head on.

        Raises:
            InputError: a pooler is asked for that is not there, or would not be stored.
        """
        pooling = self.pooling(config)
        if pooling == "pooler":
            _check_pooler(model, tuning.name)
        else:
            model = without_pooler(model)
        spec = HeadSpec(
            of=self.of,
            labels=self.labels,
            pooling=pooling,
            causal=self.causal,
            longest=min(config.max_tokens, int(self.loaded.context_length)),
            pad=int(self.tokenizer.pad_token_id or 0),
        )
        own = model.config.get_text_config()
        usual = getattr(own, "classifier_dropout", None)
        if usual is None:
            usual = 0.0 if self.causal else getattr(own, "hidden_dropout_prob", 0.0)
        if tuning.name == HEAD_ALONE:
            body = model.requires_grad_(False)
        else:
            body = tuning.prepare(model, config, base=base)
        return Headed(body, spec, dropout=float(usual or 0.0), seed=config.seed)

    def loss(self, model: Any, items: Sequence[LabelItem]) -> torch.Tensor:
        """The summed cross-entropy of all labels, a float32 scalar."""
        logits, goals = self._scored(model, items)
        return functional.cross_entropy(logits, goals, reduction="sum")

    @torch.no_grad()
    def measure(self, model: Any, held_out: Sequence[LabelItem]) -> dict[str, float]:
        """The share of labels on the held-out items that are right; before there is a head, nothing
        can be."""
        if not isinstance(model, Headed) or not held_out:
            return {}
        model.eval()
        right = 0
        sizes = self.sizes(held_out)
        for part in micro_batches(range(len(held_out)), sizes, self.micro_tokens):
            logits, goals = self._scored(model, [held_out[row] for row in part])
            right += int((logits.argmax(-1) == goals).sum())
        return {"accuracy": right / sum(item.weight for item in held_out)}

    def _scored(
        self, model: Headed, items: Sequence[LabelItem]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(logits (m, labels), goals (m,)) of everything in the items that has a label."""
        rows = [item.ids for item in items]
        if self.of == "sequence":
            logits = model.logits(rows)
            goals = torch.tensor([item.targets[0] for item in items])
        else:
            width = max(len(row) for row in rows)
            targets = torch.full((len(rows), width), IGNORED)
            for index, item in enumerate(items):
                targets[index, : item.length] = torch.tensor(item.targets)
            chosen = targets != IGNORED
            logits, goals = model.logits(rows, chosen), targets[chosen]
        return logits, goals.to(logits.device)

    def store(
        self,
        model: Headed,
        weights: Mapping[str, torch.Tensor],
        folder: Path,
        tuning: TuningMethod,
        *,
        base: str,
    ) -> None:
        """head.json and head.safetensors, and in `body` what the method trained of the body."""
        save_head(model, weights, folder)
        if tuning.name == HEAD_ALONE:
            return
        part = folder / BODY
        part.mkdir()
        start = len("body.")
        inside = {n[start:]: w for n, w in weights.items() if n.startswith("body.")}
        tuning.store(model.body, inside, part, self.tokenizer, base=base)

    def record(self) -> dict[str, Any]:
        """The prompt, where there is one."""
        return super().record() | {"objective": self.name}


def _check_pooler(model: Any, method: str) -> None:
    if getattr(model, "pooler", None) is None:
        raise InputError(
            "`training.pooling: pooler`: this model has none.", fix="Choose mean or first."
        )
    if method != "full":
        raise InputError(
            "`training.pooling: pooler` needs --method full: many models are stored without their "
            "pooler, so it would have to be trained and stored.",
            fix="Choose mean or first, or --method full.",
        )
