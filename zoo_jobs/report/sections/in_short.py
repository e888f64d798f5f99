"""In short: the findings that a reader should not miss, as sentences."""

import numpy as np

from .. import words
from ..blocks import Bullets, Section
from ..contents import Contents
from ..population import Population
from ..statistics import influences, num_at_chance, quantiles, ranked
from . import learned_images


def section(contents: Contents) -> Section:
    return Section("in-short", "In short", [Bullets(findings(contents))])


def findings(contents: Contents) -> list[str]:
    facts, population = contents.facts, contents.population
    last = int(population.epochs_E[-1])
    if facts.task == "image_regression":
        return [*learned_images.findings(contents), _faulty(population), *_twins(contents)]
    lines = []
    q = quantiles(population.final("test_acc"))
    if np.isfinite(q[2]):
        lines.append(
            f"At epoch {last} the median model classifies {words.percent(q[2])} of the test images correctly; the "
            f"middle half lies between {words.percent(q[1])} and {words.percent(q[3])}."
        )
        best = ranked(population)[0]
        lines.append(
            f"The best is model {population.models_N[best]} with {words.percent(population.final('test_acc')[best])}"
            f"{_settings(population, int(best))}."
        )
    influential = [influence for influence in influences(population) if influence.share >= 0.01]
    if influential:
        shares = [f"{words.name(i.name).lower()} ({words.percent(i.share, 0)})" for i in influential[:3]]
        lines.append(
            f"Most of the variance in final accuracy is explained, each by itself, by {words.sentence(shares)}."
        )
    idle = num_at_chance(population, facts.chance_ratio)
    if idle:
        lines.append(
            f"{words.count(idle, 'model')} ended near chance (at most {words.percent(1.5 * facts.chance_ratio, 0)}): "
            "settings that do not train belong to the population and stay in it."
        )
    return [*lines, _faulty(population), *_twins(contents)]


def _twins(contents: Contents) -> list[str]:
    if contents.twins is None:
        return []
    twins, measure = contents.twins.population, contents.facts.measure
    sparsity, end = quantiles(twins.final("sparsity_ratio")), quantiles(twins.final(measure.metric))
    start = quantiles(twins.metrics[measure.metric][:, 0])
    return [
        f"After {words.count(int(twins.epochs_E[-1]), 'epoch')} of sparsification the median twin has lost "
        f"{words.percent(sparsity[2])} of its weights, and median {measure.name} went from "
        f"{measure.show(start[2])} to {measure.show(end[2])}."
    ]


def _faulty(population: Population) -> str:
    num_faulty = int((~population.sound_N).sum())
    if num_faulty:
        return f"{words.count(num_faulty, 'model is', 'models are')} faulty, with epoch and reason below."
    return "No model is faulty: every weight of every state is finite."


def _settings(population: Population, row: int) -> str:
    varying = population.varying()
    named = [
        f"{words.name(name).lower()} {words.value(varying[name].tolist()[row])}" for name in words.in_order(varying)
    ]
    return f" ({', '.join(named)})" if named else ""
