"""The networks of a zoo's models as torch modules. ``Zoo`` inherits these methods."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np
from numpy.typing import NDArray

from ..errors import FormatError, StorageUsageError, import_optional
from ..read.selection import Selector
from .forms import WeightForms, to_numpy, to_rows

if TYPE_CHECKING:
    import torch

    from .stack import StackedModules


class Networks(WeightForms):
    """A zoo whose weights become networks."""

    def module(self, model: SupportsIndex, epoch: SupportsIndex | str = -1, *, masked: bool = True) -> torch.nn.Module:
        """The network of a model at an epoch as a torch module in evaluation mode, its weights loaded.

        Args:
            epoch: one whose weights are kept; -1 is the last of them.
            masked: whether pruned values of sparsified twins are zero.

        Raises:
            StorageUsageError: the manifest lists no layers to build it from; load ``state_dict`` into a module of your
                own. Also the errors of ``state_dict``.
        """
        state = self.state_dict(model, epoch, masked=masked)
        return self._module(operator.index(model), state)

    def to_module(
        self,
        vector: NDArray[Any] | torch.Tensor,
        model: SupportsIndex,
        buffers: NDArray[Any] | torch.Tensor | None = None,
    ) -> torch.nn.Module:
        """Like ``module``, with any weight vector [D] in the zoo's layout, e.g. a generated one.

        Args:
            model: one of the zoo, whose activation and dropout the module gets.
            buffers: running means and variances [B] of a network with batch normalisation, e.g. of
                ``field("buffers")``; other networks have none.

        Raises:
            StorageUsageError: a network with batch normalisation, and no buffers. Also the errors of ``module``.
        """
        index = operator.index(model)
        statistics, counters = self._statistics(index, buffers)
        return self._module(index, self.to_state_dict(to_numpy(vector).astype(np.float32), index, statistics, counters))

    def _module(self, model: int, state: Mapping[str, NDArray[Any]]) -> torch.nn.Module:
        torch_package = import_optional("torch")
        from .module import network

        row = self.row(model)
        module = network(self.manifest, row["activation"], row["dropout_ratio"] or 0.0)
        module.load_state_dict({name: torch_package.from_numpy(np.array(value)) for name, value in state.items()})
        return module.eval()

    def stacked_modules(
        self,
        models: Selector = None,
        epoch: Selector = -1,
        *,
        split: str | None = None,
        where: str | None = None,
        masked: bool = True,
    ) -> StackedModules:
        """The networks of many models in one, for ``torch.func``: ``zoo.stacked_modules([3, 7])(images)`` [2, B, K].

        Args:
            models, epoch, split, where, masked: as for ``weights``, in the same order; -1 is the last kept epoch.

        Returns:
            The network as ``module``, its ``params`` and ``buffers`` with an axis of states in front, as
            ``torch.func.functional_call`` and ``torch.vmap`` take them.

        Raises:
            StorageUsageError: models of several activations, or nothing fits. Also the errors of ``module``.
        """
        import_optional("torch")
        from .stack import stack_modules

        return stack_modules(self, self.select(epoch, models, split, where), masked)

    def to_stacked_modules(
        self, vectors: NDArray[Any] | torch.Tensor, model: SupportsIndex, buffers: Any = None
    ) -> StackedModules:
        """Like ``stacked_modules``, for any weight vectors [N, D], e.g. generated ones.

        Gradients reach ``vectors`` if it is a tensor, so that a loss may depend on what the networks do.

        Args:
            model: one of the zoo, whose activation all of them get.
            buffers: as for ``to_module``, [N, B].

        Raises:
            StorageUsageError: a network with batch normalisation, and no buffers. FormatError: vectors of another size.
        """
        torch_package = import_optional("torch")
        from .stack import stack_vectors

        values: Any = vectors
        is_tensor = isinstance(values, torch_package.Tensor) and values.ndim == 2
        values = values.float() if is_tensor else to_rows(values)
        if values.shape[1] != self.layout.size:
            raise FormatError(f"vectors of {values.shape[1]:,} values, the layout has {self.layout.size:,}")
        statistics, counters = self._statistics(operator.index(model), buffers)
        if statistics is not None and counters is not None:
            counters = np.tile(counters, (len(values), 1))
        none = np.full(len(values), -1, np.int32)
        activation = self.row(operator.index(model))["activation"]
        return stack_vectors(self, values, activation, none, none, statistics, counters)

    def _statistics(self, model: int, buffers: Any) -> tuple[NDArray[np.float32] | None, NDArray[np.int64] | None]:
        """Running means and variances as an array, and counters of zero; None for networks that have none."""
        if ".buffers" not in self.manifest.fields:
            return None, None
        if buffers is None:
            raise StorageUsageError(
                f"zoo {self.name!r}: its networks have running means and variances, which are no weights; pass "
                f'buffers, e.g. zoo.field("buffers", models={model}, epochs=-1)[0][0]'
            )
        return to_numpy(buffers).astype(np.float32), np.zeros(len(self.manifest.architecture["counters"]), np.int64)
