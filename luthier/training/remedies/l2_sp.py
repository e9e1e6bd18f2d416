"""L2-SP: a pull back to the weights that training starts from.

Li, Grandvalet & Davoine 2018, "Explicit Inductive Bias for Transfer Learning with Convolutional
Networks" (arXiv 1802.01483), add beta / 2 ||w - w0||^2 to the loss, w0 being the weights before
tuning. Its gradient, beta (w - w0), would be rescaled by Adam's second moments like any other, so
that a weight with small gradients would be pulled hardest. It is therefore decoupled, as AdamW
decouples weight decay (Loshchilov & Hutter 2019): before Adam's update at rate lr

    w <- w - lr * beta * (w - w0).

Adam moves a weight by at most about lr a step, so a weight that is pushed one way all the time
comes to rest at a distance of about 1 / beta. With full fine-tuning at 1e-4, 100 is a light pull
and 1000 a strong one.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch


class Anchor:
    """Remembers where weights started, and pulls them back.

    Args:
        weights: name -> float32 value; copied.
        strength: beta; 0 remembers and does nothing.
    """

    def __init__(self, weights: Mapping[str, torch.Tensor], strength: float) -> None:
        self.strength = strength
        self._start = (
            {name: value.detach().clone() for name, value in weights.items()} if strength else {}
        )

    @torch.no_grad()
    def pull(
        self,
        weights: Mapping[str, torch.Tensor],
        learning_rate: float,
        multiples: Mapping[str, float] | None = None,
    ) -> None:
        """w <- w - learning_rate * strength * (w - w0), in place; the learning rate of a named
        weight times its multiple."""
        for name, start in self._start.items():
            rate = learning_rate * (multiples or {}).get(name, 1.0)
            weights[name].lerp_(start, rate * self.strength)
