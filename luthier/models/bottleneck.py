"""Bottleneck adapters (Houlsby et al. 2019, arXiv 1902.00751, section 2.1): small networks within
the layers of a frozen model. Added, stored, put back."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from torch.nn import functional

from luthier.errors import InputError, ModelError
from luthier.files import read_json, write_json
from luthier.models.forms.bottleneck import RECORD, TENSORS
from luthier.models.frozen import blocks

Place = Literal["attention", "mlp"]
#: Behind both parts of a layer, as Houlsby et al. have it; Pfeiffer et al. (2021, arXiv 2005.00247)
#: keep the second alone.
BOTH: tuple[Place, ...] = ("attention", "mlp")

_FORMAT = 1
_FIX = "Load it on the base model it was trained on."
_ATTRIBUTE = "bottleneck_"
#: What families call the two parts of their layers.
_NAMES: dict[str, tuple[str, ...]] = {
    "attention": ("self_attn", "attn", "attention", "self_attention", "linear_attn"),
    "mlp": ("mlp", "feed_forward", "ffn", "block_sparse_moe", "moe"),
}


class Bottleneck(nn.Module):
    """y + up(gelu(down(y))), for hidden states y (..., d) of one part of a layer.

    `up` starts at 0, so the model says at first what it said before.

    Args:
        hidden: d.
        width: of the layer between the two projections.
    """

    def __init__(self, hidden: int, width: int) -> None:
        super().__init__()
        self.down = nn.Linear(hidden, width)
        self.up = nn.Linear(width, hidden)
        self.enabled = True
        nn.init.normal_(self.down.weight, std=hidden**-0.5)
        nn.init.zeros_(self.down.bias)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """(..., d) to (..., d), in the precision it is given."""
        inner = functional.gelu(self.down(hidden.to(self.down.weight.dtype)))
        out: torch.Tensor = hidden + self.up(inner).to(hidden.dtype)
        return out

    def after(self, part: nn.Module, given: Any, output: Any) -> Any:
        """A forward hook of the part it stands behind. Attention gives its weights too."""
        del part, given
        if not self.enabled:
            return output
        if isinstance(output, tuple):
            return (self(output[0]), *output[1:])
        return self(output)


def add_bottlenecks(model: Any, *, width: int, places: Sequence[Place] = BOTH) -> Any:
    """Put an adapter behind the attention and the MLP of every layer, before the residual is added.

    Args:
        model: a causal LM; its own weights are frozen.
        width: of the bottleneck.
        places: behind which parts.

    Raises:
        ModelError: the model's layers have no parts of known names, or it has adapters already.
    """
    if is_adapted(model):
        raise ModelError("This model has bottleneck adapters already.")
    hidden = int(model.config.get_text_config().hidden_size)
    model.requires_grad_(False)
    for number, layer in enumerate(blocks(model)):
        for place in places:
            part = _part(layer, place, number)
            device = next(layer.parameters()).device
            adapter = Bottleneck(hidden, width).to(device, model.dtype)
            adapter.train(layer.training)
            setattr(layer, _ATTRIBUTE + place, adapter)
            # a bound method is copied with its object, so a deep copy of the model has its own
            part.register_forward_hook(adapter.after)
    _try(model)
    return model


def is_adapted(model: nn.Module) -> bool:
    """Whether a model has bottleneck adapters."""
    return any(isinstance(module, Bottleneck) for module in model.modules())


@contextlib.contextmanager
def without_bottlenecks(model: nn.Module) -> Iterator[None]:
    """The model as it was before adapters were added, while the block lasts."""
    adapters = [m for m in model.modules() if isinstance(m, Bottleneck) and m.enabled]
    try:
        for adapter in adapters:
            adapter.enabled = False
        yield
    finally:
        for adapter in adapters:
            adapter.enabled = True


def save(model: Any, weights: Mapping[str, torch.Tensor], folder: Path, *, base: str) -> None:
    """Store the adapters.

    Args:
        model: what was trained.
        weights: float32 values of the adapters' parameters, by their names in `model`.
        folder: an existing, empty folder.
        base: the name the base model is found by again.
    """
    from safetensors.torch import save_file

    layers = list(blocks(model))
    width = next(m.down.out_features for m in model.modules() if isinstance(m, Bottleneck))
    names = {id(p): name for name, p in model.named_parameters()}
    tensors = {
        stored: weights[names[id(parameter)]].detach().cpu().contiguous()
        for stored, parameter in _stored(model).items()
    }
    save_file(tensors, folder / TENSORS, metadata={"format": "pt"})
    write_json(
        folder / RECORD,
        {
            "format": _FORMAT,
            "base": base,
            "width": width,
            "places": [p for p in BOTH if hasattr(layers[0], _ATTRIBUTE + p)],
            "activation": "gelu",
            "layers": len(layers),
            "hidden_size": int(model.config.get_text_config().hidden_size),
        },
    )


@torch.no_grad()
def restore(model: Any, folder: Path) -> Any:
    """Put stored adapters into the layers of the base model; nothing of the two can be trained.

    Args:
        model: the base; it is changed.
        folder: holds bottleneck.json and bottleneck.safetensors.

    Raises:
        ModelError: the files are damaged, or belong to another model.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        record = read_json(folder / RECORD)
        tensors = load_file(folder / TENSORS)
    except InputError as error:
        raise ModelError(error.message, fix=error.fix) from error
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{folder / TENSORS} is missing, damaged or cut off: {error}.") from None
    width, places = _checked(record, folder / RECORD)
    config = model.config.get_text_config()
    own = int(config.num_hidden_layers), int(config.hidden_size)
    if own != (record.get("layers"), record.get("hidden_size")):
        raise ModelError(
            f"{folder}: the adapters are for {record.get('layers')} layers of width "
            f"{record.get('hidden_size')}, and the base model has {own[0]} of width {own[1]}.",
            fix=_FIX,
        )
    add_bottlenecks(model, width=width, places=places)
    wanted = _stored(model)
    strange = sorted(
        wanted.keys() ^ tensors.keys()
        | {n for n in wanted.keys() & tensors.keys() if wanted[n].shape != tensors[n].shape}
    )
    if strange:
        raise ModelError(
            f"{folder}: {len(strange)} tensors of the adapters are missing, unknown or of another "
            f"shape (such as {strange[0]}).",
            fix="Train them again.",
        )
    for name, parameter in wanted.items():
        parameter.copy_(tensors[name])
    return model.requires_grad_(False).eval()


# ---- inside ------------------------------------------------------------------------------------


def _part(layer: nn.Module, place: str, number: int) -> nn.Module:
    for name in _NAMES[place]:
        part = getattr(layer, name, None)
        if isinstance(part, nn.Module):
            return part
    raise ModelError(
        f"Layer {number} ({type(layer).__name__}) has no part called {', '.join(_NAMES[place])}, "
        "so it is not known where a bottleneck adapter belongs.",
        fix="Use lora or full.",
    )


@torch.no_grad()
def _try(model: Any) -> None:
    """Read one token, so that parts which give something else than hidden states show now."""
    token = torch.zeros(1, 1, dtype=torch.long, device=next(model.parameters()).device)
    try:
        model.base_model(input_ids=token, use_cache=False)
    except Exception as error:  # whatever an architecture makes of the hooks
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(
            f"{type(model).__name__} cannot have bottleneck adapters: {line[:200]}",
            fix="Use lora or full.",
        ) from error


def _stored(model: Any) -> dict[str, nn.Parameter]:
    """The adapters' parameters by the names they have in the file."""
    return {
        f"layers.{number}.{place}.{name}": parameter
        for number, layer in enumerate(blocks(model))
        for place in BOTH
        if hasattr(layer, _ATTRIBUTE + place)
        for name, parameter in getattr(layer, _ATTRIBUTE + place).named_parameters()
    }


def _checked(record: Any, path: Path) -> tuple[int, tuple[Place, ...]]:
    """(width, places) of a record.

    Raises:
        ModelError: it is not one that this version reads.
    """
    if not isinstance(record, dict) or record.get("format") != _FORMAT:
        raise ModelError(
            f"{path} is not of the kind that this version reads.",
            fix="Use the version of luthier that trained it.",
        )
    width, given = record.get("width"), record.get("places")
    named = given if isinstance(given, list) else []
    places = tuple(place for place in BOTH if place in named)
    known = places and len(places) == len(named) and record.get("activation") == "gelu"
    if not isinstance(width, int) or width < 1 or not known:
        raise ModelError(f"{path} does not describe bottleneck adapters: width {width}, {given}.")
    return width, places
