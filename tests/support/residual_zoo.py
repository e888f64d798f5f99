"""A published zoo of narrow ResNet-18s, with buffers and counters, small enough for tests."""

from dataclasses import replace

import numpy as np
import torch

from tests.support.synthetic import RUN, description, part_data
from zooforge.storage.formats.layout import Layout
from zooforge.storage.publish.seal import vectorize
from zooforge.storage.runs.commit import commit_part
from zooforge.storage.stores.memory import MemoryStore
from zooforge.storage.views.resnet18 import ResNet18Module

WIDTHS = (2, 3, 4, 5)


def residual_module(model: int) -> ResNet18Module:
    """The network of a model. All its parameters and running statistics are random, so that an exchange would show."""
    module = ResNet18Module(1, 3, WIDTHS)
    generator = torch.Generator().manual_seed(model)
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if name.endswith("num_batches_tracked"):
                tensor.fill_(7 + model)
            else:
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.1)
    return module.eval()


def residual_zoo(num_models: int = 3) -> MemoryStore:
    """``num_models`` models at epoch 0."""
    modules = [residual_module(model) for model in range(num_models)]
    layout = Layout.of([(name, tuple(p.shape)) for name, p in modules[0].named_parameters()])
    buffers = {n: b for n, b in modules[0].named_buffers() if b.dtype == torch.float32}
    buffers_layout = Layout.of([(name, tuple(b.shape)) for name, b in buffers.items()])
    counters = tuple(name for name, b in modules[0].named_buffers() if b.dtype == torch.int64)
    states = [{name: tensor.numpy() for name, tensor in module.state_dict().items()} for module in modules]

    def rows(part: Layout) -> np.ndarray:
        return np.stack([part.flatten({e.name: state[e.name] for e in part}) for state in states])

    counts = np.array([[int(state[name]) for name in counters] for state in states], np.int64)
    made = part_data(range(num_models), 0, size=layout.size)
    fields = {"": {0: rows(layout)}, ".buffers": {0: rows(buffers_layout)}, ".counters": {0: counts}}
    store = MemoryStore()
    commit_part(store, RUN, replace(made, fields=fields), "20260101T000000Z-0001")
    described = replace(
        description("narrow", num_models, 0, layout, "resnet18"),
        state_dict_names={"plain": {e.name: e.name for e in layout}},
        buffers_layout=buffers_layout,
        counters=counters,
        shard_shape=(4, 64),
    )
    rows_of = {model: {**row, "activation": "relu", "dropout_ratio": 0.0} for model, row in described.rows.items()}
    vectorize(store, replace(described, rows=rows_of), RUN)
    return store
