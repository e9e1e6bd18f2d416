from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from models_fakes import make_bert, make_llama, make_tokenizer
from safetensors.torch import load_file, save_file

from luthier.errors import ModelError
from luthier.models.loading import (
    describe,
    load_causal,
    load_encoder,
    load_tokenizer,
    resolve,
)


def edit(path: Path, **changes: Any) -> None:
    values = json.loads(path.read_text())
    values.update(changes)
    path.write_text(json.dumps(values))


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    make_llama(tmp_path / "llama")
    return tmp_path / "llama"


def test_a_folder_is_found_from_the_task_first_then_from_here(
    tmp_path: Path, llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert resolve("llama", base=tmp_path).path == llama
    (tmp_path / "here" / "llama").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    assert resolve("llama", base=tmp_path).path == llama
    assert resolve("llama", base=tmp_path / "nowhere").path == tmp_path / "here" / "llama"
    assert resolve(str(llama)).kind == "folder"


def test_the_catalogue_comes_first_and_a_slash_is_a_hub_id(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "all-minilm-l6-v2").mkdir()
    found = resolve("all-minilm-l6-v2", base=tmp_path)
    assert (found.kind, found.path) == ("catalogue", None)
    assert resolve("owner/name", base=tmp_path).kind == "hub"


@pytest.mark.parametrize("name", ["smollm2-135m-instrct", "SmolLM2_135M_Instruct"])
def test_a_typing_mistake_is_met_with_the_nearest_name(name: str) -> None:
    with pytest.raises(ModelError, match="Did you mean 'smollm2-135m-instruct'"):
        resolve(name)


@pytest.mark.parametrize("name", ["", "a/b/c", "/no/such/folder", "../x", "-/x"])
def test_what_is_nothing_is_said_to_be_nothing(name: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError):
        load_causal(name, torch.float32, base=tmp_path)


def test_a_hub_that_cannot_be_reached_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # in a process of its own: huggingface_hub reads its settings once
    program = (
        "from luthier.errors import ModelError\n"
        "from luthier.models.loading import describe\n"
        "try:\n    describe('nobody/nothing')\n"
        "except ModelError as error:\n    print(error)\n"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert "nobody/nothing is not a folder here" in done.stdout, done.stderr
    assert done.stdout.count("\n") == 1
    assert "Fetching nobody/nothing" in done.stderr


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_loaded_model_is_the_saved_one(tmp_path: Path, dtype: torch.dtype) -> None:
    saved = make_llama(tmp_path / "m").to(dtype).eval()
    loaded = load_causal("m", dtype, "cpu", base=tmp_path, attention="eager")
    assert loaded.model.dtype == dtype
    assert not loaded.model.training
    assert loaded.model.config._attn_implementation == "eager"
    assert (loaded.name, loaded.path, loaded.context_length) == ("m", tmp_path / "m", 128)
    for (name, a), (_, b) in zip(
        saved.named_parameters(), loaded.model.named_parameters(), strict=True
    ):
        assert torch.equal(a, b), name


def test_bfloat16_weights_are_widened_without_loss(tmp_path: Path) -> None:
    make_llama(tmp_path / "a").to(torch.bfloat16).save_pretrained(tmp_path / "b")
    make_tokenizer().save_pretrained(tmp_path / "b")
    wide = load_causal(str(tmp_path / "b"), torch.float32, "cpu").model
    stored = load_file(tmp_path / "b" / "model.safetensors")
    weight = stored["model.embed_tokens.weight"]
    assert weight.dtype == torch.bfloat16
    assert torch.equal(wide.get_input_embeddings().weight, weight.float())


def test_a_tokenizer_without_padding_pads_with_the_end(llama: Path) -> None:
    assert make_tokenizer().pad_token is None
    assert load_tokenizer(str(llama)).pad_token == "<|im_end|>"


def test_loading_says_nothing(llama: Path, capfd: pytest.CaptureFixture[str]) -> None:
    load_causal(str(llama), torch.float32, "cpu")
    assert capfd.readouterr() == ("", "")


def test_an_encoder_is_loaded_without_its_pooler(tmp_path: Path) -> None:
    saved = make_bert(tmp_path / "bert").eval()
    loaded = load_encoder("bert", torch.float32, "cpu", base=tmp_path)
    assert loaded.context_length == 40
    ids = torch.tensor([[5, 6, 7]])
    assert torch.equal(loaded.model(ids).last_hidden_state, saved(ids).last_hidden_state)
    (tmp_path / "bert" / "sentence_bert_config.json").write_text('{"max_seq_length": 20}')
    assert load_encoder("bert", torch.float32, "cpu", base=tmp_path).context_length == 20


def test_encoders_do_not_write_and_writers_do_not_encode(tmp_path: Path, llama: Path) -> None:
    make_bert(tmp_path / "bert")
    with pytest.raises(ModelError, match="a text encoder"):
        load_causal("bert", torch.float32, "cpu", base=tmp_path)
    with pytest.raises(ModelError, match="a causal language model"):
        load_encoder("llama", torch.float32, "cpu", base=tmp_path)
    (llama / "modules.json").write_text("[]")  # a sentence encoder made of a causal model
    assert load_encoder("llama", torch.float32, "cpu", base=tmp_path).model is not None


def pickles_only(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def cut_off(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def without_a_layer(folder: Path) -> None:
    path = folder / "model.safetensors"
    kept = {name: t for name, t in load_file(path).items() if "layers.1.mlp" not in name}
    save_file(kept, path, metadata={"format": "pt"})


def without_a_shard(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    index = {"weight_map": dict.fromkeys(tensors, "model-00001-of-00002.safetensors")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def adapter_only(folder: Path) -> None:
    (folder / "config.json").rename(folder / "adapter_config.json")


@pytest.mark.parametrize(
    ("harm", "named"),
    [
        (pickles_only, r"pytorch_model\.bin, a pickle.*safetensors|save_pretrained"),
        (cut_off, "damaged or cut off"),
        (without_a_layer, "3 tensors are missing.*would have been random"),
        (without_a_shard, "1 of 1 weight files are missing"),
        (adapter_only, "an adapter, not a whole model"),
        (lambda f: (f / "model.safetensors").unlink(), r"no model\.safetensors"),
        (lambda f: (f / "config.json").unlink(), r"no config\.json"),
        (lambda f: (f / "config.json").write_text("{,"), "cannot be read"),
        (lambda f: (f / "config.json").write_text("[]"), "not a JSON object"),
        (lambda f: edit(f / "config.json", hidden_size=64), "wrong shape|cannot be loaded"),
        (lambda f: edit(f / "config.json", model_type="newest"), "transformers .* does not know"),
        (
            lambda f: edit(f / "config.json", model_type="mine", auto_map={"AutoConfig": "x.Y"}),
            "needs code that comes with it",
        ),
        (lambda f: edit(f / "config.json", is_encoder_decoder=True), "an encoder-decoder"),
        (lambda f: edit(f / "config.json", architectures=["LlamaVision"]), None),
        (lambda f: (f / "tokenizer.json").unlink(), "no tokenizer"),
        (lambda f: (f / "tokenizer.json").write_text("{}"), "tokenizer .*cannot be read"),
    ],
)
def test_a_folder_that_is_not_whole_is_refused_with_a_reason(
    llama: Path, harm: Callable[[Path], None], named: str | None
) -> None:
    harm(llama)
    if named is None:  # an unknown class of a known family: the family decides
        assert load_causal(str(llama), torch.float32, "cpu").model is not None
        return
    with pytest.raises(ModelError, match=named) as error:
        load_causal(str(llama), torch.float32, "cpu")
    assert "\n" not in str(error.value)


def test_code_in_the_folder_is_never_run(llama: Path) -> None:
    (llama / "modeling.py").write_text("raise SystemExit('ran')\n")
    edit(llama / "config.json", auto_map={"AutoModelForCausalLM": "modeling.Mine"})
    # transformers knows the family by itself, so the folder's own code is not needed
    assert type(load_causal(str(llama), torch.float32, "cpu").model).__name__ == (
        "LlamaForCausalLM"
    )


def test_a_tokenizer_larger_than_the_embedding_is_refused(tmp_path: Path) -> None:
    make_llama(tmp_path / "m", vocab_size=200)
    with pytest.raises(ModelError, match="embeds only 200"):
        load_causal("m", torch.float32, "cpu", base=tmp_path)


@pytest.mark.parametrize("tied", [True, False])
def test_a_description_counts_what_loading_would_count(tmp_path: Path, tied: bool) -> None:
    model = make_llama(tmp_path / "m", tie_word_embeddings=tied)
    info = describe("m", base=tmp_path)
    assert info.parameters == sum(p.numel() for p in model.parameters())
    assert info.tied is tied
    assert (info.layers, info.hidden_size, info.vocab_size) == (2, 32, 300)
    assert (info.heads, info.key_value_heads, info.head_dim) == (4, 2, 8)
    assert (info.kind, info.context_length, info.model_type) == ("causal", 128, "llama")
    blocks = sum(p.numel() for p in model.model.layers.parameters())
    assert info.body_parameters == blocks + model.model.norm.weight.numel()
    assert info.stored_bytes == (tmp_path / "m" / "model.safetensors").stat().st_size


def test_a_description_reads_no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_llama(tmp_path / "m")
    monkeypatch.setattr("torch.nn.Module.__init__", lambda *_: pytest.fail("a model was built"))
    assert describe("m", base=tmp_path).layers == 2


def test_the_catalogue_is_described_without_fetching(cache: Path) -> None:
    info = describe("smollm2-135m-instruct")
    assert (info.parameters, info.context_length, info.path) == (134_515_008, 8192, None)
    assert not cache.exists()
