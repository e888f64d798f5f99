"""P models in the memory of one device, which are trained in lock step. The host reads no value during a step.

Shape suffixes: P = models, N = training rows, B = batch, C = classes, D = parameters, V = values with a noise variance,
T = D + V for twins, D otherwise.
"""

from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...data.prepared import PreparedData
from ...models.layers import Architecture
from ...sparsify import variational_dropout as vd
from ...sparsify.kl_schedule import kl_weight
from ..contract import (
    MOMENTS,
    Evaluation,
    Hyperparameters,
    Program,
    Running,
    Sparsity,
    SplitName,
    StateArrays,
    decayed,
    magnitude_sparsity,
    sparsity_of,
)
from ..cuda import HostCopies
from ..device_session import DeviceSession
from ..random_layers import RandomLayer
from . import compiled
from .network import StackedNetwork, cross_entropy
from .random_numbers import permutations, sample_streams
from .update import Update


class StackedSession(DeviceSession):
    """See ``contract.Session``. Inactive models are trained with the others; their results are not used."""

    AXES_AFTER_CHANNELS = 3  # samples, rows, columns
    _update: Update
    _copies: HostCopies

    def __init__(
        self,
        program: Program,
        hyperparameters: Hyperparameters,
        state: StateArrays,
        data: PreparedData,
        device: torch.device,
        evaluated_at_once: int,
    ) -> None:
        """``evaluated_at_once`` is the number of images in each block of an evaluation."""
        if not isinstance(program.architecture, Architecture):
            raise ValueError(f"{program.architecture.name} is not a layer list")
        super().__init__(program, data, device)
        self._evaluated_at_once = evaluated_at_once
        self._num_models = len(state["weights"])
        self._num_parameters = program.architecture.layout.size
        with self._place.active():
            self._put(hyperparameters, state)

    def load(self, hyperparameters: Hyperparameters, state: StateArrays) -> bool:
        """Put other models, equally many, at the same addresses, so that captured graphs work for them."""
        if len(state["weights"]) != self._num_models:
            return False
        arrays = self._arrays(hyperparameters, state)
        if arrays.keys() != self._inputs.keys() or not self._update.load(hyperparameters):
            return False
        self._num_rows_P = hyperparameters.num_rows(self._data, "train")
        with self._place.active(), torch.no_grad():
            self._copies.forget()
            for name, values in arrays.items():
                self._inputs[name].copy_(torch.from_numpy(values))
        return True

    def _arrays(self, h: Hyperparameters, state: StateArrays) -> StateArrays:
        """The values that differ between the models of a program, keyed by the names in ``_inputs``."""
        program = self._program
        trained = [state["weights"], *([state["log_sigma2"]] if program.variational else [])]
        moments = {name: state[name] for name in MOMENTS[program.optimizer]}
        return {
            "values": np.concatenate(trained, axis=1),
            "step": state["step"].astype(np.int64),
            "seed": h.seed_P.astype(np.int64),
            "threshold": np.floor(h.dropout_ratio_P * 2.0**32).astype(np.int64),
            "scale": (1.0 / (1.0 - h.dropout_ratio_P)).astype(np.float32),
            **({"mask": state["mask"]} if program.pruned else {}),
            **self._own_images(h),
            **moments,
        }

    def _own_images(self, h: Hyperparameters) -> StateArrays:
        """Arrays for models that train on a subset or with wrong labels; empty if no model does.

        ``rows`` [P, N] has the training rows of each model, followed by zeros. ``member`` [P, N] is true for the
        rows of the subset, and ``count`` [P] is their number. ``told`` [P, N] has the labels with which a model trains.
        """
        shape, arrays = (self._num_models, len(self._data.train)), StateArrays()
        count_P = h.num_rows(self._data, "train").astype(np.int64)
        if (count_P < shape[1]).any():
            rows_PN, member_PN = np.zeros(shape, np.int32), np.zeros(shape, np.bool_)
            for i, count in enumerate(count_P):
                rows = h.training_rows(self._data, i)
                rows_PN[i, :count] = rows
                member_PN[i, rows] = True
            arrays |= {"count": count_P, "rows": rows_PN, "member": member_PN}
        if h.label_noise_P.any():
            arrays["told"] = np.stack([h.training_labels(self._data, i) for i in range(self._num_models)])
        return arrays

    def _put(self, h: Hyperparameters, state: StateArrays) -> None:
        program, device = self._program, self._device
        assert isinstance(program.architecture, Architecture)
        arrays = self._arrays(h, state)
        inputs = self._inputs = {name: torch.tensor(values, device=device) for name, values in arrays.items()}
        self._values_PT, self._step_P = inputs["values"].requires_grad_(), inputs["step"]
        self._moments = {name: inputs[name] for name in MOMENTS[program.optimizer]}
        self._mask_PD = inputs.get("mask")
        self._count_P, self._rows_PN, self._member_PN = (inputs.get(name) for name in ("count", "rows", "member"))
        self._told_PN = inputs.get("told")
        self._num_rows_P = h.num_rows(self._data, "train")
        tensors = {"values": self._values_PT, "step": self._step_P, **self._moments}
        self._copies = self._place.host_copies(tensors)
        self._network = StackedNetwork(program.architecture, program.dropout, program.variational, device)
        decayed_T = None if program.decays_biases else torch.from_numpy(decayed(program)).to(device)
        self._update = Update(program.optimizer, h, device, decayed_T)
        self._seed_P = inputs["seed"]
        self._threshold_P11 = inputs["threshold"][:, None, None]
        self._scale_P11 = inputs["scale"][:, None, None]
        self._epoch = torch.zeros((), dtype=torch.int64, device=device)
        self._epoch_step = torch.zeros((), dtype=torch.int64, device=device)
        self._kl_weight = torch.zeros((), device=device)
        self._first_image = torch.zeros((), dtype=torch.int64, device=device)
        # One tensor needs only one copy to the host; float64 holds the counts exactly. Its columns follow.
        num_classes = program.architecture.num_classes
        self._sums = torch.zeros((self._num_models, 2 + 2 * num_classes), dtype=torch.float64, device=device)
        self._loss_sum_P, self._correct_P = self._sums[:, 0], self._sums[:, 1]
        self._class_correct_PC, self._class_predicted_PC = self._sums[:, 2:].chunk(2, dim=1)
        num_rows = program.ordered_rows(self._data)
        self._order_PN = torch.zeros((self._num_models, num_rows), dtype=torch.int32, device=device)
        self._evaluated_PD = torch.empty_like(self._values_PT[:, : self._num_parameters], requires_grad=False)

    def train_epoch(self, epoch: int, active_P: NDArray[np.bool_]) -> Running:
        num_rows, size = int(self._num_rows_P.max()), self._program.batch_size
        with self._place.active():
            self._copies.forget()
            self._epoch.fill_(epoch)
            self._epoch_step.zero_()
            self._kl_weight.fill_(kl_weight(epoch, self._program.lambda_epochs))
            permutations(self._seed_P, self._epoch, self._order_PN, self._count_P)
            self._split("train")
            self._sums.zero_()
            for first in range(0, num_rows, size):
                rows = min(size, num_rows - first)
                self._place.run(("step", rows), partial(self._train_step, rows))
            self._copies.start()
            loss_sum_P, correct_P, _, _ = self._read_sums()
            return Running(loss_sum_P, correct_P, self._num_rows_P)

    def evaluate(self, split: SplitName) -> Evaluation:
        num_images = len(self._data.split(split))
        with self._place.active(), torch.no_grad():
            self._split(split)
            self._evaluated_PD.copy_(self._network.masked(self._values_PT))
            self._first_image.zero_()
            self._sums.zero_()
            for first in range(0, num_images, self._evaluated_at_once):
                rows = min(self._evaluated_at_once, num_images - first)
                self._place.run((split, rows), partial(self._evaluate_block, split, rows))
            loss_sum_P, correct_P, class_correct_PC, class_predicted_PC = self._read_sums()
            num_rows_P = self._num_rows_P if split == "train" else np.full(self._num_models, num_images, np.int32)
            return Evaluation(loss_sum_P, correct_P, num_rows_P, class_correct_PC, class_predicted_PC)

    def sparsity(self) -> Sparsity:
        if self._mask_PD is not None:
            return magnitude_sparsity(self._program.architecture, self._mask_PD.cpu().numpy())
        if not self._program.variational:
            raise ValueError("only twins have a sparsity")
        with self._place.active(), torch.no_grad():
            log_alpha_PV = self._network.log_alpha(self._values_PT)
            kl_P = vd.kl_from_log_uniform(log_alpha_PV.double()).sum(dim=1).cpu().numpy()
            mask_PV = vd.pruned(log_alpha_PV).cpu().numpy()
        return sparsity_of(self._program.architecture, mask_PV, kl_P)

    def state(self) -> StateArrays:
        with self._place.active():
            arrays = {name: tensor.numpy() for name, tensor in self._copies.read().items()}
        values_PT = arrays.pop("values")
        arrays["weights"] = np.ascontiguousarray(values_PT[:, : self._num_parameters])
        if self._program.variational:
            arrays["log_sigma2"] = np.ascontiguousarray(values_PT[:, self._num_parameters :])
        if self._mask_PD is not None:
            arrays["mask"] = self._mask_PD.cpu().numpy()
        return arrays

    def _train_step(self, num_samples: int) -> None:
        bytes_, labels = self._images["train"]
        place_B = self._epoch_step * self._program.batch_size + torch.arange(num_samples, device=self._device)
        counted_PB = None
        if self._count_P is None or self._rows_PN is None:
            rows_PB = self._order_PN.index_select(1, place_B).long()
        else:
            count_P1 = self._count_P[:, None]
            counted_PB = place_B < count_P1
            order_PB = self._order_PN.gather(1, torch.minimum(place_B, count_P1 - 1))
            rows_PB = self._rows_PN.gather(1, order_PB.long()).long()
        told = self._told_PN
        labels_PB = labels[rows_PB] if told is None else told.gather(1, rows_PB).long()
        draws = [self._draw(layer, num_samples) for layer in self._network.random_layers.values()]
        total, loss_P, logits = self._network.training_loss(
            self._values_PT,
            self._pixels(bytes_[rows_PB].transpose(1, 2)),
            labels_PB,
            draws,
            self._kl_weight,
            counted_PB,
        )
        (grads_PT,) = torch.autograd.grad(total, self._values_PT)
        with torch.no_grad():
            right_PB = logits.argmax(dim=2) == labels_PB
            if counted_PB is None:
                self._step(grads_PT)
                self._loss_sum_P += loss_P.double() * num_samples
            else:
                self._step(grads_PT, counted_PB.any(dim=1))
                self._loss_sum_P += loss_P.double() * counted_PB.sum(dim=1)
                right_PB &= counted_PB
            self._correct_P += right_PB.sum(dim=1)
            self._epoch_step += 1

    def _step(self, grads_PT: Tensor, active_P: Tensor | None = None) -> None:
        """Update all models, or only those in ``active_P``, whose epoch is not over."""
        if self._mask_PD is not None:
            # A value of zero without a gradient stays zero under every optimizer, weight decay included.
            grads_PT.masked_fill_(self._mask_PD, 0)
        if active_P is None:
            self._step_P += 1
            self._update(self._values_PT, grads_PT, self._moments, self._step_P)
            return
        changed = [self._values_PT, *self._moments.values()]
        before = [tensor.detach().clone() for tensor in changed]
        self._step_P += active_P
        self._update(self._values_PT, grads_PT, self._moments, self._step_P)
        for tensor, old in zip(changed, before, strict=True):
            tensor.copy_(torch.where(active_P[:, None], tensor, old))

    def _evaluate_block(self, split: SplitName, num_images: int) -> None:
        bytes_, labels = self._images[split]
        rows_B = self._first_image + torch.arange(num_images, device=self._device)
        pixels = self._pixels(bytes_[rows_B].transpose(0, 1)[None])
        labels_PB = labels[rows_B].expand(self._num_models, -1)
        logits = self._network.logits(self._evaluated_PD, pixels)
        loss_PB = cross_entropy(logits, labels_PB).double()
        predicted_PB = logits.argmax(dim=2)
        right_PB = (predicted_PB == labels_PB).double()
        counted_PB = torch.ones_like(right_PB)
        if split == "train" and self._member_PN is not None:
            member_PB = self._member_PN.index_select(1, rows_B)
            loss_PB, counted_PB = torch.where(member_PB, loss_PB, 0.0), member_PB.double()
            right_PB *= counted_PB
        self._loss_sum_P += loss_PB.sum(dim=1)
        self._correct_P += right_PB.sum(dim=1)
        self._class_correct_PC.scatter_add_(1, labels_PB, right_PB)
        self._class_predicted_PC.scatter_add_(1, predicted_PB, counted_PB)
        self._first_image += num_images

    def _draw(self, layer: RandomLayer, num_samples: int) -> Tensor:
        """Draw [P, B, *shape] float32: the noise of twins, or a dropout mask with scaled values where it keeps."""
        streams = sample_streams(layer.ordinal, num_samples, self._device)
        where = self._seed_P, self._epoch, self._epoch_step, streams, layer.num_values
        draws = compiled.draws(self._device)
        if self._program.variational:
            values = draws.gaussians(*where)
        else:
            values = draws.dropout_factors(*where, self._threshold_P11, self._scale_P11)
        return values[..., : layer.num_values].reshape(self._num_models, num_samples, *layer.shape)

    def _read_sums(self) -> tuple[NDArray[np.float64], NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
        """Read the sums: losses [P], correct predictions [P], then correct and all predictions by class [P, C].

        The host waits for the device here.
        """
        sums = self._sums.cpu().numpy()
        counts = sums[:, 1:].astype(np.int32)
        class_correct_PC, class_predicted_PC = (
            np.ascontiguousarray(part) for part in np.split(counts[:, 1:], 2, axis=1)
        )
        return sums[:, 0].copy(), counts[:, 0].copy(), class_correct_PC, class_predicted_PC
