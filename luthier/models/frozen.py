"""Training some of a model's own parameters and freezing the rest: finding them, storing only what
was trained, putting it back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from luthier.errors import InputError, ModelError
from luthier.files import read_json, write_json
from luthier.models.forms.delta import RECORD, TENSORS
from luthier.models.heads import body
from luthier.models.quantized import refuse_quantized

_FORMAT = 1
_FIX = "Load it on the base model it was trained on."


def train_only(model: Any, parameters: Iterable[torch.nn.Parameter]) -> Any:
    """Freeze everything but the given parameters.

    Autograd then stops by itself below the lowest of them: where no input and no weight of a layer
    needs a gradient, nothing of it is kept for the backward pass.

    Raises:
        ModelError: nothing would be trained, or the model's weights are packed in 4 bits.
    """
    refuse_quantized(model)
    opened = list(parameters)
    if not opened:
        raise ModelError("This model has no parameters where the method trains them.")
    model.requires_grad_(False)
    for parameter in opened:
        parameter.requires_grad_(True)
    return model


def blocks(model: Any) -> torch.nn.ModuleList:
    """The transformer layers of a model, the one nearest the input first.

    Raises:
        ModelError: no list of modules has the length that the model's config gives.
    """
    count = int(model.config.get_text_config().num_hidden_layers)
    lists = [
        module
        for module in body(model).modules()
        if isinstance(module, torch.nn.ModuleList) and len(module) == count
    ]
    if not lists:
        raise ModelError(
            f"{type(model).__name__}: its {count} layers are not in a list that could be frozen "
            "in part.",
            fix="Choose another method, such as lora.",
        )
    return max(lists, key=lambda found: sum(p.numel() for p in found.parameters()))


def final_norm(model: Any) -> list[torch.nn.Parameter]:
    """The parameters of the norm between the last layer and the head; none where there is none.

    It lies beside the list of layers, holds nothing but vectors, and is not the norm of the
    embeddings.
    """
    layers = blocks(model)
    for parent in body(model).modules():
        if any(child is layers for child in parent.children()):
            return [
                parameter
                for name, child in parent.named_children()
                if child is not layers
                and "emb" not in name
                and all(p.ndim <= 1 for p in child.parameters())
                for parameter in child.parameters()
            ]
    return []


def head(model: Any) -> Any:
    """The output head.

    Raises:
        ModelError: the model has none.
    """
    found = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    if found is None:
        raise ModelError(
            f"{type(model).__name__} has no output head.", fix="Choose a causal language model."
        )
    return found


def is_tied(model: Any) -> bool:
    """Whether the model has a head, which is one and the same matrix as its input embedding."""
    found = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    return found is not None and found.weight is model.get_input_embeddings().weight


def untie(model: Any) -> None:
    """Give the head a copy of the embedding's matrix, so that one can change without the other."""
    found = head(model)
    found.weight = torch.nn.Parameter(found.weight.detach().clone())
    for config in {id(c): c for c in (model.config, model.config.get_text_config())}.values():
        config.tie_word_embeddings = False
    # transformers remembers what it has tied, and would store only one of the two
    if getattr(model, "all_tied_weights_keys", None):
        model.all_tied_weights_keys = {}


@torch.no_grad()
def save_delta(
    model: Any, weights: Mapping[str, torch.Tensor], folder: Path, *, method: str, base: str
) -> None:
    """Store the trained parameters and nothing else.

    Args:
        model: what was trained.
        weights: float32 values of the trained parameters, by name.
        folder: an existing, empty folder.
        method: the name of the tuning method.
        base: the name of the model that the other parameters are those of.
    """
    from safetensors.torch import save_file

    record = {"format": _FORMAT, "method": method, "base": base, "untied_head": not is_tied(model)}
    save_file(
        {name: value.detach().contiguous().cpu() for name, value in weights.items()},
        folder / TENSORS,
        metadata={"format": "pt"},
    )
    write_json(folder / RECORD, record)


@torch.no_grad()
def put_back(model: Any, folder: Path) -> Any:
    """The base model with its values replaced by those of a delta, in the base's precision.

    Args:
        model: the base; it is changed.
        folder: holds the delta.

    Returns:
        The model in evaluation mode, all its weights open to further training.

    Raises:
        ModelError: the delta is damaged, or it is not one of this model's.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    refuse_quantized(model)
    try:
        record = read_json(folder / RECORD)
        tensors = load_file(folder / TENSORS)
    except InputError as error:
        raise ModelError(error.message, fix=error.fix) from error
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{folder / TENSORS} is missing, damaged or cut off: {error}.") from None
    if not isinstance(record, dict) or record.get("format") != _FORMAT:
        raise ModelError(
            f"{folder / RECORD} is not of the kind that this version reads.",
            fix="Use the version of luthier that trained it.",
        )
    if record.get("untied_head") and is_tied(model):
        untie(model)
    own = dict(model.named_parameters())
    strange = sorted(
        name for name, value in tensors.items() if name not in own or own[name].shape != value.shape
    )
    if strange or not tensors:
        raise ModelError(
            f"{folder}: {len(strange)} of its {len(tensors)} tensors have no counterpart of their "
            f"shape in the base model (such as {min(strange, default='none at all')}).",
            fix=_FIX,
        )
    for name, value in tensors.items():
        own[name].copy_(value)
    return model.requires_grad_(True).eval()
