"""Trains torch modules (ResNet-18) one after the other, with everything on the device: images, order, augmentation,
steps and sums.

The host reads no value during a step, so a GPU can capture the step as a graph. The host waits for the device once per
epoch and model. Shape suffixes: P = models, D = parameters, N = training rows, B = batch, C = classes.
"""

from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (torch's own name for it)

from ...data.prepared import PreparedData
from .. import philox
from ..batches import num_steps
from ..contract import (
    Evaluation,
    Hyperparameters,
    Program,
    Running,
    Sparsity,
    SplitName,
    StateArrays,
    decayed,
)
from ..device_session import DeviceSession
from ..one_cycle import one_cycle
from .device_images import augment_numbers, augmented
from .module_model import ModuleModel

EVALUATED_AT_ONCE = 2000  # images per block
NAMES = ("values", "momentum_buffer", "buffers", "counters")


class ModuleSession(DeviceSession):
    """See ``contract.Session``. The optimizer is SGD. The captured step works on a copy of one model's state."""

    def __init__(
        self, program: Program, hyperparameters: Hyperparameters, state: StateArrays, data: PreparedData,
        device: torch.device,
    ) -> None:  # fmt: skip
        """Raises ValueError if the optimizer is not SGD, and MemoryError if the device is full."""
        if program.optimizer != "sgd":
            raise ValueError(f"this session steps with SGD, not with {program.optimizer}")
        super().__init__(program, data, device)
        self._num_classes = program.architecture.num_classes
        with self._place.active():
            self._model = ModuleModel(program, device)
            self._put(hyperparameters, state)

    def _put(self, h: Hyperparameters, state: StateArrays) -> None:
        self._hyperparameters, self._num_models = h, len(state["weights"])
        self._step_P = state["step"].astype(np.int64)
        self._active_P = np.ones(self._num_models, np.bool_)
        arrays = {"values": state["weights"], **{name: state[name] for name in NAMES[1:]}}
        self._tensors = {name: torch.tensor(array, device=self._device) for name, array in arrays.items()}
        self._work = {name: torch.zeros_like(tensor[0]) for name, tensor in self._tensors.items()}
        self._model.bind(self._work)
        self._copies = self._place.host_copies(self._tensors)
        num_rows, device = len(self._data.train), self._device
        steps = num_steps(num_rows, self._program.batch_size)
        self._order_N = torch.zeros(num_rows, dtype=torch.int64, device=device)
        self._told_N = torch.zeros(num_rows, dtype=torch.int64, device=device)  # labels with which a model trains
        words_N4 = np.zeros((num_rows, 4), np.uint32)
        numbers = augment_numbers(words_N4, self._program.augment) if self._program.augment else {}
        self._augment_N = {name: torch.tensor(values, device=device) for name, values in numbers.items()}
        self._minus_rate, self._momentum = (torch.zeros(steps, device=device) for _ in range(2))
        self._epoch_step, self._first_image = (torch.zeros((), dtype=torch.int64, device=device) for _ in range(2))
        of_each = torch.from_numpy(decayed(self._program)).to(device)
        self._decayed = torch.ones((), device=device) if self._program.decays_biases else of_each.float()
        self._weight_decay = torch.zeros_like(self._decayed)
        # Sums of losses and of correct predictions; in evaluations, also correct and all predictions per class.
        self._sums = torch.zeros(2 + 2 * self._num_classes, dtype=torch.float64, device=device)

    def load(self, hyperparameters: Hyperparameters, state: StateArrays) -> bool:
        """Always False, because the models of a chunk already take turns in one session."""
        del hyperparameters, state
        return False

    def train_epoch(self, epoch: int, active_P: NDArray[np.bool_]) -> Running:
        """Inactive models do not change; their sums are NaN and 0."""
        self._active_P = active_P.copy()
        size = self._program.batch_size
        num_rows_P = self._hyperparameters.num_rows(self._data, "train")
        loss_sum_P, correct_P = np.full(self._num_models, np.nan), np.zeros(self._num_models, np.int32)
        with self._place.active():
            self._copies.forget()
            for i in np.flatnonzero(active_P):
                num_rows = int(num_rows_P[i])
                self._prepare(int(i), epoch, num_rows)
                for first in range(0, num_rows, size):
                    rows = min(size, num_rows - first)
                    self._place.run(("step", rows, self._nesterov), partial(self._train_step, rows))
                for name, tensor in self._tensors.items():
                    tensor[i].copy_(self._work[name].detach())
                self._step_P[i] += num_steps(num_rows, size)
                loss_sum_P[i], correct_P[i] = self._read_sums()[:2]
            self._copies.start()
        return Running(loss_sum_P, correct_P, num_rows_P)

    def evaluate(self, split: SplitName) -> Evaluation:
        """Models that were inactive in the last epoch are not evaluated; their sums are NaN and 0."""
        num_rows_P = self._hyperparameters.num_rows(self._data, split)
        loss_sum_P, correct_P = np.full(self._num_models, np.nan), np.zeros(self._num_models, np.int32)
        class_correct_PC, class_predicted_PC = np.zeros((2, self._num_models, self._num_classes), np.int32)
        with self._place.active(), torch.no_grad():
            self._split(split)
            for i in np.flatnonzero(self._active_P):
                num_images = int(num_rows_P[i])
                self._load_work(int(i))
                if split == "train":
                    subset = self._hyperparameters.training_rows(self._data, int(i))
                    self._order_N[:num_images].copy_(torch.from_numpy(subset))
                self._first_image.zero_()
                self._sums.zero_()
                for first in range(0, num_images, EVALUATED_AT_ONCE):
                    rows = min(EVALUATED_AT_ONCE, num_images - first)
                    self._place.run((split, rows), partial(self._evaluate_block, split, rows))
                sums = self._read_sums()
                loss_sum_P[i], correct_P[i] = sums[:2]
                class_correct_PC[i], class_predicted_PC[i] = np.split(sums[2:], 2)
        return Evaluation(loss_sum_P, correct_P, num_rows_P, class_correct_PC, class_predicted_PC)

    def sparsity(self) -> Sparsity:
        raise ValueError("only twins have a sparsity")

    def state(self) -> StateArrays:
        with self._place.active():
            arrays: dict[str, Any] = {name: tensor.numpy() for name, tensor in self._copies.read().items()}
        return {"weights": arrays.pop("values"), **arrays, "step": self._step_P.copy()}

    def _prepare(self, i: int, epoch: int, num_rows: int) -> None:
        """Copy model ``i``, and its order, augmentation and schedule of ``epoch``, to the tensors of the step."""
        program, h = self._program, self._hyperparameters
        size, seed = program.batch_size, int(h.seed_P[i])
        self._split("train")
        self._load_work(i)
        order = h.training_rows(self._data, i)[philox.permutation(seed, epoch, num_rows)]
        self._order_N[:num_rows].copy_(torch.from_numpy(order))
        self._told_N.copy_(torch.from_numpy(h.training_labels(self._data, i)))
        steps = num_steps(num_rows, size)
        if program.augment is not None:
            words = philox.augment_words(seed, epoch=epoch, step=np.arange(steps), num_samples=size)
            for name, values in augment_numbers(words.reshape(-1, 4)[:num_rows], program.augment).items():
                self._augment_N[name][:num_rows].copy_(torch.from_numpy(values))
        rate, first = float(h.learning_rate_P[i]), int(self._step_P[i])
        pairs = [(rate, float(h.momentum_P[i]))] * steps
        if program.schedule is not None:
            total = program.schedule.total_steps
            pairs = [one_cycle(step, total, rate) for step in range(first, first + steps)]
        self._minus_rate[:steps].copy_(torch.tensor([-pair[0] for pair in pairs], dtype=torch.float64))
        self._momentum[:steps].copy_(torch.tensor([pair[1] for pair in pairs], dtype=torch.float64))
        self._weight_decay.copy_(self._decayed * float(h.weight_decay_P[i]))
        self._nesterov = bool(h.nesterov_P[i])
        self._epoch_step.zero_()
        self._sums.zero_()

    def _load_work(self, i: int) -> None:
        with torch.no_grad():
            for name, tensor in self._tensors.items():
                self._work[name].copy_(tensor[i])

    def _train_step(self, num_samples: int) -> None:
        place_B = self._epoch_step * self._program.batch_size + torch.arange(num_samples, device=self._device)
        rows_B = self._order_N[place_B]
        bytes_, _ = self._images["train"]
        images, labels_B = bytes_[rows_B], self._told_N[rows_B]
        if self._program.augment is not None:
            numbers = {name: values[place_B] for name, values in self._augment_N.items()}
            images = augmented(images, numbers, self._program.augment)
        loss, _, logits = self._model.training_loss(self._pixels(images), labels_B, (), 0.0)
        gradient_D = torch.cat([part.reshape(-1) for part in torch.autograd.grad(loss, self._model.parameters)])
        with torch.no_grad():
            self._update(gradient_D)
            self._add(loss.double() * num_samples, logits.argmax(dim=1), labels_B)
            self._epoch_step += 1

    def _update(self, gradient_D: Tensor) -> None:
        """A step of ``torch.optim.SGD``, with a rate and a momentum that the device reads."""
        values_D, buffer_D = self._work["values"], self._work["momentum_buffer"]
        step = self._epoch_step.view(1)  # the host would read an index without axes
        minus_rate, momentum = self._minus_rate[step], self._momentum[step]
        gradient_D.addcmul_(values_D, self._weight_decay)
        buffer_D.mul_(momentum).add_(gradient_D)
        direction_D = torch.addcmul(gradient_D, buffer_D, momentum) if self._nesterov else buffer_D
        values_D.addcmul_(direction_D, minus_rate)

    def _evaluate_block(self, split: SplitName, num_images: int) -> None:
        rows_B = self._first_image + torch.arange(num_images, device=self._device)
        bytes_, labels = self._images[split]
        if split == "train":
            rows_B = self._order_N[rows_B]
        logits = self._model.logits(self._pixels(bytes_[rows_B]))
        labels_B, predicted_B = labels[rows_B], logits.argmax(dim=1)
        self._add(F.cross_entropy(logits, labels_B, reduction="none").double().sum(), predicted_B, labels_B)
        ones_B = torch.ones_like(predicted_B, dtype=torch.float64)
        class_correct_C, class_predicted_C = self._sums[2:].chunk(2)
        class_correct_C.scatter_add_(0, labels_B, (predicted_B == labels_B).double())
        class_predicted_C.scatter_add_(0, predicted_B, ones_B)
        self._first_image += num_images

    def _add(self, loss_sum: Tensor, predicted_B: Tensor, labels_B: Tensor) -> None:
        self._sums[:2] += torch.stack((loss_sum, (predicted_B == labels_B).sum().double()))

    def _read_sums(self) -> NDArray[np.float64]:
        """Read the sums: losses, correct predictions, both counts per class. The host waits for the device here."""
        sums: NDArray[np.float64] = self._sums.cpu().numpy()
        return sums
