"""P models on one device, each of which learns one image. A step takes all pixels of every model's image.

Shape suffixes: P = models, B = pixels, K = channels.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...tasks.image_regression import coordinates, targets
from ..contract import Evaluation, Hyperparameters, Running, SplitName, StateArrays, image_evaluation
from .session import StackedSession


class ImageSession(StackedSession):
    """See ``contract.Session``. All models share the coordinates, and training draws no random numbers."""

    def _arrays(self, h: Hyperparameters, state: StateArrays) -> StateArrays:
        if h.image_P is None:
            raise ValueError("models that learn images need to know which")
        pixels_PBK = targets(self._data.train.images[h.image_P], self._data.pixel_values)
        return {**super()._arrays(h, state), "pixels": pixels_PBK}

    def train_epoch(self, epoch: int, active_P: NDArray[np.bool_]) -> Running:
        del epoch
        num_steps, size = self._program.steps_per_epoch, self._program.batch_size
        with self._place.active():
            self._copies.forget()
            self._sums.zero_()
            for _ in range(num_steps):
                self._place.run("step", self._image_step)
            self._copies.start()
            correct_P = np.zeros(self._num_models, np.int32)
            num_samples_P = np.full(self._num_models, num_steps * size, np.int32)
            return Running(self._read_sums()[0], correct_P, num_samples_P)

    def evaluate(self, split: SplitName) -> Evaluation:
        if split != "train":
            raise ValueError(f"models that learn images have no split {split}")
        with self._place.active(), torch.no_grad():
            self._evaluated_PD.copy_(self._network.masked(self._values_PT))
            self._sums.zero_()
            self._place.run("evaluate", self._evaluate_images)
            return image_evaluation(self._read_sums()[0], self._program.batch_size)

    def _put(self, h: Hyperparameters, state: StateArrays) -> None:
        super()._put(h, state)
        side = self._data.train.images.shape[-1]
        self._coordinates_1B2 = torch.tensor(coordinates(side), device=self._device)[None]

    def _image_step(self) -> None:
        loss_P = self._errors_PB(self._values_PT).mean(dim=1)
        (grads_PT,) = torch.autograd.grad(loss_P.sum(), self._values_PT)
        with torch.no_grad():
            self._step(grads_PT)
            self._loss_sum_P += loss_P.double() * self._program.batch_size

    def _evaluate_images(self) -> None:
        self._loss_sum_P += self._errors_PB(self._evaluated_PD).double().sum(dim=1)

    def _errors_PB(self, values_PD: Tensor) -> Tensor:
        """The squared error of each pixel, averaged over its channels."""
        outputs_PBK = self._network.logits(values_PD, self._coordinates_1B2)
        return ((outputs_PBK - self._inputs["pixels"]) ** 2).mean(dim=2)
