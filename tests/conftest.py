"""Small models for fast tests, and the embedded model, loaded once."""

from __future__ import annotations

import gc
import os
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# threads that wait sleep: tests share the machine, and the command line would say so
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
if "PYTEST_XDIST_WORKER" in os.environ:  # one core each
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_configure(config: pytest.Config) -> None:
    """Files go to the workers in the order of `pytest_collection_modifyitems`."""
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole runs and training first: what is short is left for the end, where one worker waits for
    the other. (By the number of tests, as pytest-xdist has it, files of few and long ones come
    last.)"""
    here = Path(__file__).parent
    long = [here, here / "training"]
    items.sort(key=lambda item: long.index(item.path.parent) if item.path.parent in long else 2)


@pytest.fixture(autouse=True)
def own_checks(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """What lints of other tests found is not taken for this test's."""
    from luthier.data import kept_lints

    folder = tmp_path_factory.getbasetemp() / "checks" / os.urandom(8).hex()
    monkeypatch.setattr(kept_lints, "cache_folder", lambda: folder)


@pytest.fixture(scope="module", autouse=True)
def settled() -> None:
    """What stays to the end is not looked through for garbage any more.

    Every stage of training collects garbage, and a process that has imported everything and holds
    thousands of tests has millions of objects to look through each time.
    """
    gc.collect()
    gc.freeze()


CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def make_tokenizer(chat: bool = True) -> Any:
    """A byte-level tokenizer of 259 tokens; pad == eos == <|im_end|>, as SmolLM2 has it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({c: i for i, c in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",
        unk_token="<unk>",
    )
    fast.chat_template = CHAT_TEMPLATE if chat else None
    return fast


def write_tiny_model(folder: Path, *, chat: bool = True, context: int = 512) -> Path:
    """A random two-layer Llama with its tokenizer, as a Hugging Face folder."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    tokenizer = make_tokenizer(chat)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=context,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=True,
        initializer_range=0.2,
    )
    model = LlamaForCausalLM(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny chat model."""
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def tiny_base_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny model without a chat template."""
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny-base", chat=False)


@pytest.fixture(scope="session")
def embedded() -> Any:
    """smollm2-135m-instruct in float32, fetched into the cache if need be; loaded once."""
    import torch

    from luthier.models.loading import load_causal

    return load_causal("smollm2-135m-instruct", torch.float32)
