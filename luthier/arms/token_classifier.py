"""Named entities by tagging: an encoder that is fine-tuned together with a head over words."""

from __future__ import annotations

from luthier.arms.base import ARMS
from luthier.arms.classifier import EncoderArm


@ARMS.register("token-classifier")
class TokenClassifierArm(EncoderArm):
    """A small encoder fine-tuned whole, with a head that tags every word."""

    name = "token-classifier"
    title = "Fine-tuned encoder with a tagging head"
    kinds = frozenset({"ner"})
    objective = "token-classification"
    order = 12
