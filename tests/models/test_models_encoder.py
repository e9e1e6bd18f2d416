"""Sentence vectors are what a plain computation gives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from models_fakes import make_bert

from luthier.errors import ModelError
from luthier.models.encoder import Encoder

TEXTS = ["a", "a longer text", "mid", "the same", "the same", "ünïcödé", "x" * 30]


def folder_with(path: Path, pooling: dict[str, Any] | None = None, longest: int = 35) -> Path:
    make_bert(path)
    if pooling is not None:
        (path / "1_Pooling").mkdir()
        (path / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    (path / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": longest}))
    return path


def plain(encoder: Encoder, text: str) -> np.ndarray[Any, Any]:
    """One text at a time: no padding, no mask."""
    ids = encoder.tokenizer(text)["input_ids"][: encoder.longest]
    with torch.no_grad():
        hidden = encoder.model(input_ids=torch.tensor([ids])).last_hidden_state[0]
    pooled = hidden[0] if encoder.pooling == "cls" else hidden.mean(0)
    return np.asarray(pooled / pooled.norm())


@pytest.mark.parametrize(
    ("pooling", "name"),
    [
        (None, "mean"),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}, "mean"),
        ({"pooling_mode_cls_token": True, "include_prompt": True}, "cls"),
        ({"pooling_mode": "cls"}, "cls"),
        ({"pooling_mode": "mean"}, "mean"),
    ],
)
def test_pooling_equals_a_plain_computation(
    tmp_path: Path, pooling: dict[str, Any] | None, name: str
) -> None:
    encoder = Encoder.load(str(folder_with(tmp_path / "e", pooling)))
    assert encoder.pooling == name
    for batch_tokens in (4096, 40, 1):
        vectors, tokens, cut = encoder.encode(TEXTS, batch_tokens=batch_tokens)
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
        wanted = np.stack([plain(encoder, text) for text in TEXTS])
        np.testing.assert_allclose(vectors, wanted, atol=1e-5)
        assert tokens == [len(encoder.tokenizer(text)["input_ids"]) for text in TEXTS]
        assert cut == 0


def test_the_order_does_not_matter(tmp_path: Path) -> None:
    encoder = Encoder.load(str(folder_with(tmp_path / "e")))
    forward, _, _ = encoder.encode(TEXTS, batch_tokens=40)
    backward, _, _ = encoder.encode(TEXTS[::-1], batch_tokens=40)
    np.testing.assert_allclose(forward, backward[::-1], atol=1e-6)
    assert np.array_equal(forward[3], forward[4])


def test_texts_that_are_too_long_are_counted_and_keep_their_last_token(tmp_path: Path) -> None:
    encoder = Encoder.load(str(folder_with(tmp_path / "e", longest=5)))
    assert encoder.longest == 5
    vectors, tokens, cut = encoder.encode(["abcde", "abcdefgh", "xyz"])
    assert cut == 1
    assert tokens == [5, 5, 3]
    # the last token of what is cut is the closing one
    np.testing.assert_allclose(vectors[1], plain(encoder, "abcdh"), atol=1e-5)
    assert not np.allclose(vectors[0], vectors[1], atol=1e-3)


def test_texts_of_one_length_are_computed_without_padding_where_there_are_enough(
    tmp_path: Path,
) -> None:
    encoder = Encoder.load(str(folder_with(tmp_path / "e")))
    seen: list[tuple[int, ...]] = []
    forward = encoder.model.forward

    def watched(**inputs: Any) -> Any:
        seen.append(tuple(inputs["input_ids"].shape))
        return forward(**inputs)

    encoder.model.forward = watched
    texts = [letter * length for length in (3, 5) for letter in "abcdefgh"]
    vectors, tokens, _ = encoder.encode(texts, batch_tokens=60)
    assert seen == [(8, tokens[0]), (8, tokens[-1])]
    np.testing.assert_allclose(vectors, [plain(encoder, text) for text in texts], atol=1e-5)
    seen.clear()
    encoder.encode(["a", "abc"], batch_tokens=60)  # too few to compute apart
    assert [row[0] for row in seen] == [2]


def test_nothing_and_empty_texts(tmp_path: Path) -> None:
    encoder = Encoder.load(str(folder_with(tmp_path / "e")))
    vectors, tokens, cut = encoder.encode([])
    assert (vectors.shape, tokens, cut) == ((0, 32), [], 0)
    vectors, _, _ = encoder.encode(["", "a"])
    assert np.isfinite(vectors).all()
    np.testing.assert_allclose(vectors[1], plain(encoder, "a"), atol=1e-5)


def test_progress_counts_every_text_once(tmp_path: Path) -> None:
    told: list[int] = []
    Encoder.load(str(folder_with(tmp_path / "e"))).encode(
        TEXTS, batch_tokens=20, progress=told.append
    )
    assert sum(told) == len(TEXTS)
    assert len(told) > 1


def test_other_ways_of_pooling_are_refused_by_name(tmp_path: Path) -> None:
    for index, pooling in enumerate(
        [
            {"pooling_mode_max_tokens": True},
            {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True},
            {"pooling_mode": "lasttoken"},
        ]
    ):
        with pytest.raises(ModelError, match=r"1_Pooling.*(max_tokens|cls_token|lasttoken)"):
            Encoder.load(str(folder_with(tmp_path / str(index), pooling)))
