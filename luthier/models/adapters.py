"""What is added to a model to train it, and how it is stored and put back.

Adapters are peft's, in peft's file format, so that other engines load them.
"""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from luthier.errors import InputError, ModelError, did_you_mean
from luthier.models import dora, pissa
from luthier.models.form import form_of
from luthier.models.gguf_files import quiet
from luthier.models.quantized import hush, refuse_quantized, size

_FIX = "Load it on the base model it was trained on."

hush()  # before peft imports bitsandbytes


def add_lora(
    model: Any,
    *,
    rank: int,
    alpha: float,
    dropout: float,
    base: str,
    targets: Sequence[str] | None = None,
    rslora: bool = False,
    with_dora: bool = False,
    principal: bool = False,
    packed: bool = False,
) -> Any:
    """LoRA (Hu et al. 2021, arXiv 2106.09685) on all linear layers but the head.

    The adapter computes in the model's precision; the optimiser keeps float32 masters of it.

    Args:
        model: a causal LM; its own weights are frozen.
        rank: r, the inner width.
        alpha: the update is scaled by alpha / r.
        dropout: on the adapter's input.
        base: the name the base model is found by again.
        targets: last parts of the names of the layers to adapt (`q_proj`); None for all.
        rslora: scale by alpha / sqrt(r) instead.
        with_dora: train the length of every output's weights apart from their direction; see
            `models/dora.py`.
        principal: begin with the principal part of the weights; see `models/pissa.py`.
        packed: the model's weights are in 4 bits on purpose.

    Raises:
        InputError: `targets` names a layer that the model has not.
        ModelError: the model has no layers that can be adapted.
    """
    from peft import LoraConfig

    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=check_targets(model, targets) if targets else "all-linear",
        use_rslora=rslora,
        use_dora=with_dora,
        fan_in_fan_out=_transposed(model),
        task_type=_task_type(model),
    )
    adapted = attach(model, config, base=base, packed=packed)
    if with_dora:
        dora.mend(adapted)
        dora.set_lengths(adapted)
    if principal:
        pissa.start(adapted)
    return adapted


def attach(model: Any, config: Any, *, base: str, packed: bool = False) -> Any:
    """Add what a peft config describes; it computes in the model's precision.

    Args:
        model: its own weights are frozen.
        config: peft's.
        base: the name the base model is found by again.
        packed: the model's weights are in 4 bits on purpose.

    Returns:
        peft's model around the given one.

    Raises:
        ModelError: peft cannot add this to this model.
    """
    from peft import get_peft_model

    if not packed:
        refuse_quantized(model)
    modules = [name for name, _ in model.named_modules()]
    try:
        with _quiet():
            adapted = get_peft_model(model, config, autocast_adapter_dtype=False)
    except (TypeError, ValueError, KeyError, AttributeError, NotImplementedError) as error:
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(
            f"{type(model).__name__} cannot be trained in this way: {line[:300]}",
            fix="Choose another method, such as full or last-layers.",
        ) from error
    held = adapted.peft_config["default"]
    # peft would put the folder the weights were read from
    held.base_model_name_or_path = base
    if isinstance(getattr(held, "target_modules", None), set):
        held.target_modules = _short(held.target_modules, modules)
    for name, parameter in adapted.named_parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(model.dtype)
        elif "lora_" in name or "ia3_" in name:
            raise ModelError(f"{name} of the adapter is frozen.")
    return adapted


def add_ia3(model: Any, *, base: str) -> Any:
    """(IA)^3 (Liu et al. 2022, arXiv 2205.05638, section 3.3): vectors that keys, values and the
    inner activations of the feed-forward part are multiplied by, in float32.

    Where the model's layers have the names that most have, these are rescaled as in the paper; else
    what peft's table says of the architecture (which for some rescales queries, not keys).

    Args:
        model: a causal LM; its own weights are frozen.
        base: the name the base model is found by again.

    Raises:
        ModelError: it is not known which layers of the model these are.
    """
    from peft import IA3Config

    names = {"k_proj", "v_proj", "down_proj"}
    usual = names <= set(_linear_names(model))
    config = IA3Config(
        target_modules=sorted(names) if usual else None,
        feedforward_modules=["down_proj"] if usual else None,
        fan_in_fan_out=_transposed(model),
        task_type=_task_type(model),
    )
    adapted = attach(model, config, base=base)
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return adapted


def check_targets(model: Any, targets: Sequence[str]) -> list[str]:
    """The given names, each of them the last part of the name of a linear layer.

    Raises:
        InputError: one is not; or it is a head that is tied to the embedding.
    """
    linear = _linear_names(model)
    for target in targets:
        if target not in linear:
            raise InputError(
                f"`training.targets` names {target!r}, which is no linear layer of this model.",
                fix=did_you_mean(target, linear),
            )
        head = model.get_output_embeddings()
        if linear[target] is head and head.weight is model.get_input_embeddings().weight:
            raise InputError(
                f"`training.targets` names {target!r}, the output head, whose weights are also "
                "the embedding: an adapter would change both.",
                fix="Leave it out; method head trains a head of its own.",
            )
    return list(targets)


def counts(model: torch.nn.Module) -> tuple[int, int]:
    """(trained, total) parameters, tied ones counted once, those of 4 bits one by one."""
    trained = sum(size(p) for p in model.parameters() if p.requires_grad)
    return trained, sum(size(p) for p in model.parameters())


@torch.no_grad()
def save(model: Any, weights: Mapping[str, torch.Tensor], folder: Path, tokenizer: Any) -> None:
    """Store what was trained: the adapter alone, or the whole model with its tokenizer.

    Args:
        model: what was trained.
        weights: float32 values of the trained parameters, by name.
        folder: an existing, empty folder.
        tokenizer: stored with a whole model.
    """
    from peft import PeftModel, get_peft_model_state_dict
    from safetensors.torch import save_file

    if isinstance(model, PeftModel):
        weights, changes = pissa.converted(model, weights)
        state = get_peft_model_state_dict(
            # "auto" would ask a model hub whether the vocabulary was changed
            model,
            state_dict=dict(weights),
            save_embedding_layers=False,
        )
        config = copy.copy(model.peft_config["default"])
        # a set has no order, and a file should be the same every time
        for name in ("target_modules", "feedforward_modules"):
            if isinstance(getattr(config, name, None), set):
                setattr(config, name, sorted(getattr(config, name)))
        for name, value in changes.items():
            setattr(config, name, value)
        config.inference_mode = True
        config.save_pretrained(str(folder))
        save_file(
            {name: value.contiguous() for name, value in state.items()},
            folder / "adapter_model.safetensors",
            metadata={"format": "pt"},
        )
    else:
        with quiet():
            model.save_pretrained(str(folder))
        tokenizer.save_pretrained(str(folder))


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds a part of a model, an adapter for one, rather than a whole model."""
    return form_of(folder) is not None


def merge(model: Any, folder: Path, dtype: torch.dtype | None = None) -> Any:
    """The base model with what a stage trained put into its weights.

    Args:
        model: the base, in the precision that the stored form asks for; it is changed.
        folder: holds the adapter, or what else `models/forms` knows.
        dtype: what the result computes in; the base's precision when None.

    Returns:
        The model in evaluation mode, all its weights open to further training.

    Raises:
        ModelError: the adapter is damaged, it is not one of this model's, or it is of a kind that
            cannot become part of the weights (`restore` takes that too).
    """
    form = form_of(folder)
    if form is not None and form.beside:
        raise ModelError(
            f"{folder}: {form.beside}.",
            fix="Answer or serve with the folder as it is: it is loaded beside its base model.",
        )
    return restore(model, folder, dtype)


def restore(model: Any, folder: Path, dtype: torch.dtype | None = None) -> Any:
    """The base model with what a stage trained: in its weights, or beside them where it cannot
    become part of them. Arguments, result and errors as those of `merge`."""
    refuse_quantized(model)
    form = form_of(folder)
    if form is None:
        raise ModelError(f"{folder} holds no adapter.")
    return form.restore(model, folder, dtype=dtype or model.dtype)


@torch.no_grad()
def merge_peft(model: Any, folder: Path) -> Any:
    """The base model with the update of peft's adapter added to its weights, in the base's
    precision (the update itself is computed in float32).

    Arguments, result and errors as those of `merge`.
    """
    from peft import PeftModel, get_peft_model_state_dict
    from safetensors import SafetensorError, safe_open

    path = folder / "adapter_model.safetensors"
    try:
        with safe_open(path, framework="pt") as stored:
            wanted = set(stored.keys())
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path} is missing, damaged or cut off: {error}.") from None
    try:
        with _quiet():
            adapted = PeftModel.from_pretrained(model, str(folder), autocast_adapter_dtype=True)
    except Exception as error:  # whatever peft and torch make of an adapter of another model
        line = str(error).strip().splitlines()
        raise ModelError(
            f"{folder}: the adapter does not fit the base model: {' '.join(line[:2])[:300]}",
            fix=_FIX,
        ) from error
    present = set(get_peft_model_state_dict(adapted, save_embedding_layers=False))
    strange = wanted ^ present
    if strange or not wanted:
        raise ModelError(
            f"{folder}: {len(strange)} tensors of the adapter have no counterpart in the base "
            f"model, or the other way round (such as {min(strange, default='none at all')}).",
            fix=_FIX,
        )
    dora.mend(adapted)
    try:
        merged = adapted.merge_and_unload(safe_merge=True)
    except ValueError as error:  # numbers that are not finite
        raise ModelError(f"{folder}: {str(error).splitlines()[0]}", fix="Train it again.") from None
    # what peft leaves behind would make it believe that the model still has an adapter
    for name in ("peft_config", "_hf_peft_config_loaded"):
        if name in vars(merged):
            delattr(merged, name)
    return merged.requires_grad_(True).eval()


def _short(targets: Iterable[str], modules: Sequence[str]) -> set[str]:
    """The last parts of the names (`q_proj`), where those mean the same modules: that is what
    other engines expect, and it shows when a base has layers that the adapter knows nothing of."""
    full = set(targets)
    last = {name.rsplit(".", 1)[-1] for name in full}
    return last if {m for m in modules if m.rsplit(".", 1)[-1] in last} == full else full


def _linear_names(model: Any) -> dict[str, torch.nn.Module]:
    """Last part of the name -> one of the linear layers of that name."""
    return {
        name.rsplit(".", 1)[-1]: module
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) or type(module).__name__ == "Conv1D"
    }


def _transposed(model: Any) -> bool:
    """Whether the model's linear layers store their weights as (in, out), as GPT-2's do."""
    return any(type(module).__name__ == "Conv1D" for module in model.modules())


def _task_type(model: Any) -> str | None:
    return "CAUSAL_LM" if hasattr(model, "prepare_inputs_for_generation") else None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without three warnings that tell a user nothing: peft asks a model for an attribute that
    transformers has renamed, and it warns of tensors that `merge` refuses with an error."""
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="Found missing adapter keys", category=UserWarning
        )
        warnings.filterwarnings(
            "ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning
        )
        # said of the linear layers of a model whose other layers are GPT-2's kind
        warnings.filterwarnings("ignore", message="fan_in_fan_out is set", category=UserWarning)
        yield
