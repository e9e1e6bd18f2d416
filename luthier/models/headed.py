"""A model with a head for labels: the body of an encoder or a causal model, and a linear layer.

The body is what other tasks trained; the head is new. Stored as head.json, head.safetensors and,
where the body changed, a folder `body` in any form that `models/forms` knows. Nothing is pickled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import torch

from luthier.errors import InputError, ModelError
from luthier.files import read_json, write_json
from luthier.models.form import form_of
from luthier.models.heads import body as body_of
from luthier.models.tuned import describe_any, load_any, named_base

if TYPE_CHECKING:
    from luthier.models.loading import LoadedModel

Pooling = Literal["mean", "first", "last", "pooler"]
Of = Literal["sequence", "token"]

RECORD = "head.json"
TENSORS = "head.safetensors"
BODY = "body"
_FORMAT = 1


@dataclass(frozen=True)
class HeadSpec:
    """What a head is.

    Attributes:
        of: "sequence", one label for a text; "token", one for every token.
        labels: one for each output, in order.
        pooling: how a text becomes one vector: "mean" over its tokens, its "first" or "last" token,
            or the "pooler" that comes with the encoder. Of no meaning for tokens.
        causal: whether the body reads from left to right only, and so needs no mask.
        longest: tokens the body reads at most.
        pad: the id that fills short rows.
    """

    of: Of
    labels: tuple[str, ...]
    pooling: Pooling
    causal: bool
    longest: int
    pad: int = 0


class Headed(torch.nn.Module):
    """A body and a linear head, logits in float32.

    Args:
        body: a transformers model without a head that returns hidden states (b, l, d), or peft's
            model around one.
        spec: what the head is.
        dropout: on what goes into the head, while training.
        seed: of the head's first values, normal with the body's initializer_range (else 0.02); the
            bias starts at 0.
    """

    def __init__(self, body: Any, spec: HeadSpec, *, dropout: float = 0.0, seed: int = 0) -> None:
        super().__init__()
        self.body = body
        self.spec = spec
        self.dropout = torch.nn.Dropout(dropout)
        config = self.config.get_text_config()
        device = next(body.parameters()).device
        self.head = torch.nn.Linear(int(config.hidden_size), len(spec.labels))
        std = float(getattr(config, "initializer_range", None) or 0.02)
        source = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            self.head.weight.copy_(torch.randn(self.head.weight.shape, generator=source) * std)
            self.head.bias.zero_()
        self.head.to(device=device, dtype=torch.float32)

    @property
    def config(self) -> Any:
        """The body's."""
        return self.body.config

    def get_base_model(self) -> Any:
        """The transformers model inside."""
        return self.body.get_base_model() if hasattr(self.body, "get_base_model") else self.body

    def logits(
        self, rows: Sequence[Sequence[int]], chosen: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Float32 logits of rows of token ids; padding changes nothing.

        Args:
            rows: b lists of ids, special tokens included.
            chosen: (b, l) of bool, l being the longest row: the tokens that are wanted; for a head
                over tokens only.

        Returns:
            (b, labels) for a head over sequences, (m, labels) for the m chosen tokens.
        """
        device = self.head.weight.device
        ids, mask = padded(rows, self.spec.pad)
        ids, mask = ids.to(device), mask.to(device)
        out = (
            # causal attention never looks at what comes after, so padding needs no mask
            self.body(input_ids=ids, use_cache=False)
            if self.spec.causal
            else self.body(input_ids=ids, attention_mask=mask)
        )
        if self.spec.of == "token":
            assert chosen is not None
            features = out.last_hidden_state[chosen.to(device)]
        else:
            features = self._pooled(out, mask)
        scores: torch.Tensor = self.head(self.dropout(features.float()))
        return scores

    def _pooled(self, out: Any, mask: torch.Tensor) -> torch.Tensor:
        pooling = self.spec.pooling
        if pooling == "pooler":
            return cast("torch.Tensor", out.pooler_output)
        hidden: torch.Tensor = out.last_hidden_state
        if pooling == "first":
            return hidden[:, 0]
        if pooling == "last":
            last = mask.sum(1) - 1
            return hidden[torch.arange(len(hidden), device=hidden.device), last]
        real = mask[..., None].float()
        return (hidden.float() * real).sum(1) / real.sum(1)


def padded(rows: Sequence[Sequence[int]], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(ids (b, l), mask (b, l) of 0 and 1), rows filled on the right."""
    width = max(len(row) for row in rows)
    ids = torch.full((len(rows), width), pad, dtype=torch.long)
    mask = torch.zeros(len(rows), width, dtype=torch.long)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = torch.tensor(row)
        mask[index, : len(row)] = 1
    return ids, mask


def load_body(name: str, dtype: torch.dtype, *, base: Path | None = None, **rest: Any) -> Any:
    """The part of any model that gives hidden states: a whole encoder, or a causal model (by any
    name that `tuned.load_any` knows) without its output head.

    Args:
        name: a catalogue name, a folder, a hub id, or the folder of a training stage.
        dtype: what the weights are cast to.
        base: where relative names start.
        rest: of `tuned.load_any`.

    Raises:
        ModelError: it cannot be loaded.
    """
    from luthier.models.loading import load_encoder

    if describe_any(name, base=base).kind == "encoder":
        return load_encoder(name, dtype, base=base, **rest)
    loaded = load_any(name, dtype, base=base, **rest)
    return replace(loaded, model=body_of(loaded.model))


def without_pooler(body: Any) -> Any:
    """The body, its pooler taken off where it has one: what no loss reaches is not trained."""
    if getattr(body, "pooler", None) is not None:
        body.pooler = None
    return body


@torch.no_grad()
def save_head(model: Headed, weights: Mapping[str, torch.Tensor], folder: Path) -> None:
    """Store the head alone.

    Args:
        model: whose head it is.
        weights: float32 values of the trained parameters, by name; the head's are among them.
        folder: an existing folder.
    """
    from safetensors.torch import save_file

    tensors = {name: weights[f"head.{name}"].contiguous().cpu() for name in ("weight", "bias")}
    save_file(tensors, folder / TENSORS, metadata={"format": "pt"})
    spec = model.spec
    write_json(
        folder / RECORD,
        {
            "format": _FORMAT,
            "of": spec.of,
            "labels": list(spec.labels),
            "pooling": spec.pooling,
            "causal": spec.causal,
            "longest": spec.longest,
            "pad": spec.pad,
        },
    )


def has_head(folder: Path) -> bool:
    """Whether a folder holds a model with a head for labels."""
    return (folder / RECORD).is_file()


def load_headed(folder: Path, dtype: torch.dtype, *, base: Path | None = None) -> LoadedModel:
    """What `save_head` and a tuning method stored, ready to answer.

    Args:
        folder: holds head.json.
        dtype: what the body computes in.
        base: where a relative name of the base model starts.

    Returns:
        Its `model` is a `Headed` in evaluation mode.

    Raises:
        ModelError: a file is missing or damaged, or the base is not to be had.
    """
    from luthier.models import adapters
    from luthier.models.loading import load_encoder

    spec = _spec(folder)
    part = folder / BODY
    form = form_of(part) if part.is_dir() else None
    if part.is_dir() and form is None:
        loaded = load_encoder(str(part), dtype)
    else:
        name, start = named_base(folder, base)
        asked = form.base_precision(part) if form else None
        loaded = load_body(name, getattr(torch, asked) if asked else dtype, base=start)
    # as in training, before the method put anything onto the body
    body = loaded.model if spec.pooling == "pooler" else without_pooler(loaded.model)
    if form:
        body = adapters.restore(body, part, dtype)
    model = Headed(body, spec)
    _read_head(model, folder)
    return replace(loaded, model=model.eval(), path=folder, context_length=spec.longest)


def _spec(folder: Path) -> HeadSpec:
    try:
        held = read_json(folder / RECORD)
        if held.get("format") != _FORMAT:
            raise ModelError(
                f"{folder / RECORD} is not of the kind that this version reads.",
                fix="Use the version of luthier that trained it.",
            )
        return HeadSpec(
            of=held["of"],
            labels=tuple(held["labels"]),
            pooling=held["pooling"],
            causal=held["causal"],
            longest=held["longest"],
            pad=held["pad"],
        )
    except InputError as error:
        raise ModelError(error.message, fix=error.fix) from error
    except (AttributeError, KeyError, TypeError) as error:
        raise ModelError(f"{folder / RECORD} is not whole: {error!r} is missing.") from None


@torch.no_grad()
def _read_head(model: Headed, folder: Path) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = folder / TENSORS
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path} is missing, damaged or cut off: {error}.") from None
    own = dict(model.head.named_parameters())
    if tensors.keys() != own.keys() or any(tensors[n].shape != own[n].shape for n in own):
        raise ModelError(
            f"{path} does not fit its labels or its base model.",
            fix="Load it on the base model it was trained on.",
        )
    for name, value in tensors.items():
        own[name].copy_(value)
