"""Linear layers in 4 bits: NormalFloat with double quantisation (QLoRA, Dettmers et al. 2023,
arXiv 2305.14314, section 3), through bitsandbytes.

A weight of 4 bits cannot take an adapter in: adding a small update and rounding again gives the
weight it was before. So adapters that were trained on such a base are merged into the dequantised
weights, in full precision: the sum that training computed, to the last rounding of the addition.

How much that matters, on SmolLM2-135M after 200 questions of TREC, over the scores of the first
answer token to 100 test questions (mean absolute difference; share with the same best token): what
was trained in bfloat16 against what answers in float32, 0.09 and 97 %, as for any method; what
answers against the same adapter merged into the weights before they were packed, 0.79 and 69 %.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from luthier.errors import ModelError
from luthier.files import read_json, write_json

_RECORD = "quantization.json"
_KIND = "nf4"


class _WithoutKernels(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return "kernels-community" not in str(record.msg)


def hush() -> None:
    """Without the line that bitsandbytes writes when it is imported on a CPU: it names an optional
    package that speeds up nothing of ours. Whatever else it says is still heard."""
    logger = logging.getLogger("bitsandbytes.backends.cpu.ops")
    if not any(isinstance(one, _WithoutKernels) for one in logger.filters):
        logger.addFilter(_WithoutKernels())


def library() -> Any:
    """bitsandbytes.

    Raises:
        ModelError: it is not installed, or does not work here.
    """
    hush()
    try:
        return importlib.import_module("bitsandbytes")
    except ImportError as error:
        raise ModelError(
            f"4-bit weights need the package bitsandbytes, which cannot be imported: {error}.",
            fix="Install it with `pip install bitsandbytes`, or choose method lora.",
        ) from None
    except Exception as error:  # its native library raises what it likes
        raise ModelError(
            f"bitsandbytes does not work on this machine: {error}", fix="Choose method lora."
        ) from error


def quantize(model: Any) -> Any:
    """Put the weights of every linear layer but the head into 4 bits, in place.

    Args:
        model: in the precision it computes in; embeddings, norms, biases and head stay in it.

    Returns:
        The model; everything is frozen.

    Raises:
        ModelError: bitsandbytes is missing, or there is no such layer.
    """
    bnb = library()
    refuse_quantized(model)
    for parent, name, layer in list(_linears(model)):
        weight = layer.weight
        with torch.device("meta"):
            packed = bnb.nn.Linear4bit(
                layer.in_features,
                layer.out_features,
                bias=False,
                compute_dtype=weight.dtype,
                compress_statistics=True,
                quant_type=_KIND,
            )
        packed.weight = bnb.nn.Params4bit(
            weight.detach(),
            requires_grad=False,
            compress_statistics=True,
            quant_type=_KIND,
            module=packed,
        ).to(weight.device)
        packed.bias = layer.bias
        # when it reads without training, its CPU path would repack the weights, which then cannot
        # be trained on, and round the scale of every block
        packed.support_avx512bf16_for_cpu = False
        packed.train(layer.training)
        setattr(parent, name, packed)
    model.is_loaded_in_4bit = True  # how peft knows
    return model.requires_grad_(False)


@torch.no_grad()
def round_weights(model: Any) -> Any:
    """Give every linear layer the values that its weights have in 4 bits, unpacked, in place.

    The same numbers that the layers of `quantize` compute with, in a model that anything can be
    merged into.

    Args:
        model: in the precision that `quantize` was given it in; other values round otherwise.

    Raises:
        ModelError: see `quantize`.
    """
    bnb = library()
    refuse_quantized(model)
    for _, _, layer in _linears(model):
        packed, state = bnb.functional.quantize_4bit(
            layer.weight.detach(), blocksize=64, compress_statistics=True, quant_type=_KIND
        )
        layer.weight.copy_(bnb.functional.dequantize_4bit(packed, state))
    return model


def is_quantized(model: torch.nn.Module) -> bool:
    """Whether weights of the model are packed."""
    return any(getattr(p, "quant_state", None) is not None for p in model.parameters())


def refuse_quantized(model: torch.nn.Module) -> None:
    """Stop where packed weights would have to change.

    Raises:
        ModelError: they are packed.
    """
    if is_quantized(model):
        raise ModelError(
            "The weights of this model are packed in 4 bits: they cannot be trained, and an "
            "adapter merged into them would be rounded away.",
            fix="Name the model in full precision as the base; method qlora packs it for training, "
            "and what it stores is merged into unpacked weights.",
        )


def size(parameter: torch.Tensor) -> int:
    """How many weights a parameter holds; two of 4 bits share a byte."""
    state = getattr(parameter, "quant_state", None)
    return parameter.numel() if state is None else int(torch.Size(state.shape).numel())


def record(model: Any, folder: Path) -> None:
    """Write down how the base was packed, and the precision that it was packed from."""
    precision = str(model.dtype).removeprefix("torch.")
    write_json(
        folder / _RECORD,
        {"kind": _KIND, "block": 64, "double": True, "packed_from": precision},
    )


def recorded(folder: Path) -> str | None:
    """The precision that the base of an adapter was packed from; None for one that was not.

    Raises:
        ModelError: it was packed in a way that this version does not know.
    """
    path = folder / _RECORD
    if not path.is_file():
        return None
    held = read_json(path)
    known = {"kind": _KIND, "block": 64, "double": True}
    if not isinstance(held, dict) or {key: held.get(key) for key in known} != known:
        raise ModelError(f"{path} names a way of packing weights that is not known here.")
    precision = held.get("packed_from")
    if precision not in ("float32", "bfloat16"):
        raise ModelError(f"{path}: `packed_from` is {precision!r}, not float32 or bfloat16.")
    return str(precision)


def _linears(model: Any) -> Iterator[tuple[torch.nn.Module, str, torch.nn.Linear]]:
    """(parent, attribute, layer) of every linear layer but the head.

    Raises:
        ModelError: there is none.
    """
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    found = False
    for parent in model.modules():
        for name, child in parent.named_children():
            if type(child) is torch.nn.Linear and child is not head:
                found = True
                yield parent, name, child
    if not found:
        raise ModelError(
            f"{type(model).__name__} has no linear layers that could be put into 4 bits.",
            fix="Choose method lora.",
        )
