"""Write the newest optimizer states of models as torch's optimizers load them. Only the store of the run has them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import ObjectMissing, StorageUsageError
from ...runs.ledger import read_ledger
from ...zoo import Zoo
from ..folders import Wanted
from ..torch_file import value_bytes
from .state_dicts import torch_state


@dataclass(frozen=True)
class OptimizerStates:
    """The optimizer state of each model, and the epoch of that state."""

    zoo: Zoo
    arrays: Mapping[int, Mapping[str, NDArray[Any]]]
    epochs: Mapping[int, int]

    @classmethod
    def of(cls, zoo: Zoo, models: Sequence[int]) -> "OptimizerStates":
        """Load the states of ``models``. Raises StorageUsageError if the store lacks one of them."""
        ledger = read_ledger(zoo.store, zoo.manifest.run)
        optimizers = {row["model"]: row["optimizer"] for row in zoo.model_table().to_pylist()}
        groups: dict[tuple[int, str], list[int]] = {}
        for model in models:
            groups.setdefault((ledger.next_part(model), optimizers[model]), []).append(model)
        missing = (
            f"zoo {zoo.name!r}: {zoo.store.url} holds no optimizer states; only the store where it was trained does"
        )
        if not groups or any(part == 0 for part, _ in groups):
            raise StorageUsageError(missing)
        arrays: dict[int, dict[str, NDArray[Any]]] = {}
        epochs = {}
        for members in groups.values():
            try:
                state = ledger.load_state(members)
            except ObjectMissing:
                raise StorageUsageError(missing) from None
            for row, model in enumerate(members):
                arrays[model] = {name: values[row] for name, values in state.arrays.items()}
                epochs[model] = state.epoch
        return cls(zoo, arrays, epochs)

    def write(self, target: Path, names: Mapping[int, str], wanted: Wanted) -> int:
        """Write the file ``optimizer`` next to each checkpoint that has a state. Returns the number of files."""
        rows = {row["model"]: row for row in self.zoo.model_table().to_pylist()}
        count = 0
        for model, epoch in self.epochs.items():
            if model in wanted.get(epoch, ()):
                value = self._value(model, rows[model])
                path = target / names[model] / f"checkpoint_{epoch:06d}" / "optimizer"
                path.write_bytes(value_bytes(value, "optimizer"))
                count += 1
        return count

    def _value(self, model: int, row: Mapping[str, Any]) -> dict[str, Any]:
        arrays = self.arrays[model]
        size = self.zoo.layout.size
        parameters = list(self._ordered(np.zeros_like(arrays["weights"]), arrays, model))
        step = np.asarray(arrays["step"], np.float32)
        states: dict[int, dict[str, Any]] = {number: {} for number in range(len(parameters))}
        for name in ("exp_avg", "exp_avg_sq", "square_avg", "momentum_buffer"):
            if name not in arrays or (name == "momentum_buffer" and not row["momentum"]):
                continue
            moments = arrays[name]
            tensors = self._ordered(moments[:size], {"log_sigma2": moments[size:]}, model)
            for number, key in enumerate(parameters):
                states[number][name] = tensors[key]
        for state in states.values():
            if row["optimizer"] != "sgd":
                state["step"] = step
        group = {**_group(row), "params": list(range(len(parameters)))}
        return {"state": {n: s for n, s in states.items() if s}, "param_groups": [group]}

    def _ordered(
        self, weights: NDArray[Any], arrays: Mapping[str, NDArray[Any]], model: int
    ) -> dict[str, NDArray[Any]]:
        """Values by parameter, in the order of the module."""
        noisy = self.zoo.manifest.noisy_layout
        extra = {} if noisy is None else {".log_sigma2": np.asarray(arrays["log_sigma2"])}
        return torch_state(self.zoo, weights, model, extra)


def _group(row: Mapping[str, Any]) -> dict[str, Any]:
    """The hyperparameters of torch's optimizer. When it loads them, all others get their defaults."""
    common = {"lr": row["learning_rate"], "weight_decay": row["weight_decay"]}
    match row["optimizer"]:
        case "adam":
            return {**common, "betas": (0.9, 0.999), "eps": 1e-08, "amsgrad": False}
        case "rmsprop":
            return {**common, "momentum": row["momentum"], "alpha": 0.99, "eps": 1e-08, "centered": False}
        case _:
            return {**common, "momentum": row["momentum"], "dampening": 0, "nesterov": bool(row["nesterov"])}
