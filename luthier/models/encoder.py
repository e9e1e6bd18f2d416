"""Sentence embeddings from a frozen encoder."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch


@dataclass
class Encoder:
    """A frozen encoder that turns texts into unit vectors.

    Pooling is what the model folder says (its sentence-transformers `1_Pooling/config.json`),
    else the mean over real tokens, which is how most sentence encoders were trained.
    """

    name: str
    model: Any
    tokenizer: Any
    pooling: str
    longest: int

    @classmethod
    def load(cls, name: str, base: Path | None = None) -> Encoder:
        """Load by catalogue name, folder or hub id."""
        from luthier.models.loading import load_encoder

        loaded = load_encoder(name, torch.float32, base=base)
        pooling, longest = "mean", int(loaded.context_length)
        folder = Path(loaded.path)
        pooled = folder / "1_Pooling" / "config.json"
        if pooled.is_file() and json.loads(pooled.read_text()).get("pooling_mode_cls_token"):
            pooling = "cls"
        sentence = folder / "sentence_bert_config.json"
        if sentence.is_file():
            longest = int(json.loads(sentence.read_text()).get("max_seq_length") or longest)
        return cls(name, loaded.model.eval(), loaded.tokenizer, pooling, longest)

    @torch.inference_mode()
    def encode(
        self,
        texts: Sequence[str],
        *,
        batch_tokens: int = 4096,
        progress: Callable[[int], None] | None = None,
    ) -> tuple[np.ndarray[Any, Any], list[int], int]:
        """Embed texts, similar lengths together.

        Returns:
            (vectors (n, d) float32 of length 1; tokens read for each text; how many texts were
            longer than the encoder reads and were therefore cut).
        """
        ids = [
            list(i)
            for i in self.tokenizer(list(texts), add_special_tokens=True, verbose=False)[
                "input_ids"
            ]
        ]
        cut = sum(len(i) > self.longest for i in ids)
        # keep the closing special token of what has to be cut
        ids = [i if len(i) <= self.longest else [*i[: self.longest - 1], i[-1]] for i in ids]
        width = int(self.model.config.hidden_size)
        vectors = np.zeros((len(ids), width), dtype=np.float32)
        order = sorted(range(len(ids)), key=lambda row: (len(ids[row]), row))
        batch: list[int] = []
        for position, row in enumerate(order):
            batch.append(row)
            last = position + 1 == len(order)
            if not last and (len(batch) + 1) * len(ids[order[position + 1]]) <= batch_tokens:
                continue
            vectors[batch] = self._embed([ids[r] for r in batch])
            if progress:
                progress(len(batch))
            batch = []
        return vectors, [len(i) for i in ids], cut

    def _embed(self, ids: list[list[int]]) -> np.ndarray[Any, Any]:
        longest = max(len(i) for i in ids)
        inputs = torch.full((len(ids), longest), self.tokenizer.pad_token_id or 0)
        mask = torch.zeros(len(ids), longest, dtype=torch.long)
        for row, tokens in enumerate(ids):
            inputs[row, : len(tokens)] = torch.tensor(tokens)
            mask[row, : len(tokens)] = 1
        device = next(self.model.parameters()).device
        inputs, mask = inputs.to(device), mask.to(device)
        hidden = self.model(input_ids=inputs, attention_mask=mask).last_hidden_state.float()
        if self.pooling == "cls":
            pooled = hidden[:, 0]
        else:
            real = mask[..., None].float()
            pooled = (hidden * real).sum(1) / real.sum(1).clamp(min=1)
        unit: np.ndarray[Any, Any] = torch.nn.functional.normalize(pooled, dim=-1).cpu().numpy()
        return unit
