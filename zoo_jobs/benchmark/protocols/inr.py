"""The class of the image that a network has learned, from the network in three forms.

``raw``: its weights as they are; ``aligned``: hidden units in the canonical order; ``queried``: the pixels that it
computes. The method ``transformer`` reads the first two as tokens. The classes come from the images of the data set.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from zooforge.storage.formats.layout import Layout
from zooforge.storage.formats.symmetry import align_canonical
from zooforge.storage.views.reconstruct import pictures
from zooforge.storage.zoo import Zoo as Published

from ..comparison import Question, compare
from ..plots import panels
from ..request import Request
from ..samples import Samples
from ..tables import Report, report
from .from_state import read, settings, splits_of


def run(request: Request) -> Report:
    _, classes = request.zoo.images("train", request.images)
    samples = read(request)
    labelled = np.array([str(classes[image]) for image in samples.labels["image"].tolist()], object)
    questions = []
    for form, change in FORMS.items():
        target = f"class, {form}"
        asked = change(request.zoo, samples).with_label(target, labelled)
        questions.append(Question(target, "classification", asked, splits_of(asked, request)))
    results, counts = compare(questions, request.methods, request.seeds, request.say)
    notes = ["Queried points are the images themselves as the networks show them: the bound of what weights can tell."]
    return report("inr", request, results, counts, samples.excluded, settings(request), notes, panels)


def _aligned(zoo: Published, samples: Samples) -> Samples:
    states = samples.given.states
    return _with_values(samples, align_canonical(states.values, states.layout, zoo.manifest.symmetries), states.layout)


def _queried(zoo: Published, samples: Samples) -> Samples:
    stack = zoo.to_stacked_modules(samples.given.states.values, int(samples.labels["model"][0]))
    pixels = pictures(stack, zoo.task["image_shape"][1])
    return _with_values(samples, pixels.reshape(len(pixels), -1), Layout.of([("pixels.weight", pixels.shape[1:])]))


def _with_values(samples: Samples, values: NDArray[np.float32], layout: Layout) -> Samples:
    states = replace(samples.given.states, values=values, layout=layout)
    return replace(samples, given=replace(samples.given, states=states))


FORMS: Mapping[str, Callable[[Published, Samples], Samples]] = {
    "raw": lambda zoo, samples: samples,
    "aligned": _aligned,
    "queried": _queried,
}
