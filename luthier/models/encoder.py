"""Sentence embeddings from a frozen encoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from luthier.errors import ModelError
from luthier.files import read_json
from luthier.models.packed import packed


@dataclass
class Encoder:
    """A frozen encoder that turns texts into unit vectors.

    Pooling is what the model folder says (its sentence-transformers `1_Pooling/config.json`),
    else the mean over real tokens, which is how most sentence encoders were trained.

    Attributes:
        name: as it was asked for.
        model: the transformer, in evaluation mode.
        tokenizer: its tokenizer.
        pooling: "mean" over real tokens, or "cls", the first one.
        longest: tokens it reads at most.
    """

    name: str
    model: Any
    tokenizer: Any
    pooling: str
    longest: int

    @classmethod
    def load(
        cls, name: str, base: Path | None = None, dtype: torch.dtype = torch.float32
    ) -> Encoder:
        """Load by catalogue name, folder or hub id.

        Args:
            name: of the encoder.
            base: the folder that relative paths start from.
            dtype: that it computes in; vectors are float32 all the same.

        Raises:
            ModelError: it cannot be loaded, or pools in a way that is not known here.
        """
        from luthier.models.loading import load_encoder

        loaded = load_encoder(name, dtype, base=base)
        return cls(
            name,
            loaded.model.eval(),
            loaded.tokenizer,
            folder_pooling(Path(loaded.path)),
            int(loaded.context_length),
        )

    @torch.inference_mode()
    def encode(
        self,
        texts: Sequence[str],
        *,
        batch_tokens: int = 2048,
        progress: Callable[[int], None] | None = None,
    ) -> tuple[np.ndarray[Any, Any], list[int], int]:
        """Embed texts, similar lengths together.

        Args:
            texts: what to embed.
            batch_tokens: tokens computed at once, padding counted.
            progress: called with the number of texts that are done.

        Returns:
            (vectors (n, d) float32 of length 1; tokens read for each text; how many texts were
            longer than the encoder reads and were therefore cut).
        """
        width = int(self.model.config.hidden_size)
        if not texts:
            return np.zeros((0, width), dtype=np.float32), [], 0
        encoded = self.tokenizer(list(texts), add_special_tokens=True, verbose=False)["input_ids"]
        # a text without any token still needs one to attend to
        ids = [list(i) or [self.tokenizer.pad_token_id or 0] for i in encoded]
        cut = sum(len(i) > self.longest for i in ids)
        # keep the closing special token of what has to be cut
        ids = [i if len(i) <= self.longest else [*i[: self.longest - 1], i[-1]] for i in ids]
        vectors = np.zeros((len(ids), width), dtype=np.float32)
        order = sorted(range(len(ids)), key=lambda row: (len(ids[row]), row))
        batch: list[int] = []
        for position, row in enumerate(order):
            batch.append(row)
            here = len(ids[row])
            after = len(ids[order[position + 1]]) if position + 1 < len(order) else 0
            # texts of one length need no padding, which costs as much as text: a batch that
            # is worth computing ends where the length changes
            alike = after == here or len(batch) * here < batch_tokens // 4
            if after and alike and (len(batch) + 1) * after <= batch_tokens:
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
        with packed(self.model):
            found = self.model(input_ids=inputs, attention_mask=mask)
        hidden = found.last_hidden_state.float()
        if self.pooling == "cls":
            pooled = hidden[:, 0]
        else:
            real = mask[..., None].float()
            pooled = (hidden * real).sum(1) / real.sum(1).clamp(min=1)
        unit: np.ndarray[Any, Any] = torch.nn.functional.normalize(pooled, dim=-1).cpu().numpy()
        return unit


def folder_pooling(folder: Path) -> str:
    """How a sentence encoder's folder says that it pools; "mean" where it says nothing.

    Raises:
        ModelError: in a way that is not known here.
    """
    path = folder / "1_Pooling" / "config.json"
    if not path.is_file():
        return "mean"
    config = read_json(path)
    # newer folders name the mode, older ones have a switch for each
    if "pooling_mode" in config:
        named = {str(config["pooling_mode"])}
    else:
        switch = "pooling_mode_"
        named = {k.removeprefix(switch) for k, on in config.items() if k.startswith(switch) and on}
    if named <= {"mean_tokens", "mean"}:
        return "mean"
    if named <= {"cls_token", "cls"}:
        return "cls"
    raise ModelError(
        f"{path}: pooling {', '.join(sorted(named))} is not known here.",
        fix="Choose an encoder that pools by mean or by its first token.",
    )
