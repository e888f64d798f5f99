"""The small CNN as a function of its weight vector, in numpy."""

from typing import Any

import numpy as np

from tests.support.synthetic import LAYOUT
from zooforge.storage.formats.layout import Layout

CNN_S = Layout.of(
    [("conv1.weight", (8, 1, 5, 5)), ("conv1.bias", (8,)), ("conv2.weight", (6, 8, 5, 5)), ("conv2.bias", (6,)),
     ("conv3.weight", (4, 6, 2, 2)), ("conv3.bias", (4,)), ("linear1.weight", (20, 36)), ("linear1.bias", (20,)),
     ("linear2.weight", (10, 20)), ("linear2.bias", (10,))]
)  # fmt: skip


def logits(vectors: Any) -> Any:
    """Logits of the tiny network that LAYOUT describes, on fixed images."""
    import torch
    from torch.nn import functional

    torch.set_num_threads(1)
    images = torch.from_numpy(np.random.default_rng(0).standard_normal((4, 1, 5, 5)).astype(np.float32))
    outputs = []
    for vector in vectors:
        named = {n: torch.from_numpy(np.array(v)) for n, v in LAYOUT.unflatten(vector).items()}
        hidden = functional.conv2d(images, named["conv1.weight"], named["conv1.bias"])
        hidden = torch.tanh(functional.max_pool2d(hidden, 2)).flatten(1)
        outputs.append(functional.linear(hidden, named["linear1.weight"], named["linear1.bias"]).numpy())
    return np.stack(outputs)
