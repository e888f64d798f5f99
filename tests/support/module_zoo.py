"""A published zoo whose manifest has layer lists and symmetries, so that its models become torch modules."""

from dataclasses import replace

from tests.support.synthetic import LAYOUT, RUN, description, train
from zooforge.storage.formats.symmetry import chain_symmetries
from zooforge.storage.publish.seal import vectorize
from zooforge.storage.stores.memory import MemoryStore

BEFORE = [
    {"type": "conv2d", "in_channels": 1, "out_channels": 2, "kernel_size": 2},
    {"type": "max_pool2d", "kernel_size": 2},
    {"type": "activation"},
]
AFTER = [{"type": "flatten"}, {"type": "linear", "in_features": 8, "out_features": 3}]
LAYERS = {"plain": [*BEFORE, *AFTER], "dropout": [*BEFORE, {"type": "dropout"}, *AFTER]}


def module_zoo(num_models: int = 8) -> MemoryStore:
    """``num_models`` models to epoch 3, whose weights are kept at epochs 0, 1 and 3."""
    store = MemoryStore()
    train(store, range(num_models), 3, kept=[0, 1, 3])
    made = replace(
        description(),
        symmetries=chain_symmetries(LAYOUT),
        layers=LAYERS,
        state_dict_names={"plain": _names(4), "dropout": _names(5)},
    )
    vectorize(store, made, RUN)
    return store


def _names(linear: int) -> dict[str, str]:
    places = {"conv1": 0, "linear1": linear}
    return {e.name: f"module_list.{places[e.layer]}.{e.name.rpartition('.')[2]}" for e in LAYOUT}
