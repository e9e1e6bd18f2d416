"""What a model is, told from its config and the headers of its weights, without loading it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from luthier.errors import ModelError
from luthier.models import checks
from luthier.models.catalogue import Entry, Kind


@dataclass(frozen=True)
class ModelInfo:
    """The facts about a model that estimates and tables need.

    Attributes:
        name: as in task.yaml.
        kind: "causal" or "encoder".
        parameters: tied ones counted once; buffers are not parameters.
        context_length: tokens it reads at most.
        layers: transformer blocks.
        hidden_size: width of the residual stream.
        intermediate_size: width inside the feed-forward part.
        heads: attention heads.
        key_value_heads: heads of keys and values (grouped-query attention has fewer).
        head_dim: width of one head.
        vocab_size: rows of the embedding.
        tied: whether the output head is the embedding.
        stored_bytes: the weights on disk; for a model not fetched yet, as they will be.
        licence: what is known of it; "" for models that are the user's.
        path: the folder; None while not fetched.
        model_type: the architecture's name in config.json.
    """

    name: str
    kind: Kind
    parameters: int
    context_length: int
    layers: int
    hidden_size: int
    intermediate_size: int
    heads: int
    key_value_heads: int
    head_dim: int
    vocab_size: int
    tied: bool
    stored_bytes: int
    licence: str
    path: Path | None
    model_type: str = ""

    @property
    def embedding_parameters(self) -> int:
        """Rows times width of the embedding (once, also when there is a separate head)."""
        return self.vocab_size * self.hidden_size

    @property
    def body_parameters(self) -> int:
        """Parameters a token is multiplied with in the blocks: all but embedding and head."""
        tables = 1 if self.tied or self.kind == "encoder" else 2
        return max(self.parameters - tables * self.embedding_parameters, 0)


def from_entry(entry: Entry, path: Path | None) -> ModelInfo:
    """What the catalogue says, for a model that need not have been fetched."""
    shape = entry.shape
    # converted models are bfloat16, folders keep their payload
    stored = entry.payload_size if entry.form == "folder" else 2 * entry.parameters
    return ModelInfo(
        name=entry.name,
        kind=entry.kind,
        parameters=entry.parameters,
        context_length=entry.context_length,
        layers=shape.layers,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        heads=shape.heads,
        key_value_heads=shape.key_value_heads,
        head_dim=shape.head_dim,
        vocab_size=shape.vocabulary,
        tied=shape.tied,
        stored_bytes=stored,
        licence=entry.licence,
        path=path,
        model_type=shape.model_type,
    )


def from_folder(name: str, folder: Path, licence: str = "") -> ModelInfo:
    """Read a model folder's config.json and the headers of its weights.

    Raises:
        ModelError: no model folder, damaged weights, or a config that does not give the sizes.
    """
    config = checks.read_config(name, folder)
    found = checks.tensors(name, folder)
    text: dict[str, Any] = config.get("text_config") or config

    def size(*keys: str, default: int | None = None) -> int:
        for key in keys:
            if isinstance(text.get(key), int):
                return int(text[key])
        if default is None:
            raise ModelError(f"{folder / 'config.json'} does not give {keys[0]}.")
        return default

    hidden = size("hidden_size", "n_embd", "d_model", "dim")
    heads = size("num_attention_heads", "n_head", "n_heads", default=max(hidden // 64, 1))
    tied = bool(text.get("tie_word_embeddings", config.get("tie_word_embeddings", True)))
    return ModelInfo(
        name=name,
        kind=checks.architecture(name, config),
        parameters=sum(math.prod(shape) for kind, shape in found.values() if _is_parameter(kind)),
        context_length=checks.context_length(folder, config),
        layers=size("num_hidden_layers", "n_layer", "n_layers"),
        hidden_size=hidden,
        intermediate_size=size("intermediate_size", "n_inner", "ffn_dim", default=4 * hidden),
        heads=heads,
        key_value_heads=size("num_key_value_heads", default=heads),
        head_dim=size("head_dim", default=hidden // heads),
        vocab_size=size("vocab_size"),
        tied=tied,
        stored_bytes=sum(path.stat().st_size for path in checks.weight_files(name, folder)),
        licence=licence,
        path=folder,
        model_type=str(text.get("model_type", config.get("model_type", ""))),
    )


def _is_parameter(kind: str) -> bool:
    """Integer tensors of 32 and 64 bits are buffers (positions); packed weights are 8-bit."""
    return not kind.startswith(("I64", "I32", "BOOL"))
