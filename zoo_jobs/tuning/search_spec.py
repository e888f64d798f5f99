"""The spec of a search for a grid, the hyperparameters of its trials, and the grid that it proposes. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from ..closed import Closed, Number
from ..spec.blocks import AXIS_ORDER, FIRST_AXES, Activations, Initializers, Optimizers, validated
from ..spec.yaml_values import yaml_values
from ..spec.zoo import ZooSpec

TOP_QUANTILES = (0.1, 0.9)
"""A proposed axis spans the values of the best trials between these, so that one lucky extreme does not stretch it."""
EVEN_SHARE = 0.5
"""A choice is proposed if at least this share of what an average choice has of its trials are among the best."""


class Range(Closed):
    """Numbers from ``low`` to ``high``, both included."""

    low: Annotated[Number, Field(ge=0)] = Field(examples=["1e-5"])
    high: Annotated[Number, Field(ge=0)] = Field(examples=["1"])
    scale: Literal["linear", "log"] = "linear"
    """linear: equal steps are equally likely; log: equal ratios are."""

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low {self.low:g} has to be below high {self.high:g}")
        if self.scale == "log" and self.low == 0:
            raise ValueError("a logarithmic range begins above 0")
        return self

    def at(self, ratio: Any) -> Any:
        """The value(s) at ``ratio`` of the way from low to high."""
        if self.scale == "log":
            return np.exp(math.log(self.low) + np.asarray(ratio) * math.log(self.high / self.low))
        return self.low + np.asarray(ratio) * (self.high - self.low)


class Ranges(Closed):
    """The searched axes. Every other axis has the first value of the zoo in all trials and in the proposed grid."""

    learning_rate: Range | None = None
    weight_decay: Range | None = None
    dropout_ratio: Range | None = None
    activation: Activations | None = None
    initializer: Initializers | None = None
    optimizer: Optimizers | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.searched:
            raise ValueError("name at least one axis to search")
        if self.dropout_ratio is not None and self.dropout_ratio.high >= 1:
            raise ValueError(f"dropout_ratio: high {self.dropout_ratio.high:g} has to be below 1")
        return self

    @property
    def searched(self) -> list[str]:
        """Names of the searched axes, in the order of the grid."""
        return [axis for axis in FIRST_AXES if getattr(self, axis) is not None]


class TuneSpec(Closed):
    """A search for a grid: models with hyperparameters drawn at random, the bad ones ended early."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$", max_length=34)] = Field(
        examples=["my-tuned-zoo"]
    )
    """Name of the proposed zoo."""
    zoo: str = Field(examples=["mnist5k-cnn-s"])
    """The zoo that defines everything else: data, architecture, batch size, seeds, axes that are not searched."""
    ranges: Ranges = Field(examples=["{learning_rate: {low: 1e-5, high: 1, scale: log}}"])
    num_trials: Annotated[int, Field(gt=0)] = 64
    """Models to train."""
    num_epochs: Annotated[int, Field(gt=0)] = 10
    """Epochs of a trial that is not ended early."""
    num_values: Annotated[int, Field(gt=0)] = 3
    """Values of each searched number in the proposed grid."""
    best_ratio: Annotated[Number, Field(gt=0, le=1)] = 0.25
    """Share of the trials, the best ones, that the grid is proposed from."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Seed of the draws."""

    @classmethod
    def from_yaml(cls, text: str, where: str) -> "TuneSpec":
        """The spec in YAML ``text``. Raises InputError, in one line that begins with ``where``, if it is none."""
        return validated(cls, yaml_values(text, where), where)


@dataclass(frozen=True, slots=True)
class Trial:
    """One model: its hyperparameters, validation accuracy after its last epoch, None if it became faulty."""

    values: dict[str, Any]
    accuracy: float | None = None
    num_epochs: int = 0


def draws(spec: TuneSpec, base: ZooSpec) -> list[dict[str, Any]]:
    """Hyperparameters of every trial, equal for equal specs: searched axes are drawn, all others are fixed."""
    generator = np.random.default_rng(spec.seed)
    trials: list[dict[str, Any]] = []
    for _ in range(spec.num_trials):
        values = fixed(spec, base)
        for axis in FIRST_AXES:
            ratio = generator.random()  # one per axis, searched or not: naming one more axis moves no other
            searched = getattr(spec.ranges, axis)
            if isinstance(searched, Range):
                values[axis] = float(searched.at(ratio))
            elif searched is not None:
                values[axis] = searched[int(ratio * len(searched))]
        trials.append({axis: values[axis] for axis in AXIS_ORDER})
    return trials


def fixed(spec: TuneSpec, base: ZooSpec) -> dict[str, Any]:
    """Axes that are not searched, each with the value that all trials have: the first of the zoo."""
    return {axis: base.axis_values(axis)[0] for axis in AXIS_ORDER if axis not in spec.ranges.searched}


def trial_zoo(base: ZooSpec, values: dict[str, Any]) -> ZooSpec:
    """A zoo of one model with these hyperparameters."""
    value = base.to_json() | {
        "axes": {axis: [values[axis]] for axis in AXIS_ORDER},
        "seeds": [base.seeds.values[0] if base.seeds.values else 1],
        **dict.fromkeys(("seeds_per_cell", "seed_salt", "imported_seeds", "sparsify")),
        "extend": [],
        "schedule": None,
    }
    return ZooSpec.from_json(value, f"a trial of {base.name}")


def _is_among_the_best(axis: str, choice: Any, top: Sequence[Trial], trials: Sequence[Trial]) -> bool:
    tried: int = sum(trial.values[axis] == choice for trial in trials)
    won: int = sum(trial.values[axis] == choice for trial in top)
    return won > 0 and won / tried >= EVEN_SHARE * len(top) / len(trials)


def best(trials: Sequence[Trial], ratio: float) -> list[Trial]:
    """The best ``ratio`` of all trials, the best first, at least two; trials that became faulty are left out."""
    finite = sorted((t for t in trials if t.accuracy is not None), key=lambda t: -(t.accuracy or 0.0))
    return finite[: max(2, math.ceil(ratio * len(trials)))]


def proposal(spec: TuneSpec, base: ZooSpec, trials: Sequence[Trial]) -> ZooSpec:
    """The grid that the best trials span.

    A searched number has ``num_values`` values between the quantiles of the best trials. A searched choice has the
    values whose trials are among the best often enough; values that lost are dropped. What was not searched keeps the
    one value that all trials had.

    Raises ValueError if no trial stayed finite.
    """
    top = best(trials, spec.best_ratio)
    if not top:
        raise ValueError("no trial stayed finite")
    axes: dict[str, list[Any]] = {axis: [value] for axis, value in fixed(spec, base).items()}
    for axis in FIRST_AXES:
        searched = getattr(spec.ranges, axis)
        if isinstance(searched, Range):
            low, high = np.quantile([trial.values[axis] for trial in top], TOP_QUANTILES)
            span = Range.model_construct(low=float(low), high=float(high), scale=searched.scale)
            ratios = np.linspace(0, 1, spec.num_values) if spec.num_values > 1 else [0.5]
            axes[axis] = list(dict.fromkeys(float(f"{value:.2g}") for value in np.atleast_1d(span.at(ratios))))
        elif searched is not None:
            axes[axis] = [choice for choice in searched if _is_among_the_best(axis, choice, top, trials)]
    value = base.to_json() | {
        "name": spec.name,
        "description": f"Proposed from the best {len(top)} of {len(trials)} trials on {base.name}.",
        "source": f"zoo tune over {', '.join(sorted(spec.ranges.searched))}, {spec.num_epochs} epochs",
        "origin": "ours",
        "reference": None,
        "reference_twins": None,
        "conflicts": [],
        "axes": axes,
        "extend": [],
        "imported_seeds": None,
    }
    return ZooSpec.from_json(value, spec.name)
