"""Hyperparameters from one state. The floor knows the other hyperparameters, and no weight."""

import numpy as np

from ...errors import InputError
from ..comparison import Question, compare
from ..plots import panels
from ..request import Request
from ..samples import Samples
from ..tables import Report, report
from .from_state import read, settings, splits_of

NAMES = ("activation", "initializer", "optimizer")
NUMBERS = ("dropout_ratio", "learning_rate", "weight_decay", "momentum")
ON_LOG_SCALE = ("learning_rate", "weight_decay")
"""Numbers that are predicted as their decimal logarithm, if none of them is zero."""


def run(request: Request) -> Report:
    samples = read(request)
    questions = [question for name in (*NAMES, *NUMBERS) if (question := _question(name, samples, request)) is not None]
    if not questions:
        raise InputError(
            f"{samples.zoo}: no hyperparameter varies among its models; use a zoo with a grid, or protocol accuracy"
        )
    results, counts = compare(questions, request.methods, request.seeds, request.say)
    return report("hyperparameters", request, results, counts, samples.excluded, settings(request), panels=panels)


def _question(name: str, samples: Samples, request: Request) -> Question | None:
    if name not in samples.labels:
        return None
    known = samples.with_known(name).without_hyperparameter(name)
    values = known.labels[name]
    if len(set(values.tolist())) < 2:
        return None
    target = name
    if name in ON_LOG_SCALE and (values > 0).all():
        target = f"log10 {name}"
        known = known.with_label(target, np.log10(values.astype(np.float64)))
    return Question(target, "classification" if name in NAMES else "regression", known, splits_of(known, request))
