"""The body of a Llama-family model, run by hand-written layers where that is possible.

`fuse` looks at a model and joins its weights; `hidden_states` is what objectives call. A model
that is not of this family, or is trained in a way that the layers do not know (dropout, DoRA,
4-bit weights), is run by its own modules: the readable path, which this one is tested against.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from luthier.models.allocator import lasting
from luthier.models.heads import body
from luthier.training.fused.kernels import Kernels, kernels_for
from luthier.training.fused.layer import Layer
from luthier.training.fused.linear import Joined, part_of
from luthier.training.fused.tied import TiedEmbedding

_FUSED: weakref.WeakKeyDictionary[Any, Fused] = weakref.WeakKeyDictionary()

#: Classes of bodies whose layers are exactly those of `layer.py`.
_FAMILY = ("LlamaModel", "MistralModel", "Qwen2Model")

#: Products of bfloat16 matrices whose rows are no multiple of 8 took 8 % longer.
_MULTIPLE = 16


class Fused:
    """A model body with joined weights.

    Args:
        inner: the body: embedding, layers, final norm, rotary embedding.
        layers: of the body, in order.
        tied: the embedding is the output head as well. Its gradient then is a whole matrix in any
            case, and the few rows that were read are added to that.
        kernels: that its layers use.
    """

    def __init__(self, inner: Any, layers: list[Layer], tied: bool, kernels: Kernels) -> None:
        self.inner = inner
        self.kernels = kernels
        self.layers = layers
        self.tied = tied

    def __call__(
        self, prefix: Tensor | None, ids: Tensor, lengths: Sequence[int], chosen: Tensor
    ) -> Tensor:
        """Hidden states (m, hidden) after the final norm, of the m chosen tokens.

        Args:
            prefix: (p,) ids that every row starts with, or None.
            ids: (n,) ids of all rows, one row after another.
            lengths: of the rows; n together. Neighbours of similar length attend together.
            chosen: (n,), true where the hidden state is wanted.
        """
        first = 0 if prefix is None else len(prefix)
        wanted = torch.cat([chosen.new_zeros(first), chosen])
        if prefix is not None:
            ids = torch.cat([prefix, ids])
        filling = -len(ids) % _MULTIPLE
        words = self.inner.embed_tokens
        ids = functional.pad(ids, (0, filling))
        hidden = (
            TiedEmbedding.apply(words.weight, ids, words.padding_idx)
            if self.tied and words.weight.requires_grad
            else functional.embedding(ids, words.weight, padding_idx=words.padding_idx)
        )
        with torch.no_grad():
            shape = self.kernels.shape(self.inner, lengths, first, hidden)
        for layer in self.layers:
            hidden = layer(hidden, shape)
        out: Tensor = self.inner.norm(hidden[: len(wanted)][wanted])
        return out

    def release(self) -> None:
        """Give all parameters storage of their own."""
        for layer in self.layers:
            for joined in layer.joined:
                joined.release()


def fuse(model: Any, *, recompute: bool = False) -> bool:
    """Let `hidden_states` run this model by hand-written layers, if it can.

    The model's parameters become views of joined weights; they keep their values and names, and
    `release` undoes it. Call it after the method has added what it trains, before the optimiser.

    Args:
        model: a causal LM, plain or wrapped by peft.
        recompute: keep only the inputs of the layers for the backward pass, and compute the rest
            again (gradient checkpointing).

    Returns:
        Whether it can.
    """
    inner = body(model)
    if type(inner).__name__ not in _FAMILY or getattr(inner, "gradient_checkpointing", False):
        return False
    device = next(inner.parameters()).device
    if device.type not in ("cpu", "cuda"):
        return False
    config = inner.config
    kinds = set(getattr(config, "layer_types", None) or ())
    windowed = (
        kinds != {"full_attention"} if kinds else bool(getattr(config, "sliding_window", None))
    )
    if config.hidden_act != "silu" or windowed or config.attention_dropout:
        return False
    plans = [_plan(layer) for layer in inner.layers]
    if any(plan is None for plan in plans):
        return False
    dtype = plans[0]["norms"][0].dtype if plans and plans[0] else None
    if dtype is None or inner.embed_tokens.weight.dtype != dtype:
        return False
    kernels = kernels_for(device, dtype)
    with lasting():
        layers = [
            Layer(
                kernels=kernels,
                heads=plan["heads"],
                head_dim=plan["head_dim"],
                norms=plan["norms"],
                epsilons=plan["epsilons"],
                attention_in=Joined(plan["in"]),
                attention_out=Joined(plan["out"]),
                gate_up=Joined(plan["gate_up"]),
                down=Joined(plan["down"]),
                keep=not recompute,
            )
            for plan in plans
            if plan is not None
        ]
        # weights that are still views of the file they were loaded from would keep all of it
        joined = {id(p) for layer in layers for one in layer.joined for p in one.parameters}
        with torch.no_grad():
            for parameter in model.parameters():
                if id(parameter) not in joined:
                    parameter.data = parameter.data.clone()
    find_head = getattr(model, "get_output_embeddings", None)
    head = find_head() if find_head else None
    tied = head is not None and head.weight is inner.embed_tokens.weight
    _FUSED[model] = Fused(inner, layers, tied, kernels)
    return True


def release(model: Any) -> None:
    """Undo `fuse`; does nothing to a model that was not fused."""
    fused = _FUSED.pop(model, None)
    if fused:
        fused.release()


@contextlib.contextmanager
def fusing(model: Any, wanted: bool, *, recompute: bool = False) -> Iterator[bool]:
    """`fuse` while the block lasts; gives whether the model can be."""
    done = wanted and fuse(model, recompute=recompute)
    try:
        yield done
    finally:
        release(model)


def fused(model: Any) -> Fused | None:
    """What `fuse` made of a model, if it could."""
    return _FUSED.get(model)


def _plan(layer: Any) -> dict[str, Any] | None:
    """The parts of a layer, or None where one is not what `Layer` computes."""
    # what a method puts behind a part of a layer (models/bottleneck.py) stands in its hooks
    if any(module._forward_hooks or module._forward_pre_hooks for module in layer.modules()):
        return None
    attention, mlp = layer.self_attn, layer.mlp
    names = {
        "in": (attention.q_proj, attention.k_proj, attention.v_proj),
        "out": (attention.o_proj,),
        "gate_up": (mlp.gate_proj, mlp.up_proj),
        "down": (mlp.down_proj,),
    }
    found: dict[str, Any] = {name: [part_of(m) for m in ms] for name, ms in names.items()}
    if any(part is None for parts in found.values() for part in parts):
        return None
    # a bias is added to queries, keys and values alone
    if any(part.bias is not None for name in ("out", "gate_up", "down") for part in found[name]):
        return None
    norms = (layer.input_layernorm, layer.post_attention_layernorm)
    dtypes = {part.weight.dtype for parts in found.values() for part in parts}
    if len(dtypes | {norm.weight.dtype for norm in norms}) != 1:
        return None
    d = int(attention.head_dim)
    queries = found["in"][0].weight.shape[0] // d
    keys = found["in"][1].weight.shape[0] // d
    return {
        **found,
        "heads": (queries // keys, keys),
        "head_dim": d,
        "norms": tuple(norm.weight for norm in norms),
        "epsilons": tuple(float(norm.variance_epsilon) for norm in norms),
    }
