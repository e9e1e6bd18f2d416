"""Soft prompts: learned positions before every row. Added, stored in peft's format, put back.

peft's configs and encoders hold the parameters; `SoftBody` takes the place of peft's forward pass,
because training and generation here call the model's body with caches of their own.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from peft import (
    PeftModel,
    PrefixTuningConfig,
    PromptEncoderConfig,
    PromptTuningConfig,
    get_peft_model,
)

from luthier.errors import ModelError
from luthier.models.gguf_files import quiet
from luthier.models.shared_keys import record
from luthier.models.soft_encoders import (
    ADAPTER,
    PeftPrefix,
    PrefixFromWords,
    PromptFromWords,
    flat,
)
from luthier.models.soft_prefix import SoftBody, check_suits, key_shapes

_ENCODER = f"prompt_encoder.{ADAPTER}."
_WEIGHTS = "adapter_model.safetensors"
_FIX = "Load it on the base model it was trained on."


def add_prompt(model: Any, *, length: int, words: Sequence[int], base: str, seed: int = 0) -> Any:
    """Prompt tuning (Lester et al. 2021, arXiv 2104.08691): learned input embeddings.

    Args:
        model: a causal LM; it is frozen.
        length: positions, n.
        words: token ids whose embeddings the positions start from, repeated or cut to n; random
            entries of the vocabulary where there are none (both as in section 3.2).
        base: the name the base model is found by again.
        seed: decides the random entries.

    Returns:
        peft's model around it; `heads.body` of it is a `SoftBody`.

    Raises:
        ModelError: the model cannot have a soft prefix.
    """
    check_suits(model)
    start = _embedded(model, _word_ids(model, length, words, seed))
    soft = _wrapped(model, PromptTuningConfig(**_sizes(model, start), **_common(length)), base)
    soft.prompt_encoder[ADAPTER].embedding.weight.data.copy_(start)
    return _ready(soft)


def add_encoded_prompt(
    model: Any,
    *,
    length: int,
    words: Sequence[int],
    base: str,
    seed: int = 0,
    encoder: Literal["MLP", "LSTM"] = "MLP",
) -> Any:
    """P-tuning (Liu et al. 2021, arXiv 2103.10385): input embeddings that an encoder computes.

    The encoder ties the positions together, which makes them easier to find than free ones; its
    output is added to the embeddings of words, and its last layer starts at 0. Only its output is
    stored. Arguments and errors as for `add_prompt`.

    Args:
        encoder: "MLP", or "LSTM" (bidirectional, with an MLP on top).
    """
    check_suits(model)
    start = _embedded(model, _word_ids(model, length, words, seed))
    config = PromptEncoderConfig(
        encoder_reparameterization_type=encoder,
        encoder_hidden_size=int(start.shape[1]),
        **_sizes(model, start),
        **_common(length),
    )
    soft = _wrapped(model, config, base)
    soft.prompt_encoder[ADAPTER] = PromptFromWords(config, start).to(start.device)
    return _ready(soft)


def add_prefix(model: Any, *, length: int, words: Sequence[int], base: str, seed: int = 0) -> Any:
    """Prefix tuning (Li & Liang 2021, arXiv 2101.00190): learned keys and values in every layer.

    They are what an MLP makes of n embeddings (section 4.3), added to the keys and values that the
    model computes for real words (section 7.4: a start from words serves where data is scarce); the
    MLP's last layer starts at 0. Only the sum is stored. Arguments and errors as for `add_prompt`.
    """
    check_suits(model)
    shapes = set(key_shapes(model))
    if len(shapes) != 1:
        raise ModelError(
            "The layers of this model have keys of different shapes, and a stored prefix holds one "
            "shape for all.",
            fix="Use prompt-tuning, p-tuning or lora.",
        )
    ids = _word_ids(model, length, words, seed)
    with torch.no_grad():
        states = record(model.base_model, input_ids=ids[None])
    start = flat(states)
    ((heads, width),) = shapes
    config = PrefixTuningConfig(
        prefix_projection=True,
        num_attention_heads=heads,
        token_dim=heads * width,
        encoder_hidden_size=_prefix_hidden(model),
        **_common(length),
    )
    soft = _wrapped(model, config, base)
    soft.prompt_encoder[ADAPTER] = PrefixFromWords(config, start).to(start.device)
    return _ready(soft)


def is_soft(model: Any) -> bool:
    """Whether a model has a soft prompt."""
    return isinstance(getattr(model, "soft_body", None), SoftBody)


@torch.no_grad()
def save(model: Any, weights: Mapping[str, torch.Tensor], folder: Path) -> None:
    """Store a soft prompt as peft does: what the encoder computes, without the encoder.

    Args:
        model: what was trained.
        weights: float32 values of the encoder's parameters, by their names in `model`.
        folder: an existing, empty folder.
    """
    from safetensors.torch import save_file

    encoder = copy.deepcopy(model.prompt_encoder[ADAPTER]).float()
    values = dict(encoder.named_parameters())
    for name, value in weights.items():
        values[name.removeprefix(_ENCODER)].copy_(value)
    config = copy.copy(model.peft_config[ADAPTER])
    indices = torch.arange(config.num_virtual_tokens, device=encoder.embedding.weight.device)
    prompt = encoder(indices[None])[0]
    config.inference_mode = True
    if isinstance(config, PrefixTuningConfig):
        config.prefix_projection = False  # what is stored are the keys and values themselves
    config.save_pretrained(str(folder))
    save_file(
        {"prompt_embeddings": prompt.cpu().contiguous()},
        folder / _WEIGHTS,
        metadata={"format": "pt"},
    )


@torch.no_grad()
def restore(model: Any, folder: Path) -> Any:
    """Put a stored soft prompt before the base model; nothing of the two can be trained.

    Args:
        model: the base.
        folder: holds adapter_config.json and adapter_model.safetensors.

    Raises:
        ModelError: the files are damaged, or belong to another model.
    """
    from safetensors import SafetensorError, safe_open

    path = folder / _WEIGHTS
    try:
        with safe_open(path, framework="pt"):
            pass  # where there is none, peft would go and look on a hub
        with quiet():
            soft = PeftModel.from_pretrained(
                model,
                str(folder),
                autocast_adapter_dtype=False,
                torch_device=str(model.get_input_embeddings().weight.device),
            )
    except (OSError, SafetensorError, KeyError) as error:
        raise ModelError(f"{path} is missing, damaged or cut off: {error}.") from None
    except Exception as error:  # whatever peft and torch make of tensors of another shape
        line = " ".join(str(error).strip().splitlines()[:2])
        raise ModelError(
            f"{folder}: the soft prompt cannot be read: {line[:300]}", fix=_FIX
        ) from error
    _check_fits(soft, folder)
    return _ready(soft).requires_grad_(False).eval()


# ---- inside ------------------------------------------------------------------------------------


def _sizes(model: Any, start: torch.Tensor) -> dict[str, int]:
    """What peft would look up under names that not every config has."""
    config = model.config.get_text_config()
    return {
        "token_dim": int(start.shape[1]),
        "num_layers": int(config.num_hidden_layers),
        "num_attention_heads": int(getattr(config, "num_attention_heads", 1)),
    }


def _common(length: int) -> dict[str, Any]:
    return {"task_type": "CAUSAL_LM", "num_virtual_tokens": length}


def _wrapped(model: Any, config: Any, base: str) -> Any:
    model.requires_grad_(False)
    with quiet():
        soft = get_peft_model(model, config)
    # peft would put the folder the weights were read from
    soft.peft_config[ADAPTER].base_model_name_or_path = base
    return soft


def _ready(soft: Any) -> Any:
    """Give peft's model the body that `heads.body` hands out."""
    base = soft.get_base_model()
    soft.prompt_encoder[ADAPTER].to(base.get_input_embeddings().weight.device)
    soft.soft_body = SoftBody(base.base_model, PeftPrefix(soft))
    return soft


def _word_ids(model: Any, length: int, words: Sequence[int], seed: int) -> torch.Tensor:
    """n ids: the words repeated or cut, else random ones of the vocabulary."""
    weight = model.get_input_embeddings().weight
    if not words:
        source = torch.Generator().manual_seed(seed)
        return torch.randint(0, int(weight.shape[0]), (length,), generator=source).to(weight.device)
    repeated = list(words) * math.ceil(length / len(words))
    return torch.tensor(repeated[:length], device=weight.device)


def _embedded(model: Any, ids: torch.Tensor) -> torch.Tensor:
    """What the model embeds n words as, (n, hidden), float32."""
    with torch.no_grad():
        out: torch.Tensor = model.get_input_embeddings()(ids)
    return out.detach().float().clone()


def _prefix_hidden(model: Any) -> int:
    """Width of the reparametrising MLP: 512 as Li & Liang had it, less for narrow models."""
    return min(512, int(model.config.get_text_config().hidden_size))


def _check_fits(soft: Any, folder: Path) -> None:
    """Compare a stored prompt with the shapes of the base."""
    config = soft.peft_config[ADAPTER]
    base = soft.get_base_model()
    stored = tuple(soft.prompt_encoder[ADAPTER].embedding.weight.shape)
    if isinstance(config, PrefixTuningConfig):
        shapes = key_shapes(base)
        width = int(config.token_dim) // int(config.num_attention_heads)
        fits = shapes == [(int(config.num_attention_heads), width)] * int(config.num_layers)
        wanted = f"{len(shapes)} layers of keys {shapes[0]}"
    else:
        hidden = int(base.get_input_embeddings().weight.shape[1])
        fits = stored[1] == hidden
        wanted = f"embeddings of width {hidden}"
    if not fits:
        raise ModelError(
            f"{folder}: the soft prompt {stored} does not fit the base model, which has {wanted}.",
            fix=_FIX,
        )
