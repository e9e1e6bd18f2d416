"""Any model by name, adapters on adapters included."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from models_fakes import make_llama, make_tokenizer

from luthier.errors import InputError, ModelError
from luthier.models import adapters
from luthier.models.pool import ModelPool
from luthier.models.tuned import (
    base_record,
    describe_any,
    lineage,
    load_any,
    load_any_tokenizer,
    load_tuned,
    stage_folder,
)

IDS = torch.tensor([[5, 90, 33, 200, 7]])


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        out: torch.Tensor = model(input_ids=IDS).logits
    return out


def add_stage(model: Any, folder: Path, base_name: str, seed: int, **record: str) -> Any:
    """Store a random adapter of `model` as a training stage does; returns the adapted model."""
    adapted = adapters.add_lora(model, rank=2, alpha=4, dropout=0.0, base=base_name)
    torch.manual_seed(seed)
    weights = {}
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if parameter.requires_grad:
                parameter.normal_(std=0.2)
                weights[name] = parameter.detach().clone()
    (folder / "model").mkdir(parents=True)
    adapters.save(adapted, weights, folder / "model", make_tokenizer())
    (folder / "model" / "prompt.json").write_text(json.dumps({"model": base_name, **record}))
    return adapted.eval()


@pytest.fixture
def line(tmp_path: Path) -> dict[str, Any]:
    """A base, a stage on it, and a stage on that; what each says."""
    base = make_llama(tmp_path / "base")
    said = {"base": logits(base)}
    said["one"] = logits(add_stage(base, tmp_path / "one", str(tmp_path / "base"), 1))
    merged = load_any(str(tmp_path / "one"), torch.float32).model
    said["two"] = logits(add_stage(merged, tmp_path / "two", str(tmp_path / "one"), 2))
    return said


def test_every_name_loads_what_was_stored(tmp_path: Path, line: dict[str, Any]) -> None:
    for name, wanted in line.items():
        for given in (tmp_path / name, tmp_path / name / "model"):
            if not given.is_dir():
                continue
            loaded = load_any(str(given), torch.float32)
            torch.testing.assert_close(logits(loaded.model), wanted, rtol=1e-4, atol=1e-4)
            assert loaded.name == str(given)
            assert loaded.context_length == 128
    assert float((line["one"] - line["base"]).abs().max()) > 0.05
    assert float((line["two"] - line["one"]).abs().max()) > 0.05


def test_precision_and_attention_are_passed_on(tmp_path: Path, line: dict[str, Any]) -> None:
    loaded = load_any(str(tmp_path / "two"), torch.bfloat16, attention="eager")
    assert {p.dtype for p in loaded.model.parameters()} == {torch.bfloat16}
    assert loaded.model.config._attn_implementation == "eager"
    difference = logits(loaded.model).float() - line["two"]
    assert float(difference.abs().max()) < 0.1


def test_the_pool_loads_each_once(tmp_path: Path, line: dict[str, Any]) -> None:
    pool = ModelPool(tmp_path)
    torch.testing.assert_close(logits(pool.causal("two").model), line["two"], rtol=1e-4, atol=1e-4)
    assert pool.causal("two") is pool.causal("two")
    assert pool.generator("two") is pool.generator("two")
    assert pool.generator("two").model is pool.causal("two").model
    pool.release()
    torch.testing.assert_close(logits(pool.causal("one").model), line["one"], rtol=1e-4, atol=1e-4)


def test_an_adapter_is_described_by_its_base(tmp_path: Path, line: dict[str, Any]) -> None:
    assert lineage(str(tmp_path / "two")).adapters == (
        tmp_path / "one" / "model",
        tmp_path / "two" / "model",
    )
    info = describe_any("two", base=tmp_path)
    assert (info.name, info.layers, info.hidden_size) == ("two", 2, 32)
    assert info.path == tmp_path / "two" / "model"
    assert describe_any("base", base=tmp_path).parameters == info.parameters
    tokenizer = load_any_tokenizer("two", base=tmp_path)
    assert tokenizer.get_vocab() == load_any_tokenizer("base", base=tmp_path).get_vocab()
    assert line


def test_an_adapter_of_another_tool_loads_on_the_base_that_is_named(
    tmp_path: Path, line: dict[str, Any]
) -> None:
    folder = tmp_path / "one" / "model"
    (folder / "prompt.json").unlink()
    assert stage_folder(folder) is None
    loaded = load_tuned(folder, "base", base=tmp_path)
    torch.testing.assert_close(logits(loaded.model), line["one"], rtol=1e-4, atol=1e-4)
    with pytest.raises(ModelError, match="holds an adapter"):
        load_any(str(folder), torch.float32)


def test_the_recorded_folder_comes_before_the_name(tmp_path: Path) -> None:
    base = make_llama(tmp_path / "right" / "base")
    make_llama(tmp_path / "wrong" / "base", hidden_size=64)
    record = base_record("base", tmp_path / "right")
    assert record == {"model": "base", "model_folder": str(tmp_path / "right" / "base")}
    said = logits(
        add_stage(
            base,
            tmp_path / "s",
            base_name="base",
            seed=1,
            model_folder=record["model_folder"],
        )
    )
    loaded = load_any(str(tmp_path / "s"), torch.float32, base=tmp_path / "wrong")
    torch.testing.assert_close(logits(loaded.model), said, rtol=1e-4, atol=1e-4)
    assert base_record("s", tmp_path)["model_folder"] == str(tmp_path / "s" / "model")
    assert base_record("smollm2-135m-instruct") == {"model": "smollm2-135m-instruct"}


def test_broken_stages_say_what_is_broken(tmp_path: Path, line: dict[str, Any]) -> None:
    path = tmp_path / "two" / "model" / "prompt.json"
    path.write_text(json.dumps({"model": str(tmp_path / "two")}))
    with pytest.raises(ModelError, match="names itself"):
        load_any(str(tmp_path / "two"), torch.float32)
    path.write_text("[]")
    with pytest.raises(ModelError, match="does not name the base"):
        load_any(str(tmp_path / "two"), torch.float32)
    path.write_text("{")
    with pytest.raises(InputError, match=r"prompt\.json is not valid JSON"):
        load_any(str(tmp_path / "two"), torch.float32)
    path.write_text(json.dumps({"model": "gone"}))
    with pytest.raises(ModelError, match="No model 'gone'"):
        load_any(str(tmp_path / "two"), torch.float32)
    assert line
