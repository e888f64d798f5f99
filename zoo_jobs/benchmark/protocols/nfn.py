"""Test accuracy under the split of NFN: all activations."""

from ..request import Request
from ..tables import Report
from .small_cnn_zoo import run_published_split

FIGURES = {
    "cifar10": "published tau on this data, CIFAR-10-GS: statistics .915, NFN-NP .922, NFN-HNP .934",
    "svhn": "published tau on this data, SVHN-GS: statistics .843, NFN-NP .856, NFN-HNP .931",
}  # Zhou et al. (2023), arXiv:2302.14040


def run(request: Request) -> Report:
    return run_published_split("nfn", request, FIGURES)
