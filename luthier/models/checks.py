"""What a model folder must be before anything in it is read by transformers.

transformers can guess, download, run code that came with a model, and fill gaps with random
numbers; here such folders are refused with a sentence that says what to do.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from luthier.errors import ModelError
from luthier.models.catalogue import Kind

A_KIND: dict[str, str] = {"causal": "a causal language model", "encoder": "a text encoder"}

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_TOKENIZER_FILES = (
    *("tokenizer.json", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model"),
    *("vocab.txt", "vocab.json", "tekken.json"),
)


def is_hub_id(name: str) -> bool:
    """Whether a name looks like `owner/name`."""
    return _HUB_ID.fullmatch(name) is not None


def first_line(error: BaseException) -> str:
    """The first line of what an exception says, cut to a readable length, else its type."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__


def from_hub(name: str, say: Callable[[str], None]) -> Path:
    """Fetch a model from the hub the user's huggingface_hub is set to: no pickles, no code.

    Raises:
        ModelError: no such model, no access, or no network.
    """
    from huggingface_hub import snapshot_download

    wanted = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja", "LICENSE*", "*.md"]
    unwanted = ["original/*", "onnx/*", "openvino/*", "coreml/*"]
    say(f"Fetching {name} from the model hub, unless it is in the hub's own cache.")
    try:
        return Path(snapshot_download(name, allow_patterns=wanted, ignore_patterns=unwanted))
    except Exception as error:  # many kinds, of several libraries, all meaning "not to be had"
        raise ModelError(
            f"{name} is not a folder here, and the model hub did not give it: {first_line(error)}",
            fix="Check the name, the network and your access; or name a local folder.",
        ) from error


def read_config(name: str, folder: Path) -> dict[str, Any]:
    """The config.json of a model folder.

    Raises:
        ModelError: missing or broken; an adapter or a GGUF file in its place is named.
    """
    path = folder / "config.json"
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if (folder / "adapter_config.json").is_file():
            raise ModelError(
                f"{folder} holds an adapter, not a whole model.",
                fix="Name the base model here, or merge the two with `luthier export`.",
            ) from None
        gguf = sorted(folder.glob("*.gguf"))
        if gguf:
            raise ModelError(
                f"{folder} holds a GGUF file ({gguf[0].name}) and no config.json.",
                fix=(
                    "Convert it: luthier.models.gguf_files.convert_gguf(Path('in.gguf'), "
                    "Path('out'), context_length=...)."
                ),
            ) from None
        raise ModelError(
            f"{folder} is no model folder: it has no config.json.",
            fix="Name the folder that holds config.json, model.safetensors and the tokenizer.",
        ) from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read: {first_line(error)}") from None
    if not isinstance(value, dict):
        raise ModelError(f"{path} is not a JSON object.")
    return value


def check_folder(name: str, folder: Path) -> dict[str, Any]:
    """Refuse a folder without safetensors, with damaged ones, or that needs code of its own.

    Returns:
        Its config.json.

    Raises:
        ModelError: as said.
    """
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    config = read_config(name, folder)
    model_type = config.get("model_type")
    if model_type not in CONFIG_MAPPING_NAMES:
        import transformers

        if config.get("auto_map"):
            raise ModelError(
                f"{name} needs code that comes with it (auto_map in {folder / 'config.json'}), and "
                "Luthier runs none.",
                fix="Choose a model whose architecture transformers knows.",
            )
        raise ModelError(
            f"{name} has the architecture {model_type!r}, which transformers "
            f"{transformers.__version__} does not know.",
            fix="A newer transformers may: `pip install --upgrade transformers`.",
        )
    tensors(name, folder)
    return config


def weight_files(name: str, folder: Path) -> list[Path]:
    """The safetensors files of a model folder.

    Raises:
        ModelError: none, only pickles, or a shard is missing.
    """
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.is_file():
        return [single]
    if index.is_file():
        try:
            shards = sorted(
                set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
            )
        except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
            raise ModelError(f"{index} cannot be read: {first_line(error)}") from None
        missing = [shard for shard in shards if not (folder / shard).is_file()]
        if missing:
            raise ModelError(
                f"{name}: {len(missing)} of {len(shards)} weight files are missing from {folder} "
                f"({missing[0]}).",
                fix="Fetch the model again.",
            )
        return [folder / shard for shard in shards]
    pickles = sorted(path.name for end in ("bin", "pt", "pth") for path in folder.glob(f"*.{end}"))
    if pickles:
        raise ModelError(
            f"{name} has its weights as {pickles[0]}, a pickle, which can run code when opened.",
            fix=(
                'If you trust it, convert it once: python -c "from transformers import AutoModel'
                f"ForCausalLM as M; M.from_pretrained('{folder}').save_pretrained('{folder}')\""
            ),
        )
    raise ModelError(f"{folder} has no model.safetensors.", fix="Fetch the model again.")


def tensors(name: str, folder: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Every tensor of a model folder: name -> (data type, shape). Reads headers only.

    Raises:
        ModelError: as `weight_files`, or a file is cut off or broken.
    """
    from safetensors import SafetensorError, safe_open

    found: dict[str, tuple[str, tuple[int, ...]]] = {}
    for path in weight_files(name, folder):
        try:
            with safe_open(path, framework="np") as stored:
                for key in stored.keys():  # noqa: SIM118 -- it is no dictionary
                    piece = stored.get_slice(key)
                    found[key] = (str(piece.get_dtype()), tuple(piece.get_shape()))
        except (OSError, SafetensorError) as error:
            raise ModelError(
                f"{path} is damaged or cut off: {first_line(error)}", fix="Fetch it again."
            ) from None
    return found


def check_tokenizer(name: str, folder: Path) -> None:
    """Refuse a folder without a tokenizer, or whose tokenizer is code.

    Raises:
        ModelError: as said.
    """
    if not any((folder / file).is_file() for file in _TOKENIZER_FILES):
        raise ModelError(
            f"{name} has no tokenizer in {folder}.",
            fix="Put this model's tokenizer.json and tokenizer_config.json beside the weights.",
        )


def architecture(name: str, config: dict[str, Any]) -> Kind:
    """Whether a model writes text ("causal") or reads it ("encoder"), by its config.json.

    Raises:
        ModelError: neither, such as an encoder-decoder.
    """
    if config.get("is_encoder_decoder"):
        raise ModelError(
            f"{name} is an encoder-decoder ({config.get('model_type')}).",
            fix="Choose a causal language model or an encoder.",
        )
    named = [str(item) for item in config.get("architectures") or []]
    if any(item.endswith(("ForCausalLM", "LMHeadModel")) for item in named):
        return "causal"
    if any(item.endswith(("Model", "ForMaskedLM", "ForPreTraining")) for item in named) or any(
        "Classification" in item for item in named
    ):
        return "encoder"
    from transformers.models.auto import modeling_auto

    kind = config.get("model_type")
    if kind in modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES and not config.get("is_decoder"):
        return "encoder"
    if kind in modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        return "causal"
    raise ModelError(
        f"{name} ({', '.join(named) or kind}) is neither a causal language model nor an encoder.",
        fix="Choose a causal language model or an encoder.",
    )


def context_length(folder: Path, config: dict[str, Any]) -> int:
    """Tokens a model reads at most, by its own files; 2,048 when none of them says.

    A sentence encoder's own limit (sentence_bert_config.json) comes first. An encoder's tokenizer
    may set a lower limit than its position table (RoBERTa's table has two rows for other uses).
    """
    sentence = _json(folder / "sentence_bert_config.json").get("max_seq_length")
    if isinstance(sentence, int) and sentence > 0:
        return sentence
    text = config.get("text_config") or config
    limits = [
        text.get(key)
        for key in ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "n_ctx")
    ]
    known = [limit for limit in limits if isinstance(limit, int) and limit > 0][:1]
    tokenizer = _json(folder / "tokenizer_config.json").get("model_max_length")
    encoder = any(not str(a).endswith("LM") for a in config.get("architectures") or [])
    # 1e30 is how transformers writes "no limit"
    if isinstance(tokenizer, int) and 0 < tokenizer < 1 << 40 and (encoder or not known):
        known.append(tokenizer)
    return min(known, default=2048)


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
