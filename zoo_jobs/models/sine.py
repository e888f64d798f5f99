"""The sine activation, of which torch has no module."""

import torch
from torch import Tensor, nn


class Sine(nn.Module):
    """sin(omega x). Source: Sitzmann et al. (2020), arXiv:2006.09661."""

    def __init__(self, omega: float = 1.0) -> None:
        super().__init__()
        self.omega = omega

    def forward(self, values: Tensor) -> Tensor:
        return torch.sin(values if self.omega == 1.0 else values * self.omega)

    def extra_repr(self) -> str:
        return f"omega={self.omega}"
