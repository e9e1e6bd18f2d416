"""The real models of the catalogue, where they are in the cache already."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from luthier.models.catalogue import CATALOGUE
from luthier.models.convert import cached, damage
from luthier.models.encoder import Encoder
from luthier.models.info import from_folder
from luthier.models.loading import describe, load_causal, load_encoder

SENTENCE = "The little girl went to the kitchen and asked her mother for a glass of water."
SHUFFLED = "for girl a The glass asked kitchen water her little mother and to the went of."


def here(name: str) -> Any:
    missing = cached(CATALOGUE[name]) is None
    return pytest.param(
        name, marks=pytest.mark.skipif(missing, reason=f"{name} is not in the cache")
    )


def surprise(loaded: Any, text: str) -> float:
    """Mean negative log-likelihood of a token, in nats."""
    ids = loaded.tokenizer(text, return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        logits = loaded.model(ids).logits.float()
    assert torch.isfinite(logits).all()
    return float(torch.nn.functional.cross_entropy(logits[0, :-1], ids[0, 1:]))


@pytest.mark.parametrize("name", [here(name) for name in CATALOGUE])
def test_the_catalogue_says_what_the_folder_says(name: str) -> None:
    said = describe(name)
    assert said.path is not None
    found = from_folder(name, said.path, said.licence)
    # headers and buffers come on top of the weights
    assert said.stored_bytes == pytest.approx(found.stored_bytes, rel=0.001)
    assert dataclasses.replace(found, stored_bytes=0) == dataclasses.replace(said, stored_bytes=0)
    assert damage(CATALOGUE[name], thorough=True) is None


@pytest.mark.parametrize("name", [here("smollm2-135m-instruct"), here("gemma3-270m")])
def test_a_converted_model_knows_english(name: str) -> None:
    loaded = load_causal(name, torch.bfloat16, "cpu")
    assert bool(loaded.tokenizer.chat_template) is CATALOGUE[name].chat
    assert loaded.context_length == CATALOGUE[name].context_length
    # a wrong norm, scale or tokenizer shows here: English costs about three nats a token
    assert surprise(loaded, SENTENCE) < 4 < surprise(loaded, SHUFFLED)


@pytest.mark.parametrize("name", [here("smollm2-135m-instruct")])
def test_the_embedded_model_answers(name: str) -> None:
    loaded = load_causal(name, torch.float32, "cpu")
    ids = loaded.tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is the capital of France?"}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    answer = loaded.model.generate(**ids, max_new_tokens=12, do_sample=False)
    text = loaded.tokenizer.decode(answer[0, ids["input_ids"].shape[1] :])
    assert "Paris" in text


@pytest.mark.parametrize("name", [here("all-minilm-l6-v2")])
def test_the_encoder_puts_like_beside_like(name: str) -> None:
    loaded = load_encoder(name, torch.float32, "cpu")
    assert loaded.context_length == 256

    def vector(text: str) -> torch.Tensor:
        with torch.inference_mode():
            hidden = loaded.model(**loaded.tokenizer(text, return_tensors="pt")).last_hidden_state
        return torch.nn.functional.normalize(hidden[0].mean(0), dim=0)

    cat = vector("A cat sits on the mat.")
    assert cat @ vector("A kitten is on the rug.") > 0.5 > cat @ vector("Shares fell today.") + 0.2


@pytest.mark.parametrize("name", [here("all-minilm-l6-v2")])
def test_half_precision_hardly_moves_a_vector(name: str) -> None:
    texts = ["The notice period is four weeks.", "x", "A long text about nothing at all. " * 30]
    exact, _, _ = Encoder.load(name).encode(texts)
    half, _, _ = Encoder.load(name, dtype=torch.bfloat16).encode(texts)
    assert half.dtype == exact.dtype
    assert ((exact * half).sum(axis=1) > 0.999).all()
