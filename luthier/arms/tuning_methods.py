"""Every tuning method is an arm of the same name."""

from __future__ import annotations

from luthier.arms.base import ARMS
from luthier.arms.tuned import TunedArm
from luthier.training.method import METHODS, TuningMethod


def _arm(method: type[TuningMethod]) -> type[TunedArm]:
    return type(
        f"{method.__name__}Arm",
        (TunedArm,),
        {
            "__doc__": method.__doc__,
            "__module__": __name__,
            "name": method.name,
            "title": method.title,
            "in_auto": method.in_auto,
            "order": method.order,
            "method": method.name,
        },
    )


for _name, _method in METHODS:
    ARMS.register(_name)(_arm(_method))
