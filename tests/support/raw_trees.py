"""Trees as the reference's programs write them, made with torch, and a loader that follows the reference's rules."""

import json
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from zooforge.storage.interchange.raw.import_tree import Imported
from zooforge.storage.ops.verify import verify_zoo
from zooforge.storage.stores.protocol import ObjectStore
from zooforge.storage.zoo import Zoo, open_zoo
from zooforge.zoo_jobs.models.layers import ActivationName, Architecture
from zooforge.zoo_jobs.models.registry import architecture

SMALL = [(0, "conv2d"), (3, "conv2d"), (6, "conv2d"), (9, "fc"), (11, "fc")]
RESULT_KEYS = ["test_acc", "training_iteration", "ggap"]
CONFIG_KEYS = [
    "model::nlin",
    "model::init_type",
    "optim::optimizer",
    "model::dropout",
    "optim::lr",
    "optim::wd",
    "seed",
]


def small(dropout: bool = False, channels: int = 1, activation: ActivationName = "tanh") -> Architecture:
    network = architecture("cnn-s", channels, activation, dropout)
    assert isinstance(network, Architecture)
    return network


def vector(network: Architecture, model: int, epoch: int) -> NDArray[np.float32]:
    """[D], a function of its arguments."""
    return np.random.default_rng([model, epoch]).standard_normal(network.layout.size, np.float32)


def save_checkpoint(folder: Path, network: Architecture, values: NDArray[np.float32]) -> None:
    """Write a checkpoint as the reference's trial does at the end of an epoch: an OrderedDict with module metadata."""
    module = torch.nn.Module()
    tensors = {
        network.state_dict_names[name]: torch.from_numpy(np.array(tensor))
        for name, tensor in network.layout.unflatten(values).items()
    }
    saved = module.state_dict()
    saved.update(tensors)
    folder.mkdir(parents=True)
    torch.save(saved, folder / "checkpoints")
    torch.save({"state": {}, "param_groups": []}, folder / "optimizer")


def config(seed: int, dropout: float = 0, **changes: Any) -> dict[str, Any]:
    return {
        "cuda": False,
        "dataset::dump": "/somewhere/data/MNIST/dataset.pt",
        "model::channels_in": 1,
        "model::dropout": dropout,
        "model::init_type": "uniform",
        "model::nlin": "tanh",
        "model::o_dim": 4,
        "model::type": "CNN",
        "optim::lr": 0.0003,
        "optim::optimizer": "adam",
        "optim::wd": 0,
        "seed": seed,
        "training::batchsize": 10,
        "training::epochs_train": 3,
        **changes,
    }


def result(epoch: int, settings: Mapping[str, Any], test_correct: int, *, old: bool) -> dict[str, Any]:
    """A row as the reference's trainable reports it; the older one has no train metrics at epoch 0 and no val."""
    train = 0.8 + 0.01 * epoch
    row = {
        "config": dict(settings),
        "date": "2022-05-31_10-00-00",
        "done": False,
        "hostname": "somewhere",
        "pid": 4711,
        "test_acc": test_correct / 10_000,
        "test_loss": 0.5 / (1 + epoch),
        "train_acc": -999 if old and epoch == 0 else train,
        "train_loss": -999 if old and epoch == 0 else 1.0 - train,
        "training_iteration": epoch,
        "trial_id": "abcde_00000",
    }
    if not old:
        row.update(val_acc=0.75, val_loss=0.25)
    return row


def write_model(
    root: Path,
    index: int,
    *,
    dropout: float = 0,
    epochs: Sequence[int] = (0, 1, 2, 3),
    old: bool = True,
    padded: bool = True,
    settings: Mapping[str, Any] | None = None,
    name: str | None = None,
) -> Path:
    """Write one trial of Ray 1.8. Returns its folder."""
    chosen = dict(settings or config(index + 1, dropout))
    folder = root / (
        name or f"NN_tune_trainable_{0xABCDE - index:05x}_{index:05d}_{index}_seed={index + 1}_2022-05-31_10-00-00"
    )
    network = small(dropout > 0, chosen["model::channels_in"])
    for epoch in epochs:
        save_checkpoint(
            folder / f"checkpoint_{epoch:{'06d' if padded else 'd'}}", network, vector(network, index, epoch)
        )
    (folder / "params.json").write_text(json.dumps(chosen, indent=2, sort_keys=True))
    rows = [result(epoch, chosen, 100 * index + epoch, old=old) for epoch in epochs]
    (folder / "result.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


class ReferenceDataset:
    """The reference's ``ModelDatasetBase``, rule by rule."""

    def __init__(
        self,
        root: Path,
        layers: Sequence[tuple[int, str]],
        epochs: Sequence[int],
        split: str,
        *,
        weight_threshold: float = float("inf"),
        filter_function: Callable[[Path], bool] | None = None,
    ) -> None:
        folders = [path for path in root.iterdir() if path.is_dir()]  # in the order of the file system
        random.Random(42).shuffle(folders)
        first, second = int(0.7 * len(folders)), int(0.15 * len(folders))
        bounds = {"train": (0, first), "val": (first, first + second), "test": (first + second, len(folders))}
        self.paths: list[Path] = []
        self.epochs: list[int] = []
        vectors = []
        for path in folders[slice(*bounds[split])]:
            for epoch in epochs:
                state = self._checkpoint(path, epoch)
                if state is None:
                    continue
                chosen = [
                    state[key]
                    for layer, _ in layers
                    for key in (f"module_list.{layer}.weight", f"module_list.{layer}.bias")
                    if key in state
                ]
                if any(torch.isnan(tensor).any() for tensor in chosen) or (filter_function and filter_function(path)):
                    continue
                if any((tensor.abs() > weight_threshold).any() for tensor in chosen):
                    continue
                vectors.append(torch.cat([tensor.reshape(-1) for tensor in chosen]).numpy())
                self.paths.append(path)
                self.epochs.append(epoch)
        self.weights = np.stack(vectors) if vectors else np.zeros((0, 0), np.float32)
        self.properties = self._properties(1) or self._properties(0) or {}

    @staticmethod
    def _checkpoint(path: Path, epoch: int) -> Any:
        for name in (f"checkpoint_{epoch}", f"checkpoint_{epoch:06d}"):
            if (path / name / "checkpoints").is_file():
                return torch.load(path / name / "checkpoints", map_location="cpu", weights_only=True)
        return None

    def _properties(self, offset: int) -> dict[str, list[Any]] | None:
        """Properties by position of the line. None if the first sample's row has another epoch."""
        columns: dict[str, list[Any]] = {key: [] for key in (*RESULT_KEYS, *CONFIG_KEYS)}
        for number, (path, epoch) in enumerate(zip(self.paths, self.epochs, strict=True)):
            row = [json.loads(line) for line in (path / "result.json").read_text().splitlines()][epoch - offset]
            if number == 0 and int(row["training_iteration"]) != epoch:
                return None
            for key in RESULT_KEYS:
                columns[key].append(row["train_acc"] - row["test_acc"] if key == "ggap" else row[key])
            for key in CONFIG_KEYS:
                columns[key].append(row["config"][key])
        return columns


def opened(store: ObjectStore, imported: Imported) -> Zoo:
    zoo = open_zoo(f"{store.url}/zoos/{imported.version.zoo}")
    assert verify_zoo(zoo).problems == ()
    return zoo


def label_rows(zoo: Zoo, model: int) -> list[dict[str, Any]]:
    table: list[dict[str, Any]] = zoo.labels(models=model).to_pylist()
    return table
