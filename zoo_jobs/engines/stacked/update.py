"""One step of torch's SGD, Adam, AdamW and RMSprop for P models, in place, each model with its own hyperparameters.

Shape suffixes: P = models, T = trained values of a model. Everything stays on the device.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from ...models.optimizers import OptimizerName
from ..contract import Hyperparameters

BETA_1, BETA_2, EPS = 0.9, 0.999, 1e-8  # torch.optim.Adam's defaults
ALPHA = 0.99  # torch.optim.RMSprop's default; eps is Adam's


class Update:
    """Applies an optimizer step to ``values_PT``. It rounds hyperparameters to float32 where torch rounds them."""

    def __init__(
        self, optimizer: OptimizerName, h: Hyperparameters, device: torch.device, decayed_T: Tensor | None = None
    ) -> None:
        """``decayed_T`` [T] is true for the values that weight decay shrinks; None means all values."""
        self._optimizer, self._decayed_T = optimizer, decayed_T
        self._columns = [column.to(device) for column in _columns(h)]
        self._rate, self._minus_rate, self._decay, self._momentum, self._nesterov, self._decay_64 = self._columns
        # These flags are on the host, so every step takes the same branches.
        self._branches = self._any_decay, self._any_momentum, self._any_nesterov = _branches(h)

    def load(self, h: Hyperparameters) -> bool:
        """Use the hyperparameters of other models. Returns False, and changes nothing, if they need other branches."""
        if _branches(h) != self._branches:
            return False
        for column, values in zip(self._columns, _columns(h), strict=True):
            column.copy_(values)
        return True

    def __call__(self, values_PT: Tensor, grads_PT: Tensor, moments: dict[str, Tensor], step_P: Tensor) -> None:
        """``step_P`` includes this step: it is 1 at the first."""
        if self._any_decay and self._optimizer != "adamw":
            decayed_PT = values_PT if self._decayed_T is None else values_PT * self._decayed_T
            grads_PT = torch.addcmul(grads_PT, decayed_PT, self._decay)
        STEPS[self._optimizer](self, values_PT, grads_PT, moments, step_P)

    def sgd(self, values_PT: Tensor, grads_PT: Tensor, moments: dict[str, Tensor], step_P: Tensor) -> None:
        del step_P
        buffer_PT = moments["momentum_buffer"]
        direction = self._with_momentum(grads_PT, buffer_PT)
        if self._any_nesterov:
            ahead = torch.addcmul(grads_PT, buffer_PT, self._momentum)
            direction = torch.where(self._nesterov, ahead, direction)
        values_PT.addcmul_(direction, self._minus_rate)

    def adam(self, values_PT: Tensor, grads_PT: Tensor, moments: dict[str, Tensor], step_P: Tensor) -> None:
        """One Adam step. The bias corrections are computed from the step count in double precision."""
        mean_PT, square_PT = moments["exp_avg"], moments["exp_avg_sq"]
        step = step_P.double()[:, None]
        correction_1 = 1 - torch.pow(BETA_1, step)
        correction_2_sqrt = torch.sqrt(1 - torch.pow(BETA_2, step)).float()
        minus_step_size = (-self._rate / correction_1).float()
        mean_PT.lerp_(grads_PT, 1 - BETA_1)
        square_PT.mul_(BETA_2).addcmul_(grads_PT, grads_PT, value=1 - BETA_2)
        denominator = (square_PT.sqrt() / correction_2_sqrt).add_(EPS)
        values_PT.addcmul_(minus_step_size, mean_PT / denominator)

    def adamw(self, values_PT: Tensor, grads_PT: Tensor, moments: dict[str, Tensor], step_P: Tensor) -> None:
        """Shrink the weights first, by rate times decay, rounded once. The moments use the gradient without decay."""
        if self._any_decay:
            kept = (1 - self._rate * self._decay_64).float()
            values_PT.mul_(kept if self._decayed_T is None else torch.where(self._decayed_T, kept, 1.0))
        self.adam(values_PT, grads_PT, moments, step_P)

    def rmsprop(self, values_PT: Tensor, grads_PT: Tensor, moments: dict[str, Tensor], step_P: Tensor) -> None:
        del step_P
        square_PT, buffer_PT = moments["square_avg"], moments["momentum_buffer"]
        square_PT.mul_(ALPHA).addcmul_(grads_PT, grads_PT, value=1 - ALPHA)
        direction = self._with_momentum(grads_PT / square_PT.sqrt().add_(EPS), buffer_PT)
        values_PT.addcmul_(direction, self._minus_rate)

    def _with_momentum(self, directions_PT: Tensor, buffer_PT: Tensor) -> Tensor:
        """Update the buffer; return directions with momentum. As in torch, a model without momentum keeps it."""
        if not self._any_momentum:
            return directions_PT
        has_momentum = self._momentum != 0
        moved = torch.addcmul(directions_PT, buffer_PT, self._momentum)
        torch.where(has_momentum, moved, buffer_PT, out=buffer_PT)
        return torch.where(has_momentum, moved, directions_PT)


def _branches(h: Hyperparameters) -> tuple[bool, bool, bool]:
    """For weight decay, momentum and Nesterov momentum: true if any model has it."""
    return bool(h.weight_decay_P.any()), bool(h.momentum_P.any()), bool(h.nesterov_P.any())


def _columns(h: Hyperparameters) -> list[Tensor]:
    """Hyperparameters, each [P, 1]: learning rate (float64), negative learning rate (float32), weight decay (float32),
    momentum (float32), Nesterov (bool), weight decay (float64)."""

    def column(values: object, dtype: torch.dtype) -> Tensor:
        return torch.as_tensor(values, dtype=dtype)[:, None]

    rate = column(h.learning_rate_P, torch.float64)
    decay, momentum = (column(values, torch.float32) for values in (h.weight_decay_P, h.momentum_P))
    nesterov, exact_decay = column(h.nesterov_P, torch.bool), column(h.weight_decay_P, torch.float64)
    return [rate, -rate.float(), decay, momentum, nesterov, exact_decay]


STEPS: dict[OptimizerName, Callable[[Update, Tensor, Tensor, dict[str, Tensor], Tensor], None]] = {
    "sgd": Update.sgd,
    "adam": Update.adam,
    "adamw": Update.adamw,
    "rmsprop": Update.rmsprop,
}
"""The optimizers that this engine has a step for."""
