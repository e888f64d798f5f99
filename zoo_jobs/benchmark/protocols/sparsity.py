"""The share of pruned weights of a model's sparse twin, from the parent's weights at the epoch where the twin began.

The twin's own weights are not used, because the share of zeros among them is the answer.
"""

import numpy as np

from zooforge.storage.keys import zoo_url
from zooforge.storage.zoo import Zoo as Published
from zooforge.storage.zoo import open_zoo

from ...errors import InputError
from ...report.read import twin_names
from ..request import Request
from ..samples import Samples, read_samples
from ..tables import Report
from .from_state import run_thresholds


def run(request: Request) -> Report:
    return run_thresholds("sparsity", "sparsity_ratio", request, _samples(request))


def _samples(request: Request) -> Samples:
    twins = _twins(request)
    source = twins.manifest.parent
    assert source is not None
    parents = open_zoo(zoo_url(request.store, source.zoo))
    table = twins.labels(epochs=-1)
    columns = (table[name].to_pylist() for name in ("parent_model", "sparsity_ratio"))
    ratio = {model: value for model, value in zip(*columns, strict=True) if value is not None}
    samples = read_samples(parents, source.epoch, request.weight_threshold, models=sorted(ratio))
    values = np.array([ratio[model] for model in samples.labels["model"].tolist()], np.float64)
    return samples.with_label("sparsity_ratio", values)


def _twins(request: Request) -> Published:
    """The zoo of the request if its models are twins, otherwise the zoo of its twins."""
    if request.zoo.manifest.twin:
        return request.zoo
    names = twin_names(request.zoo.store, request.store, request.zoo)
    if not names:
        raise InputError(
            f"{request.zoo.name}: has no published twins, so no sparsity; `zoo sparsify` and `zoo vectorize` make them"
        )
    return open_zoo(zoo_url(request.store, names[0]))
