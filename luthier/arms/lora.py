"""Low-rank adaptation: small matrices beside the model's own are trained, the model is not."""

from __future__ import annotations

from luthier.arms.base import ARMS
from luthier.arms.tuned import TunedArm


@ARMS.register("lora")
class Lora(TunedArm):
    """LoRA on all linear layers (Hu et al. 2021, arXiv 2106.09685)."""

    name = "lora"
    title = "LoRA fine-tuning"
    method = "lora"
    order = 60
