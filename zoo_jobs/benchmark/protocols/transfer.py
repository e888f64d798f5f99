"""Test accuracy in other zoos, by methods that were fitted on this one."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...errors import InputError
from ..comparison import Question, Splits, compare
from ..methods.registry import METHODS
from ..plots import panels
from ..request import Request
from ..samples import Samples
from ..splits import draw, recorded
from ..tables import Report, report
from .from_state import read_zoo, settings


def run(request: Request) -> Report:
    names = [zoo.name for zoo in request.others]
    if not names:
        raise InputError("protocol transfer: name the zoos to test on with --on NAME,...")
    if len({request.zoo.name, *names}) <= len(names):
        raise InputError(f"--on {','.join(names)}: a zoo is named twice, or is {request.zoo.name} itself")
    here = read_zoo(request.zoo, request).with_known("test_acc")
    others = {zoo.name: read_zoo(zoo, request).with_known("test_acc") for zoo in request.others}
    unfit = {
        (method, zoo.name): "its weights are laid out otherwise, and this method reads one layout"
        for method in request.methods
        for zoo in request.others
        if method in METHODS and METHODS[method].layouts == "same" and zoo.layout != request.zoo.layout
    }
    tests = {request.zoo.name: here, **others}
    question = Question("test_acc", "regression", here, _splits(here, tests, request), tests=tests)
    results, counts = compare([question], request.methods, request.seeds, request.say, unfit)
    excluded = {
        f"{zoo}: {reason}": count for zoo, samples in tests.items() for reason, count in samples.excluded.items()
    }
    return report("transfer", request, results, counts, excluded, settings(request, on=names), panels=panels)


def _splits(here: Samples, tests: Mapping[str, Samples], request: Request) -> Any:
    """Splits of all zoos, drawn together, so that twins and fine-tuned models are in the split of their root."""

    def by_seed(seed: int) -> Splits:
        if request.splits == "recorded":
            return {"": recorded(here), **{name: recorded(samples) for name, samples in tests.items()}}
        groups = np.concatenate([samples.groups for samples in tests.values()])
        drawn = draw(groups, seed, ", ".join(tests))
        pieces = np.split(drawn, np.cumsum([len(samples) for samples in tests.values()])[:-1])
        by_zoo = dict(zip(tests, pieces, strict=True))
        return {"": by_zoo[here.zoo], **by_zoo}

    return by_seed
