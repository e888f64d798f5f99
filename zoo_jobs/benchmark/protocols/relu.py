"""Test accuracy under the split of NFN, of the models with ReLU alone, as ScaleGMN reports it."""

from ..request import Request
from ..tables import Report
from .small_cnn_zoo import run_published_split

FIGURES = {
    "cifar10": "published tau on this data, CIFAR-10-GS with ReLU: GMN .9266, ScaleGMN .9316",
    "svhn": "published tau on this data, SVHN-GS with ReLU: ScaleGMN .8655, GMN .8672",
}  # Kalogeropoulos et al. (2024), arXiv:2406.10685


def run(request: Request) -> Report:
    return run_published_split("relu", request, FIGURES, activation="relu")
