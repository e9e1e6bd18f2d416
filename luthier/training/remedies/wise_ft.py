"""WiSE-FT: the weights between the base and the tuned model.

Wortsman et al. 2022, "Robust fine-tuning of zero-shot models" (arXiv 2109.01903), eq. 1:

    w = (1 - alpha) * w0 + alpha * w1

with w0 the weights before tuning and w1 those after. alpha = 1 is the tuned model. Of a LoRA
adapter the update is scale * B A with B = 0 at the start, so taking alpha times B is the same line
between the two whole models.

Where alpha is to be chosen, the smallest one is taken whose loss on the validation rows is not
shown to be worse than the best: by no more than one standard error of the mean paired difference
(the one-standard-error rule of Breiman et al. 1984, with pairs). Less of the change is kept where
the task does not need it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch

from luthier.errors import InputError

#: What alpha is chosen from.
ALPHAS = (0.2, 0.4, 0.6, 0.8, 1.0)
#: Validation rows that alpha is chosen by, and how many of them are one unit of the comparison.
ROWS = 100
TOGETHER = 4


def start_of(model: Any, own: Collection[str]) -> dict[str, torch.Tensor]:
    """The trained parameters before training, in the model's precision; of LoRA none are needed.

    Args:
        model: ready to be trained.
        own: names of the parameters that the base itself has.

    Raises:
        InputError: the method adds something by which there is no straight line from the base.
    """
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if _is_lora(trained):
        return {}
    if not trained.keys() <= set(own):
        raise InputError(
            "`training.wise_ft` averages weights, and this method trains something that the base "
            "does not have.",
            fix="Use it with --method full or lora.",
        )
    return {name: p.detach().clone() for name, p in trained.items()}


@torch.no_grad()
def between(
    start: Mapping[str, torch.Tensor], tuned: Mapping[str, torch.Tensor], alpha: float
) -> dict[str, torch.Tensor]:
    """(1 - alpha) * start + alpha * tuned, float32; with an empty start, a LoRA update times alpha.

    Args:
        start: of `start_of`.
        tuned: name -> float32 value after training.
        alpha: 0 to 1; 1 gives `tuned` itself.
    """
    if alpha == 1:
        return dict(tuned)
    if not start:
        return {name: w * alpha if "lora_B" in name else w for name, w in tuned.items()}
    return {name: torch.lerp(start[name].to(w), w, alpha) for name, w in tuned.items()}


@torch.no_grad()
def put(model: Any, weights: Mapping[str, torch.Tensor]) -> None:
    """Give the model these values of its trained parameters."""
    for name, parameter in model.named_parameters():
        if name in weights:
            parameter.copy_(weights[name])


def choose(losses: Mapping[float, Sequence[float]]) -> float:
    """The smallest alpha whose loss is within one standard error of the best.

    Args:
        losses: for each alpha the loss of every unit of validation rows, in one order.
    """
    means = {alpha: sum(row) / len(row) for alpha, row in losses.items()}
    best = min(means, key=lambda alpha: (means[alpha], alpha))
    for alpha in sorted(losses):
        apart = [a - b for a, b in zip(losses[alpha], losses[best], strict=True)]
        mean = sum(apart) / len(apart)
        spread = math.fsum((one - mean) ** 2 for one in apart) / max(1, len(apart) - 1)
        if mean <= math.sqrt(spread / len(apart)):
            return alpha
    return best


@torch.no_grad()
def row_losses(model: Any, objective: Any, items: Sequence[Any]) -> list[float]:
    """The mean loss of each few of the first ROWS items that carry loss; single ones would take
    several times as long."""
    model.eval()
    chosen = [item for item in items if item.weight][:ROWS]
    parts = [chosen[start : start + TOGETHER] for start in range(0, len(chosen), TOGETHER)]
    return [
        float(objective.loss(model, part)) / sum(item.weight for item in part) for part in parts
    ]


def average(
    model: Any,
    start: Mapping[str, torch.Tensor],
    tuned: Mapping[str, torch.Tensor],
    wish: float | str,
    loss: Callable[[], list[float]],
) -> tuple[dict[str, torch.Tensor], float, list[str]]:
    """Leave the averaged weights in the model.

    Args:
        model: as training left it.
        start: of `start_of`, taken before training.
        tuned: name -> float32 value after training.
        wish: alpha, or "auto" to choose it.
        loss: the losses of the validation rows under the model's weights, called for each alpha.

    Returns:
        (the averaged weights, alpha, notes).
    """
    note = ""
    if wish == "auto":
        losses = {}
        for alpha in ALPHAS:
            put(model, between(start, tuned, alpha))
            losses[alpha] = loss()
        chosen = choose(losses)
        shown = ", ".join(f"{a:g}: {sum(row) / len(row):.4f}" for a, row in losses.items())
        note = f" It is the smallest whose validation loss is as good as the best ({shown})."
    else:
        chosen = float(wish)
    weights = between(start, tuned, chosen)
    put(model, weights)
    return weights, chosen, [f"{chosen:g} of the change of the weights is kept (WiSE-FT).{note}"]


def _is_lora(trained: Mapping[str, torch.Tensor]) -> bool:
    """Whether all that is trained is the A and B of adapters that begin as nothing, B being 0."""
    return bool(trained) and all(
        "lora_A." in name or ("lora_B." in name and not value.any())
        for name, value in trained.items()
    )
