"""The supervised objective: what is padded, shared or split changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional
from training_fakes import items, load

from luthier.models.adapters import add_lora
from luthier.prompts.prompt import Taught
from luthier.training.losses import IGNORED
from luthier.training.objectives import sft
from luthier.training.objectives.sft import Item, Sft, pays, shared_prefix

#: Long enough that all rows share a beginning worth sharing.
LONG = "Say how many words the question has, in digits."


@pytest.fixture(autouse=True)
def sharing_always_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    """The examples here are too small for it to pay."""
    monkeypatch.setattr(sft, "PAYS", 1)


def test_sharing_must_pay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sft, "PAYS", 512)
    assert pays(160, 8)
    assert not pays(33, 8)
    assert not pays(600, 1)


def gradients(model: Any, parts: list[list[Item]]) -> tuple[float, dict[str, torch.Tensor]]:
    """Summed loss and gradients of micro-batches."""
    model.zero_grad(set_to_none=True)
    total = 0.0
    for part in parts:
        loss = Sft().loss(model, part)
        loss.backward()
        total += float(loss.detach())
    return total, {
        name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None
    }


def plain(model: Any, rows: list[Item]) -> tuple[float, dict[str, torch.Tensor]]:
    """The same by transformers' own forward pass, one row at a time, without padding."""
    model.zero_grad(set_to_none=True)
    total = 0.0
    for item in rows:
        logits = model(input_ids=torch.tensor([item.ids]), use_cache=False).logits[0]
        loss = functional.cross_entropy(
            logits, torch.tensor(item.targets), ignore_index=IGNORED, reduction="sum"
        )
        loss.backward()
        total += float(loss.detach())
    return total, {
        name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None
    }


def assert_close(
    one: tuple[float, dict[str, torch.Tensor]], other: tuple[float, dict[str, torch.Tensor]]
) -> None:
    assert one[0] == pytest.approx(other[0], rel=1e-5)
    assert one[1].keys() == other[1].keys()
    for name, gradient in one[1].items():
        scale = float(other[1][name].abs().max())
        torch.testing.assert_close(
            gradient, other[1][name], rtol=1e-4, atol=1e-5 * max(scale, 1.0), msg=name
        )


def test_items_are_shifted_once() -> None:
    item = Sft().item(Taught([10, 11, 12, 13], [False, False, True, True]))
    assert item == Item([10, 11, 12], [IGNORED, 12, 13])
    assert (item.length, item.weight) == (3, 2)
    # a first token that is trained has nothing before it to be predicted from
    assert Sft().item(Taught([10, 11], [True, True])) == Item([10], [11])


@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("instruction", ["", LONG], ids=["nothing shared", "shared"])
def test_one_batch_is_many_small_ones_and_padding_changes_nothing(
    tiny_model: Path, method: str, instruction: str
) -> None:
    loaded = load(tiny_model)
    model = loaded.model
    if method == "lora":
        model = add_lora(model, rank=4, alpha=8, dropout=0.0, base="tiny")
        for name, p in model.named_parameters():
            if "lora_B" in name:  # zero at first, and then A would have no gradient
                torch.nn.init.normal_(p, std=0.1)
    rows = items(loaded.tokenizer, 9, instruction=instruction)
    assert bool(shared_prefix(rows)) == bool(instruction)
    assert len({item.length for item in rows}) > 3
    wanted = plain(model, rows)
    assert len(wanted[1]) == sum(p.requires_grad for p in model.parameters())
    assert_close(gradients(model, [rows]), wanted)
    assert_close(gradients(model, [rows[:4], rows[4:5], rows[5:]]), wanted)
    assert_close(gradients(model, [[item] for item in rows]), wanted)


def test_a_shared_beginning_in_a_model_with_a_sliding_window() -> None:
    from tiny_models import make_tokenizer
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    torch.manual_seed(3)
    tokenizer = make_tokenizer()
    model = Gemma3ForCausalLM(
        Gemma3TextConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=8,
            sliding_window=10,
            layer_types=["sliding_attention", "full_attention"],
            pad_token_id=0,
        )
    ).eval()
    rows = items(tokenizer, 5, instruction=LONG)
    assert shared_prefix(rows) > 10
    assert_close(gradients(model, [rows]), plain(model, rows))


def test_what_is_shared() -> None:
    start = list(range(40))
    rows = [
        Item([*start, *own], [IGNORED] * (39 + len(own)) + [1]) for own in ([50, 51], [60, 61, 62])
    ]
    assert shared_prefix(rows) == 39  # the token before the rows part predicts their own
    assert shared_prefix(rows[:1]) == 0
    assert shared_prefix([Item(r.ids[30:], r.targets[30:]) for r in rows]) == 0  # too few to pay
    trained = Item(rows[0].ids, [7, *rows[0].targets[1:]])
    assert shared_prefix([trained, rows[1]]) == 0
    assert shared_prefix([rows[0], rows[0]]) == 40


def test_a_shared_row_that_is_the_beginning_of_another(tiny_model: Path) -> None:
    loaded = load(tiny_model)
    ids = list(range(40))
    short = Item(ids[:30], [IGNORED] * 29 + [5])
    long = Item(ids, [IGNORED] * 35 + [5] * 5)
    assert shared_prefix([short, long]) > 0
    assert_close(gradients(loaded.model, [[short, long]]), plain(loaded.model, [short, long]))
