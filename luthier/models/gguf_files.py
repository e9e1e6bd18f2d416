"""From a quantised GGUF file to a model folder in bfloat16, and transformers kept quiet."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from luthier.errors import ModelError
from luthier.files import write_json


def convert_gguf(source: Path, target: Path, *, context_length: int) -> None:
    """Turn a GGUF file into a model folder: bfloat16 safetensors, config, tokenizer.

    The quantised values are dequantised to float32 by transformers and rounded to bfloat16, norms
    included; tied embeddings are stored once.

    Args:
        source: the GGUF file.
        target: an existing folder.
        context_length: tokens the model reads at most, recorded with the tokenizer.

    Raises:
        ModelError: transformers cannot read the file.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where = {"pretrained_model_name_or_path": str(source.parent), "gguf_file": source.name}
    try:
        with quiet():
            model = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32)
            tokenizer = AutoTokenizer.from_pretrained(**where)
    except (OSError, ValueError, ImportError, KeyError, RuntimeError) as error:
        raise ModelError(
            f"{source.name} cannot be converted: {str(error).splitlines()[0]}",
            fix="Check the versions of transformers and gguf with `luthier doctor`.",
        ) from error
    del model.config.quantization_config
    # otherwise saving would want to quantise again
    model.hf_quantizer = None
    model.is_quantized = False
    model.to(torch.bfloat16)
    model.config.dtype = torch.bfloat16
    vars(model.config).pop("_model_name_or_path", None)  # the GGUF's title, which is no path
    with quiet():
        model.save_pretrained(str(target))
        model.generation_config.save_pretrained(str(target))
        _mend_digits(tokenizer, source)
        tokenizer.model_max_length = context_length
        tokenizer.save_pretrained(str(target))
    _tidy_tokenizer_config(target / "tokenizer_config.json")


def _mend_digits(tokenizer: Any, source: Path) -> None:
    """Split digits one by one before anything else where the GGUF file says so.

    transformers 5 drops this step of SmolLM's pre-tokenizer when it reads a GGUF file. Without it
    white space in front of a number ("\\n\\n1.") falls into other tokens than in pretraining.
    """
    from gguf import GGUFReader
    from tokenizers import pre_tokenizers

    field = GGUFReader(str(source)).fields.get("tokenizer.ggml.pre")
    if field is not None and field.contents() == "smollm":
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
            ]
        )


def _tidy_tokenizer_config(path: Path) -> None:
    """Drop what only described this conversion; name the class every transformers version has."""
    config = json.loads(path.read_text(encoding="utf-8"))
    for key in ("is_local", "local_files_only", "name_or_path", "backend", "vocab_file"):
        config.pop(key, None)
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    write_json(path, config)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' warnings and progress bars off the screen."""
    import warnings

    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        # one of its bars is tqdm's own and cannot be switched off
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
