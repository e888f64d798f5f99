"""The networks of many models in one module, for ``torch.func``. Imported only when needed."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..errors import StorageUsageError
from ..read.reader import ZooReader
from ..read.selection import Selection
from .module import network


@dataclass(frozen=True, eq=False)
class StackedModules:
    """One network and the weights of N states of it: what ``torch.func.stack_module_state`` gives, and the network.

    ``stack(images)`` computes all of them at once; ``stack.params`` may be trained.

    Attributes:
        module: the network, in evaluation mode and without dropout layers; its own parameters are not used.
        params: [N, *shape] for each parameter of ``module``.
        buffers: [N, *shape] for each buffer of ``module``; none besides those of batch normalisation.
        models, epochs: [N], the states in their order; -1 for vectors that are no states of the zoo.
    """

    module: nn.Module
    params: dict[str, Tensor]
    buffers: dict[str, Tensor]
    models: NDArray[np.int32]
    epochs: NDArray[np.int32]

    def __repr__(self) -> str:
        return f"<StackedModules: {len(self)} states of {type(self.module).__name__}>"

    def __len__(self) -> int:
        """Number of states."""
        return len(self.models)

    def __call__(self, images: Tensor, *, chunk_size: int | None = None) -> Tensor:
        """Logits [N, B, K] of images [B, C, H, W]. ``chunk_size`` states are computed at once; None: all."""

        def one(params: dict[str, Tensor], buffers: dict[str, Tensor]) -> Any:
            return torch.func.functional_call(self.module, (params, buffers), (images,))

        logits: Tensor = torch.vmap(one, chunk_size=chunk_size)(self.params, self.buffers)
        return logits


def stack_modules(zoo: ZooReader, selection: Selection, masked: bool) -> StackedModules:
    """The networks of the selected states.

    Raises StorageUsageError for models with different activations, which cannot be stacked, and as ``network`` does.
    """
    rows = zoo.model_table().select(["model", "activation"]).to_pylist()
    members = set(selection.models.tolist())
    used = sorted({str(row["activation"]) for row in rows if row["model"] in members})
    if len(used) > 1:
        raise StorageUsageError(
            f"models with the activations {', '.join(used)} are no one network; select those of one, "
            f"e.g. where=\"activation == '{used[0]}'\""
        )
    if not used:
        raise StorageUsageError(f"zoo {zoo.name!r}: no state matches the selection")
    states = zoo.read(selection, masked=masked)
    buffers = zoo.read_field(selection, ".buffers")[0] if ".buffers" in zoo.manifest.fields else None
    counters = zoo.read_field(selection, ".counters")[0] if ".counters" in zoo.manifest.fields else None
    return stack_vectors(zoo, states.values, used[0], states.models, states.epochs, buffers, counters)


def stack_vectors(
    zoo: ZooReader,
    values: Any,
    activation: str | None,
    models: NDArray[np.int32],
    epochs: NDArray[np.int32],
    buffers: NDArray[np.float32] | None = None,
    counters: NDArray[np.int64] | None = None,
) -> StackedModules:
    """The networks of weight vectors [N, D], with buffers [N, B] and counters [N, C] where there are any.

    Gradients of the parameters reach ``values`` if it is a tensor.
    """
    names = zoo.manifest.state_dict_names["plain"]
    params = {names[name]: _tensor(part) for name, part in zoo.layout.unflatten(values).items()}
    named: dict[str, Tensor] = {}
    if buffers is not None:
        named = {name: _tensor(part) for name, part in zoo.buffers_layout.unflatten(buffers).items()}
    if counters is not None:
        described = zoo.manifest.architecture["counters"]
        named |= {name: _tensor(counters[:, place]) for place, name in enumerate(described)}
    return StackedModules(network(zoo.manifest, activation, 0.0).eval(), params, named, models, epochs)


def _tensor(values: Any) -> Tensor:
    """A tensor with memory of its own."""
    return values.clone() if isinstance(values, Tensor) else torch.from_numpy(np.array(values))
