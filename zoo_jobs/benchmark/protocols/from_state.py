"""Shared by protocols that predict properties of a zoo's models from one state of each model."""

from typing import Any

import numpy as np

from zooforge.storage.zoo import Zoo as Published

from ...errors import InputError
from ..comparison import Question, Splits, compare
from ..plots import panels
from ..request import Request
from ..samples import Samples, read_samples
from ..splits import LEAST_GROUPS, split
from ..tables import Report, report


def read(request: Request) -> Samples:
    """The states of the request: the last kept epoch of each model unless other epochs are asked for."""
    return read_zoo(request.zoo, request)


def read_zoo(zoo: Published, request: Request) -> Samples:
    """Like ``read``, for another zoo."""
    samples = read_samples(zoo, -1 if request.epochs is None else request.epochs, request.weight_threshold)
    if not len(samples):
        raise InputError(f"{samples.zoo}: no state is left; its weights are not finite, or beyond the threshold")
    return samples


def splits_of(samples: Samples, request: Request) -> Any:
    """A function from a seed to the splits of ``samples``."""

    def by_seed(seed: int) -> Splits:
        return {"": split(samples, request.splits, seed)}

    return by_seed


def thresholded(target: str, samples: Samples, request: Request) -> tuple[list[Question], list[str]]:
    """A question for each threshold of accuracy, and a line for each that leaves too few models."""
    known = samples.with_known(target).with_known("test_acc")
    if not len(known):
        raise InputError(f"{samples.zoo}: {target} and test_acc are not both known of any of its states")
    questions, notes = [], []
    for threshold in request.thresholds:
        kept = known[np.flatnonzero(known.labels["test_acc"] >= threshold)]
        num_groups = len(set(kept.groups.tolist()))
        if num_groups < LEAST_GROUPS and threshold > 0:
            notes.append(f"{target} from {threshold:.0%}: {num_groups} models are left, too few to split")
            continue
        questions.append(Question(target, "regression", kept, splits_of(kept, request), threshold))
    return questions, notes


def run_thresholds(protocol: str, target: str, request: Request, samples: Samples | None = None) -> Report:
    """Predict ``target`` of the models that reach each threshold of accuracy; None: the states of the request."""
    samples = read(request) if samples is None else samples
    questions, notes = thresholded(target, samples, request)
    if not questions:
        raise InputError(f"{samples.zoo}: {'; '.join(notes)}; lower --thresholds, or grow more models")
    results, counts = compare(questions, request.methods, request.seeds, request.say)
    excluded = samples.with_known(target).with_known("test_acc").excluded
    return report(
        protocol,
        request,
        results,
        counts,
        excluded,
        settings(request, thresholds=list(request.thresholds)),
        notes,
        panels,
    )


def settings(request: Request, **more: Any) -> dict[str, Any]:
    """The settings of the request, for JSON."""
    value: dict[str, Any] = {
        "seeds": list(request.seeds),
        "epochs": request.epochs or "last",
        "splits": request.splits,
        "weight_threshold": request.weight_threshold,
    }
    return {**value, **more}
