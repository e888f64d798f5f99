"""One model that is a torch module (ResNet-18, or a user's code): the arithmetic of the engine ``sequential``.

The tensors of the module are views of flat rows.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (torch's own name for it)

from ...models.code_module import dropouts
from ...models.registry import Architecture, CodeNetwork
from ...models.torch_module import torch_module
from ..contract import Program
from ..precision import autocast
from ..random_layers import RandomLayer
from .draws import Steps, draws, dropout_masks


class ModuleModel:
    """Computes loss and logits of the model whose rows are bound. Parameters, gradients and buffers are their views."""

    def __init__(self, program: Program, device: torch.device) -> None:
        network = program.architecture
        if isinstance(network, Architecture):
            raise ValueError(f"{network.name} is a layer list")
        self._network = network
        self._device = device
        self._precision = program.precision
        self._memory_format = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}[
            program.memory_format
        ]
        self._module = torch_module(network).to(device)
        self._dropouts = dropouts(self._module)
        shapes = dict(network.dropouts) if isinstance(network, CodeNetwork) and program.dropout else {}
        self._random = [RandomLayer(n, shapes[name]) for n, name in enumerate(self._dropouts) if name in shapes]
        self.parameters = [dict(self._module.named_parameters())[entry.name] for entry in network.layout.entries]
        """The parameters in the order of the layout. Gradients are computed with respect to them."""
        self._gradient_D = torch.zeros(network.layout.size, device=device)

    def bind(self, rows: Mapping[str, Tensor]) -> Tensor:
        """Bind ``values`` [D], ``buffers`` and ``counters`` of ``rows`` to the module. Returns the values."""
        values_D = rows["values"]
        values_D.grad = self._gradient_D
        parameters = dict(self._module.named_parameters())
        for entry in self._network.layout.entries:
            parameter = parameters[entry.name]
            parameter.data = values_D[entry.offset : entry.stop].view(entry.shape)
            parameter.grad = self._gradient_D[entry.offset : entry.stop].view(entry.shape)
        modules = dict(self._module.named_modules())
        for entry in self._network.buffer_layout.entries:
            owner, _, name = entry.name.rpartition(".")
            setattr(modules[owner], name, rows["buffers"][entry.offset : entry.stop].view(entry.shape))
        for i, counter in enumerate(self._network.counter_names):
            owner, _, name = counter.rpartition(".")
            setattr(modules[owner], name, rows["counters"][i])
        return values_D

    def training_loss(
        self, images: Tensor, labels: Tensor, masks: Sequence[Tensor], kl_weight: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the loss that is minimised, the mean cross-entropy (the same tensor), and the logits [B, K]."""
        del kl_weight
        for layer, mask in zip(self._dropouts.values(), masks, strict=bool(self._random)):
            layer.mask = mask
        self._gradient_D.zero_()
        self._module.train()
        logits = self._logits(images)
        loss = F.cross_entropy(logits, labels)
        return loss, loss, logits

    def logits(self, images: Tensor) -> Tensor:
        """Logits [B, K] in eval mode."""
        self._module.eval()
        return self._logits(images)

    def _logits(self, images: Tensor) -> Tensor:
        with autocast(self._device, self._precision):
            logits: Tensor = self._module(images.contiguous(memory_format=self._memory_format))
        return logits.float()

    def draw(
        self, seed: int, ratio: float, epoch: int, first_step: int, sizes: Sequence[int]
    ) -> Iterator[tuple[Tensor, ...]]:
        """Yield a tuple for each step, with one scaled mask per dropout layer. Without dropout the tuples are empty."""
        draw_layer = partial(dropout_masks, ratio=ratio)
        return draws(self._random, draw_layer, Steps(seed, epoch, first_step, tuple(sizes)), self._device)
