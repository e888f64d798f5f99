"""Zoos small enough to be trained for real in a test: the catalogue's grid over 200 real digits."""

from pathlib import Path
from typing import Any

import yaml

from zooforge.zoo_jobs.catalogue.entries import FOLDER

MODELS = "0:32"
NUM_MODELS, NUM_EPOCHS, NUM_TWIN_EPOCHS = 32, 6, 4


def write(folder: Path, **fields: Any) -> Path:
    """A YAML file of the small zoo with other ``fields``; its path. None takes a field away."""
    folder.mkdir(parents=True, exist_ok=True)
    value = yaml.safe_load((FOLDER / "mnist5k-cnn-s.yaml").read_text())
    value["axes"] |= {"learning_rate": [0.001, 0.0001], "weight_decay": [0.001, 0.0001]}  # YAML 1.1 reads 1e-4 as text
    value |= {
        "name": "small",
        "split": {"train": 200, "val": 50, "test": 50, "seed": 42},
        "num_epochs": NUM_EPOCHS,
        "train_eval_epochs": [0, NUM_EPOCHS],
        "sparsify": {"method": "variational-dropout", "num_epochs": NUM_TWIN_EPOCHS},
    }
    value |= fields
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump({key: item for key, item in value.items() if item is not None}))
    return path
