"""Training as plain PyTorch does it, one model at a time."""

from typing import Any

import numpy as np
import torch
from torch.nn import functional as F  # noqa: N812

from zooforge.zoo_jobs.engines import philox
from zooforge.zoo_jobs.engines.batches import pixels
from zooforge.zoo_jobs.models.layers import Dropout
from zooforge.zoo_jobs.models.torch_module import state_dict, torch_module


class MaskedDropout(torch.nn.Module):
    """Dropout with masks from Philox. The training loop sets ``where``."""

    def __init__(self, seed: int, layer: int, ratio: float) -> None:
        super().__init__()
        self.seed, self.layer, self.ratio, self.where = seed, layer, ratio, (0, 0)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return values
        epoch, step = self.where
        kept = philox.keep_mask(
            self.seed, epoch=epoch, step=step, layer=self.layer, num_samples=len(values),
            num_values=values[0].numel(), ratio=self.ratio,
        )  # fmt: skip
        return values * torch.from_numpy(kept).view(values.shape) / (1 - self.ratio)


def plain_pytorch(population: Any, data: Any, model: int, epochs: range) -> tuple[np.ndarray, float, int]:
    """Train with a module, torch.optim and a loop, without the project's engine. Returns weights, loss sum, correct."""
    program, h = population.program, population.hyperparameters
    seed, ratio = int(h.seed_P[model]), float(h.dropout_ratio_P[model])
    module = torch_module(program.architecture, ratio)
    module.load_state_dict(state_dict(program.architecture, population.state["weights"][model]), strict=True)
    dropouts = [i for i, layer in enumerate(program.architecture.layers) if isinstance(layer, Dropout)]
    for layer, index in enumerate(dropouts if program.dropout else []):
        module.module_list[index] = MaskedDropout(seed, layer, ratio)
    common = {"lr": float(h.learning_rate_P[model]), "weight_decay": float(h.weight_decay_P[model])}
    momentum = {"momentum": float(h.momentum_P[model])}
    optimizer = {
        "sgd": lambda p: torch.optim.SGD(p, nesterov=bool(h.nesterov_P[model]), **common, **momentum),
        "adam": lambda p: torch.optim.Adam(p, **common),
        "rmsprop": lambda p: torch.optim.RMSprop(p, **common, **momentum),
    }[program.optimizer](module.parameters())
    images = torch.from_numpy(pixels(data.pixel_values, data.train.images))
    labels = torch.from_numpy(data.train.labels.astype(np.int64))
    for epoch in epochs:
        loss_sum, correct = 0.0, 0
        order = torch.from_numpy(philox.permutation(seed, epoch, len(labels)))
        for step, rows in enumerate(order.split(program.batch_size)):
            for layer in module.modules():
                if isinstance(layer, MaskedDropout):
                    layer.where = epoch, step
            optimizer.zero_grad()
            logits = module(images[rows])
            loss = F.cross_entropy(logits, labels[rows])
            loss.backward()
            optimizer.step()
            loss_sum += loss.item() * len(rows)
            correct += int((logits.argmax(1) == labels[rows]).sum())
    return torch.cat([p.detach().reshape(-1) for p in module.parameters()]).numpy(), loss_sum, correct
