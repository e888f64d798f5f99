"""The splits of published results on Google's small CNN zoo: by the place of a model in a fixed order, not by seed.

Source: Zhou et al. (2023), arXiv:2302.14040 (NFN), and Kalogeropoulos et al. (2024), arXiv:2406.10685 (ScaleGMN), whose
data sets take the rows of step 86 in the order of a file, the second half as test, and the first half, shuffled by
Python's generator with seed 0, as 80 % train and 20 % val.
"""

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zooforge.storage.interchange.google_tables import GoogleTables
from zooforge.storage.zoo import Zoo as Published

from ...errors import InputError
from ..comparison import Question, compare
from ..plots import panels
from ..request import Request
from ..samples import Samples
from ..splits import LEAST_GROUPS
from ..tables import Report, report
from .from_state import read, settings

NUM_WEIGHTS = 4_970
LEAST_MODELS = 20_000  # the published zoos have 30,000 each
Figures = Mapping[str, str]
"""The published figures, by the beginning of the data set's name."""


def run_published_split(protocol: str, request: Request, figures: Figures, activation: str | None = None) -> Report:
    """Predict test accuracy, split as published.

    Args:
        activation: models with others are left out after the split.
    """
    samples = read(request).with_known("test_acc")
    places = _places(request.zoo, request.order)
    known = np.array([model in places for model in samples.labels["model"].tolist()], bool)
    samples = samples.keep(known, "the file of --order does not name it")
    by_place = samples[np.argsort([places[model] for model in samples.labels["model"].tolist()], kind="stable")]
    if len(by_place) < LEAST_GROUPS:
        raise InputError(
            f"{samples.zoo}: {len(by_place)} models, at least {LEAST_GROUPS} are needed; grow more of them"
        )
    splits = published_splits(len(by_place))
    if activation is not None:
        by_place, splits = _with_activation(by_place, splits, activation)
    question = Question("test_acc", "regression", by_place, lambda _: {"": splits})
    results, counts = compare([question], request.methods, request.seeds, request.say)
    asked = settings(request, splits=f"published, order {'of a file' if request.order else 'of the zoo'}")
    notes = _figures(request, figures)
    return report(protocol, request, results, counts, by_place.excluded, asked, notes, panels)


def published_splits(num: int) -> NDArray[Any]:
    """[num] of train, val, test, for models in their order."""
    half = int(0.5 * num)
    first = list(range(half))
    random.Random(0).shuffle(first)
    splits = np.full(num, "test", object)
    splits[first[: int(0.8 * half)]] = "train"
    splits[first[int(0.8 * half) :]] = "val"
    return splits


def _with_activation(samples: Samples, splits: NDArray[Any], activation: str) -> tuple[Samples, NDArray[Any]]:
    kept = samples.labels["activation"] == activation
    for split in ("train", "val", "test"):
        if not (splits[kept] == split).any():
            raise InputError(
                f"{samples.zoo}: no {activation} model in the {split} split; this protocol needs a zoo that has some"
            )
    return samples.keep(kept, f"the activation is not {activation}"), splits[kept]


def _places(zoo: Published, order: Path | None) -> dict[int, int]:
    """The place of each model in the order for the splits: that of ``order``, or ascending."""
    if order is None:
        return {model: model for model in zoo.models}
    tables = GoogleTables.of(zoo)
    if tables is None:
        raise InputError(f"--order {order}: the zoo was not imported by `zoo store import-google`, so it has no matrix")
    try:
        rows = [int(word) for word in order.read_text(encoding="utf-8").replace(",", " ").split()]
    except OSError as error:
        raise InputError(f"--order {order}: cannot be read ({error.strerror})") from None
    except ValueError:
        raise InputError(f"--order {order}: expected row numbers of the matrix, one in each line") from None
    if sorted(rows) != list(range(len(tables.rows))):
        raise InputError(f"--order {order}: expected each of the {len(tables.rows):,} rows of the matrix once")
    final = [tables.states[row] for row in rows]
    last = zoo.epochs[-1]
    return {model: place for place, (model, epoch) in enumerate(final) if epoch == last}


def _figures(request: Request, figures: Figures) -> list[str]:
    """The published figures, if this is the data of the publication."""
    zoo = request.zoo
    if zoo.layout.size != NUM_WEIGHTS or len(zoo) < LEAST_MODELS or GoogleTables.of(zoo) is None:
        return ["published figures are for Google's small CNN zoo; this is another, so there is no target"]
    if request.order is None:
        return ["without --order FILE the split is not the published one, and figures do not compare"]
    return [text for name, text in figures.items() if zoo.manifest.dataset.startswith(name)]
