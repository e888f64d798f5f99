"""The methods of the benchmark: one row each. Pure."""

import importlib
from dataclasses import dataclass
from typing import Literal

from .contract import Fit

FLOOR = "floor"


@dataclass(frozen=True, slots=True)
class Method:
    """A row. The function ``fit`` of the module fits it.

    Attributes:
        module: in this folder.
        layouts: ``same`` if it can only predict zoos of the layout on which it was fitted.
        quick: whether the method runs by default; the others take minutes.
    """

    description: str
    module: str
    layouts: Literal["same", "any"] = "same"
    quick: bool = True

    def load(self) -> Fit:
        fit: Fit = importlib.import_module(f".{self.module}", __package__).fit
        return fit


METHODS: dict[str, Method] = {
    FLOOR: Method("gradient boosting on the hyperparameters, without any weight", "floor", layouts="any"),
    "linear-weights": Method("ridge regression on the standardised weights", "linear_weights"),
    "linear-statistics": Method("ridge regression on seven statistics of each tensor", "linear_statistics"),
    "linear-pooled": Method("ridge regression on statistics that every layout has", "linear_pooled", layouts="any"),
    "boosting": Method("gradient boosting on seven statistics of each tensor", "boosting"),
    "equivariant": Method("a small network that hidden units may be permuted for", "equivariant", quick=False),
    "transformer": Method("a small transformer on a token for each channel", "transformer", quick=False),
}
