"""Models and tokenizers from the catalogue, a folder or a hub: weights as safetensors, no code.

Nothing that comes with a model is executed: weights are read from safetensors only, and a model
that needs code of its own is refused.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from luthier.errors import ModelError, did_you_mean
from luthier.models import catalogue, checks
from luthier.models.allocator import keep_pages
from luthier.models.convert import cached, ensure
from luthier.models.gguf_files import quiet
from luthier.models.info import ModelInfo, from_entry, from_folder

if TYPE_CHECKING:
    import torch

    from luthier.progress import Reporter

Attention = Literal["sdpa", "eager"]


@dataclass(frozen=True)
class ModelSource:
    """Where a model comes from.

    Attributes:
        name: the catalogue name, the hub id, or the folder as it was given.
        kind: which of the three.
        path: the folder on this disk; None while a catalogue or hub model has not been fetched.
    """

    name: str
    kind: Literal["catalogue", "folder", "hub"]
    path: Path | None


@dataclass(frozen=True)
class LoadedModel:
    """A model in memory.

    Attributes:
        model: a transformers model in evaluation mode, on its device.
        tokenizer: its tokenizer; it always has a padding token.
        name: what it is called in reports.
        path: the folder it was read from.
        context_length: tokens it reads at most.
    """

    model: Any
    tokenizer: Any
    name: str
    path: Path
    context_length: int


def resolve(name: str, base: Path | None = None) -> ModelSource:
    """Where the model called `name` comes from: the catalogue, else a folder, else a hub.

    Args:
        name: a catalogue name, a folder, or a hub id `owner/name`.
        base: the folder that relative paths start from; then the working directory is tried.

    Raises:
        ModelError: it is none of these; the message suggests the nearest catalogue name.
    """
    if name in catalogue.CATALOGUE:
        return ModelSource(name, "catalogue", cached(catalogue.CATALOGUE[name]))
    given = Path(name).expanduser()
    for folder in dict.fromkeys([(base or Path()) / given, given]):
        if folder.is_dir():
            return ModelSource(name, "folder", folder.absolute())
        if folder.is_file():
            raise ModelError(f"{name} is a file.", fix="Name the folder that holds the model.")
    if checks.is_hub_id(name):
        return ModelSource(name, "hub", None)
    raise ModelError(
        f"No model {name!r}: neither in the catalogue nor a folder.",
        fix=f"{did_you_mean(name, catalogue.CATALOGUE)} A hub id is written owner/name.",
    )


def fetched(
    source: ModelSource | str, base: Path | None = None, reporter: Reporter | None = None
) -> ModelSource:
    """The source with its folder on this disk, fetched if need be (and told to the user).

    Raises:
        ModelError: it cannot be found or fetched.
    """
    if isinstance(source, str):
        source = resolve(source, base)
    if source.path is not None:
        return source
    if source.kind == "catalogue":
        return ModelSource(source.name, source.kind, ensure(source.name, reporter))
    say = reporter.say if reporter else lambda text: print(text, file=sys.stderr, flush=True)
    return ModelSource(source.name, source.kind, checks.from_hub(source.name, say))


def load_causal(
    source: ModelSource | str,
    dtype: torch.dtype,
    device: str = "auto",
    *,
    attention: Attention = "sdpa",
    base: Path | None = None,
    reporter: Reporter | None = None,
) -> LoadedModel:
    """Load a model that writes text.

    Args:
        source: a name (see `resolve`) or a resolved source.
        dtype: what the weights are cast to.
        device: "auto" takes a GPU when there is one; else a torch device.
        attention: transformers' `attn_implementation`; eager is a little faster for short rows on
            a CPU and takes memory quadratic in the length.
        base: the folder relative paths start from.
        reporter: told of downloads.

    Raises:
        ModelError: not found, an encoder, no safetensors, needs its own code, damaged, without a
            tokenizer, or too big; the message names the folder and says what to do.
    """
    source = fetched(source, base, reporter)
    folder = _folder(source)
    config = checks.check_folder(source.name, folder)
    kind = checks.architecture(source.name, config)
    if kind != "causal":
        raise ModelError(
            f"{source.name} is {checks.A_KIND[kind]} ({config.get('model_type')}): it cannot "
            "write answers.",
            fix="Choose a causal language model, for example smollm2-135m-instruct.",
        )
    model = _load("AutoModelForCausalLM", source.name, folder, dtype, device, attention)
    return _with_tokenizer(source.name, folder, config, model)


def load_encoder(
    source: ModelSource | str,
    dtype: torch.dtype,
    device: str = "auto",
    *,
    attention: Attention = "sdpa",
    base: Path | None = None,
    reporter: Reporter | None = None,
) -> LoadedModel:
    """Load a model that turns text into hidden states; arguments and errors as `load_causal`.

    A causal model is taken only when its folder says it is a sentence encoder (modules.json).
    """
    source = fetched(source, base, reporter)
    folder = _folder(source)
    config = checks.check_folder(source.name, folder)
    kind = checks.architecture(source.name, config)
    if kind != "encoder" and not (folder / "modules.json").is_file():
        raise ModelError(
            f"{source.name} is {checks.A_KIND[kind]} ({config.get('model_type')}), not a text "
            "encoder.",
            fix="Choose an encoder, for example all-minilm-l6-v2.",
        )
    model = _load("AutoModel", source.name, folder, dtype, device, attention)
    return _with_tokenizer(source.name, folder, config, model)


def load_tokenizer(
    source: ModelSource | str, base: Path | None = None, reporter: Reporter | None = None
) -> Any:
    """The tokenizer alone; padding token set.

    Raises:
        ModelError: not found, or without a tokenizer that can be read.
    """
    source = fetched(source, base, reporter)
    return _tokenizer(source.name, _folder(source))


def describe(name: ModelSource | str, base: Path | None = None) -> ModelInfo:
    """What a model is, without loading its weights or, for the catalogue, even fetching them.

    Raises:
        ModelError: it cannot be found, or its folder is not whole.
    """
    source = resolve(name, base) if isinstance(name, str) else name
    if source.kind == "catalogue":
        return from_entry(catalogue.CATALOGUE[source.name], source.path)
    return from_folder(source.name, _folder(fetched(source)))


def _folder(source: ModelSource) -> Path:
    if source.path is None:
        raise ModelError(f"{source.name} has not been fetched.")
    return source.path


def _load(
    auto: str, name: str, folder: Path, dtype: torch.dtype, device: str, attention: Attention
) -> Any:
    """Read the weights, and refuse a folder that lacks some or has others."""
    import torch
    import transformers

    keep_pages()
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        with quiet():
            model, info = getattr(transformers, auto).from_pretrained(
                str(folder),
                dtype=dtype,
                attn_implementation=attention,
                use_safetensors=True,
                trust_remote_code=False,
                local_files_only=True,
                output_loading_info=True,
            )
            model.to(device)
    except (MemoryError, torch.cuda.OutOfMemoryError) as error:
        raise ModelError(
            f"{name} does not fit into the memory of {device}.",
            fix="`luthier models` says what fits here.",
        ) from error
    except Exception as error:  # whatever a broken folder makes transformers raise
        raise ModelError(
            f"{name} cannot be loaded from {folder}: {checks.first_line(error)}",
            fix="Check that the folder is complete, or fetch it again.",
        ) from error
    # a pooler is a head: sentence encoders are used without, and often stored without
    missing = sorted(key for key in info["missing_keys"] if "pooler." not in key)
    wrong = sorted(str(key[0]) for key in info.get("mismatched_keys") or ())
    if missing or wrong:
        named = ", ".join([*missing, *wrong][:3])
        raise ModelError(
            f"{name}: {len(missing)} tensors are missing from {folder} and {len(wrong)} have the "
            f"wrong shape ({named}). They would have been random.",
            fix="config.json and the weights do not belong together: fetch the model again.",
        )
    return model.eval()


def _tokenizer(name: str, folder: Path) -> Any:
    from transformers import AutoTokenizer

    checks.check_tokenizer(name, folder)
    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(
                str(folder), trust_remote_code=False, local_files_only=True
            )
    except Exception as error:  # see `_load`
        raise ModelError(
            f"The tokenizer of {name} cannot be read from {folder}: {checks.first_line(error)}",
            fix="Fetch tokenizer.json and tokenizer_config.json of this model again.",
        ) from error
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token_id is None:
            raise ModelError(
                f"The tokenizer of {name} has neither a padding nor an end-of-text token.",
                fix="Set eos_token in tokenizer_config.json.",
            )
        # padding is never attended to and never scored: any token will do
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _with_tokenizer(name: str, folder: Path, config: dict[str, Any], model: Any) -> LoadedModel:
    tokenizer = _tokenizer(name, folder)
    rows = int(model.get_input_embeddings().weight.shape[0])
    largest = max(tokenizer.get_vocab().values(), default=-1)
    if largest >= rows:
        raise ModelError(
            f"{name}: the tokenizer knows token {largest}, but the model embeds only {rows}.",
            fix="The tokenizer belongs to another model: fetch both again.",
        )
    length = checks.context_length(folder, config)
    return LoadedModel(model, tokenizer, name, folder, length)
