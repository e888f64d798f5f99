"""The protocols of the benchmark: one row each. Pure."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...tasks.registry import TASKS

if TYPE_CHECKING:
    from ..request import Request
    from ..tables import Report


@dataclass(frozen=True, slots=True)
class Protocol:
    """A row. The function ``run`` of the module answers its question.

    Attributes:
        module: in this folder.
        options: of `zoo benchmark`, besides those that every protocol takes.
        tasks: of the zoos that it takes.
    """

    question: str
    module: str
    options: frozenset[str]
    tasks: tuple[str, ...] = ("classification",)

    def load(self) -> "Callable[[Request], Report]":
        run: Callable[[Request], Report] = importlib.import_module(f".{self.module}", __package__).run
        return run


METHODS = frozenset({"methods", "plugins", "num_seeds", "against"})
STATE = METHODS | {"epochs", "weight_threshold", "splits"}

PROTOCOLS: dict[str, Protocol] = {
    "reference": Protocol(
        "the reference's own benchmark: every property from states of many epochs", "reference",
        frozenset({"epochs", "others"}),
    ),
    "accuracy": Protocol("test accuracy from one state", "accuracy", STATE | {"thresholds"}),
    "ggap": Protocol("generalisation gap from one state", "ggap", STATE | {"thresholds"}),
    "hyperparameters": Protocol("hyperparameters from one state", "hyperparameters", STATE, tuple(TASKS)),
    "inr": Protocol(
        "the class of the image that a network has learned", "inr", STATE | {"images"}, ("image_regression",)
    ),
    "sparsity": Protocol(
        "share of pruned weights of a model's twin, from the model", "sparsity",
        METHODS | {"weight_threshold", "splits", "thresholds"},
    ),
    "nfn": Protocol("test accuracy, split as NFN publishes it", "nfn", METHODS | {"weight_threshold", "order"}),
    "relu": Protocol(
        "the same of the models with ReLU, as ScaleGMN publishes it", "relu", METHODS | {"weight_threshold", "order"}
    ),
    "forecast": Protocol(
        "final accuracy and weights from the first epochs", "forecast",
        METHODS | {"weight_threshold", "splits", "first"},
    ),
    "transfer": Protocol("test accuracy in other zoos", "transfer", STATE | {"others"}),
    "generate": Protocol(
        "accuracy, novelty and diversity of generated networks", "generate",
        frozenset({"num_seeds", "weight_threshold", "samples", "images", "activation", "against"}),
    ),
}  # fmt: skip
