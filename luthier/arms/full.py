"""Full fine-tuning: every weight of the model is trained."""

from __future__ import annotations

from luthier.arms.base import ARMS
from luthier.arms.tuned import TunedArm


@ARMS.register("full")
class Full(TunedArm):
    """Trains all parameters; slower, larger to store, and more is forgotten than with LoRA."""

    name = "full"
    title = "Full fine-tuning"
    method = "full"
    in_auto = False
    order = 70
