"""Linear layers with their weights laid out once: the same numbers, and only where it is safe."""

from __future__ import annotations

import pytest
import torch

from luthier.models import packed as packing
from luthier.models.packed import packed


def net(dtype: torch.dtype = torch.float32, wide: int = 512) -> torch.nn.Module:
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Linear(256, wide), torch.nn.Linear(wide, 256, bias=False), torch.nn.Linear(256, 4)
    )
    return model.to(dtype).eval()


@torch.inference_mode()
def asked(model: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    return model(x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(1, 256), (3, 7, 256), (0, 256), (1100, 256)])
def test_gives_what_the_layers_give(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    model = net(dtype)
    x = torch.randn(shape).to(dtype)
    plain = asked(model, x)
    with packed(model):
        found = asked(model, x)
    assert found.shape == plain.shape and found.dtype == dtype
    bound = 1e-5 if dtype == torch.float32 else 2e-2
    torch.testing.assert_close(found, plain, atol=bound, rtol=bound)


def test_weights_that_change_are_seen() -> None:
    model = net()
    x = torch.randn(5, 256)
    with packed(model):
        before = asked(model, x)
    for change in (
        lambda w: w.data.mul_(2),
        lambda w: setattr(w, "data", w.data + 1),
    ):
        with torch.no_grad():
            change(model[0].weight)
        with packed(model):
            found = asked(model, x)
        torch.testing.assert_close(found, asked(model, x), atol=1e-3, rtol=1e-4)
        assert not torch.allclose(found, before)
        before = found


def test_nothing_is_left_behind_and_blocks_may_nest() -> None:
    model = net()
    with packed(model) as running, packed(model):
        assert running == ("forward" in model[0].__dict__)
        with packed(model):
            pass
        assert running == ("forward" in model[0].__dict__)
    assert not any("forward" in module.__dict__ for module in model.modules())
    with pytest.raises(ZeroDivisionError), packed(model):
        raise ZeroDivisionError
    assert not any("forward" in module.__dict__ for module in model.modules())


def test_gradients_flow_as_ever() -> None:
    model = net()
    x = torch.randn(2, 256)
    with packed(model):
        model(x).sum().backward()
    with_packed = model[0].weight.grad.clone()
    model.zero_grad()
    model(x).sum().backward()
    assert torch.equal(with_packed, model[0].weight.grad)


def test_small_layers_hooked_ones_and_a_full_machine_are_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with packed(net(wide=8)) as running:
        assert not running
    model = net()
    model[0].forward = model[0].forward  # what accelerate does
    with packed(model):
        assert model[0].__dict__["forward"].__name__ == "forward"
        asked(model, torch.randn(2, 256))
    assert "forward" in model[0].__dict__

    class Full:
        memory_available = 1 << 20

    monkeypatch.setattr(packing, "this_machine", lambda: Full)
    with packed(net()) as running:
        assert not running


def test_a_build_whose_products_differ_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "_agree", lambda module, forward: False)
    with packed(net()) as running:
        assert not running
