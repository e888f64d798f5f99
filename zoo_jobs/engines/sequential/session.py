"""P models that plain torch trains and evaluates one after the other."""

import pkgutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (torch's own name for it)

from ...data.prepared import PreparedData
from ...models.optimizers import OPTIMIZERS
from ...sparsify import variational_dropout as vd
from ...sparsify.kl_schedule import kl_weight
from ...tasks.registry import DEFAULT
from .. import device_errors, precision
from ..batches import Block, evaluation_blocks, image_block, training_blocks
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
    image_evaluation,
    magnitude_sparsity,
    sparsity_of,
)
from ..one_cycle import one_cycle
from .layer_list_model import LayerListModel
from .module_model import ModuleModel

EVALUATED_AT_ONCE = 500  # images per block; the sums of a matrix product may depend on it


class SequentialSession:
    """P models that are trained and evaluated one after the other."""

    def __init__(
        self,
        program: Program,
        hyperparameters: Hyperparameters,
        state: StateArrays,
        data: PreparedData,
        model: LayerListModel | ModuleModel,
        device: torch.device,
    ) -> None:
        self._program, self._data, self._model, self._device = program, data, model, device
        precision.claim(self, program.precision)
        self._decayed_T = None if program.decays_biases else torch.from_numpy(decayed(program)).to(device)
        self.load(hyperparameters, state)

    def load(self, hyperparameters: Hyperparameters, state: StateArrays) -> bool:
        """Always True: the session accepts any number of models of the program."""
        program, device = self._program, self._device
        self._hyperparameters = hyperparameters
        self._num_models = len(state["weights"])
        self._step_P = state["step"].astype(np.int64)
        trained = [state["weights"], *([state["log_sigma2"]] if program.variational else [])]
        arrays = {"values": np.concatenate(trained, axis=1)}
        others = (*MOMENTS[program.optimizer], "buffers", "counters", "mask")
        arrays |= {name: state[name] for name in others if name in state}
        with _plain(device):
            self._tensors = {name: torch.tensor(array, device=device) for name, array in arrays.items()}
        self._active_P = np.ones(self._num_models, np.bool_)
        return True

    def train_epoch(self, epoch: int, active_P: NDArray[np.bool_]) -> Running:
        """Inactive models do not change; their sums are NaN and 0."""
        self._active_P = active_P.copy()
        loss_sum_P = np.full(self._num_models, np.nan)
        correct_P = np.zeros(self._num_models, np.int32)
        with _plain(self._device):
            for i in np.flatnonzero(active_P):
                loss_sum_P[i], correct_P[i] = self._train(int(i), epoch)
        steps, num_rows_P = self._program.steps_per_epoch, self._hyperparameters.num_rows(self._data, "train")
        num_pixels_P = np.full(self._num_models, steps * self._program.batch_size, np.int32)
        return Running(loss_sum_P, correct_P, num_pixels_P if steps else num_rows_P)

    def evaluate(self, split: SplitName) -> Evaluation:
        """Models that were inactive in the last epoch are not evaluated; their sums are NaN and 0."""
        if self._hyperparameters.image_P is not None:
            return self._evaluate_images(self._hyperparameters.image_P)
        loss_sum_P = np.where(self._active_P, 0.0, np.nan)
        num_classes = self._program.architecture.num_classes
        correct_PC, predicted_PC = np.zeros((2, self._num_models, num_classes), np.int32)
        num_rows_P = self._hyperparameters.num_rows(self._data, split)
        with _plain(self._device), torch.no_grad():
            for models, block in self._evaluated(split, num_rows_P):
                images = torch.from_numpy(block.images).to(self._device)
                labels = torch.from_numpy(block.labels).to(self._device)
                for i in models:
                    self._model.bind(self._rows(i))
                    logits = self._model.logits(images)
                    losses = F.cross_entropy(logits, labels, reduction="none")
                    loss_sum_P[i] += float(losses.double().sum())
                    predicted = logits.argmax(dim=1)
                    predicted_PC[i] += torch.bincount(predicted, minlength=num_classes).cpu().numpy()
                    right = predicted[predicted == labels]
                    correct_PC[i] += torch.bincount(right, minlength=num_classes).cpu().numpy()
        correct_P = correct_PC.sum(axis=1, dtype=np.int32)
        return Evaluation(loss_sum_P, correct_P, num_rows_P, correct_PC, predicted_PC)

    def _evaluated(self, split: SplitName, num_rows_P: NDArray[np.int32]) -> Iterator[tuple[list[int], Block]]:
        """Yield blocks of images with the models to evaluate on them: all active models, or one model on its subset."""
        images = self._data.split(split)
        active = np.flatnonzero(self._active_P).tolist()
        whole = [i for i in active if num_rows_P[i] == len(images)]
        groups = [(whole, images)] if whole else []
        groups += [
            ([i], images.take(self._hyperparameters.training_rows(self._data, i)))
            for i in active
            if num_rows_P[i] < len(images)
        ]
        for models, part in groups:
            for block in evaluation_blocks(self._data, part, EVALUATED_AT_ONCE):
                yield models, block

    def _evaluate_images(self, image_P: NDArray[np.int64]) -> Evaluation:
        """The squared error of each model on its own image."""
        loss_sum_P = np.full(self._num_models, np.nan)
        with _plain(self._device), torch.no_grad():
            for i in np.flatnonzero(self._active_P):
                block = image_block(self._data, int(image_P[i]), 1)
                pixels = torch.from_numpy(block.labels).to(self._device)
                self._model.bind(self._rows(int(i)))
                outputs = self._model.logits(torch.from_numpy(block.images).to(self._device))
                loss_sum_P[i] = float(((outputs - pixels) ** 2).double().sum()) / pixels.shape[1]
        return image_evaluation(loss_sum_P, self._program.batch_size)

    def sparsity(self) -> Sparsity:
        model = self._model
        if self._program.pruned:
            return magnitude_sparsity(self._program.architecture, self._tensors["mask"].cpu().numpy())
        if not isinstance(model, LayerListModel) or not self._program.variational:
            raise ValueError("only twins have a sparsity")
        log_alphas = []
        with _plain(self._device), torch.no_grad():
            for i in range(self._num_models):
                model.bind(self._rows(i))
                log_alphas.append(model.log_alpha())
            log_alpha_PV = torch.stack(log_alphas)
            kl_P = vd.kl_from_log_uniform(log_alpha_PV.double()).sum(dim=1).cpu().numpy()
            mask_PV = vd.pruned(log_alpha_PV).cpu().numpy()
        return sparsity_of(self._program.architecture, mask_PV, kl_P)

    def state(self) -> StateArrays:
        arrays = {name: tensor.detach().cpu().numpy().copy() for name, tensor in self._tensors.items()}
        values_PT = arrays.pop("values")
        num_parameters = self._program.architecture.layout.size
        arrays["weights"] = np.ascontiguousarray(values_PT[:, :num_parameters])
        if self._program.variational:
            arrays["log_sigma2"] = np.ascontiguousarray(values_PT[:, num_parameters:])
        return {**arrays, "step": self._step_P.copy()}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._tensors = {}
        precision.release(self)

    def _rows(self, i: int) -> dict[str, Tensor]:
        return {name: tensor[i].detach() for name, tensor in self._tensors.items()}

    def _train(self, i: int, epoch: int) -> tuple[float, int]:
        """Train one epoch of model ``i``. Returns the sums of its running loss and of its correct predictions."""
        rows = self._rows(i)
        values = self._model.bind(rows)
        optimizer = self._optimizer(i, values, rows)
        loss_sum, correct = 0.0, 0
        for block in self._blocks(i, epoch):
            block_loss, block_correct = self._train_block(i, epoch, block, values, rows.get("mask"), optimizer)
            loss_sum += block_loss
            correct += block_correct
        return loss_sum, correct

    def _blocks(self, i: int, epoch: int) -> Iterable[Block]:
        """The batches of an epoch of model ``i``."""
        h, program = self._hyperparameters, self._program
        if h.image_P is not None:
            return [image_block(self._data, int(h.image_P[i]), program.steps_per_epoch)]
        rows, told = h.training_rows(self._data, i), h.training_labels(self._data, i)
        return training_blocks(self._data, int(h.seed_P[i]), epoch, program.batch_size, program.augment, rows, told)

    def _train_block(
        self,
        i: int,
        epoch: int,
        block: Block,
        values: Tensor,
        pruned_D: Tensor | None,
        optimizer: torch.optim.Optimizer,
    ) -> tuple[float, int]:
        size = self._program.batch_size
        labels = torch.from_numpy(block.labels).to(self._device)
        images = torch.from_numpy(block.images).to(self._device)
        batches = list(zip(torch.split(images, size), torch.split(labels, size), strict=True))
        sizes = [len(batch_labels) for _, batch_labels in batches]
        draws = self._model.draw(
            int(self._hyperparameters.seed_P[i]),
            float(self._hyperparameters.dropout_ratio_P[i]),
            epoch,
            block.first_step,
            sizes,
        )
        weight = kl_weight(epoch, self._program.lambda_epochs)
        losses, logits = [], []
        for (batch_images, batch_labels), batch_draws in zip(batches, draws, strict=True):
            if self._program.schedule is not None:
                group = optimizer.param_groups[0]
                group["lr"], group["momentum"] = one_cycle(
                    int(self._step_P[i]),
                    self._program.schedule.total_steps,
                    float(self._hyperparameters.learning_rate_P[i]),
                )
            if isinstance(self._model, LayerListModel):
                values.grad = None
            total, loss, batch_logits = self._model.training_loss(batch_images, batch_labels, batch_draws, weight)
            total.backward()
            if pruned_D is not None and values.grad is not None:
                # A value of zero without a gradient stays zero under every optimizer here, weight decay included.
                values.grad.masked_fill_(pruned_D, 0)
            if self._decayed_T is not None:
                self._decay(i, values, self._decayed_T, float(optimizer.param_groups[0]["lr"]))
            optimizer.step()
            self._step_P[i] += 1
            losses.append(loss.detach())
            logits.append(batch_logits.detach())
        correct = 0
        if self._program.task == DEFAULT:
            correct = int((torch.cat(logits).argmax(dim=1) == labels).sum())
        loss_sum = sum(loss * n for loss, n in zip(torch.stack(losses).tolist(), sizes, strict=True))
        return loss_sum, correct

    def _decay(self, i: int, values: Tensor, decayed_T: Tensor, rate: float) -> None:
        """Apply weight decay as torch's optimizers do, but only to the values in ``decayed_T``."""
        decay = float(self._hyperparameters.weight_decay_P[i])
        with torch.no_grad():
            if self._program.optimizer == "adamw":
                values.mul_(torch.where(decayed_T, 1 - rate * decay, 1.0))
            elif values.grad is not None:
                values.grad.add_(values * decayed_T, alpha=decay)

    def _optimizer(self, i: int, values: Tensor, rows: dict[str, Tensor]) -> torch.optim.Optimizer:
        """Torch's optimizer over the flat vector, with the rows of the state as its moments."""
        h = self._hyperparameters
        rate = float(h.learning_rate_P[i])
        decay = float(h.weight_decay_P[i]) if self._decayed_T is None else 0.0
        row = OPTIMIZERS[self._program.optimizer]
        settings = {"momentum": float(h.momentum_P[i]), "nesterov": bool(h.nesterov_P[i])}
        optimizer: torch.optim.Optimizer = pkgutil.resolve_name(row.torch_class)(
            [values], lr=rate, weight_decay=decay, foreach=False, **{name: settings[name] for name in row.settings}
        )
        optimizer.state[values] = {name: rows[name] for name in row.moments}
        if row.counts_steps:
            optimizer.state[values]["step"] = torch.tensor(float(self._step_P[i]))
        return optimizer


@contextmanager
def _plain(device: torch.device) -> Iterator[None]:
    """Run a block with one thread; the caller's threads are restored at the end.

    Raises MemoryError where the device has no free memory, DeviceBroken where it fails.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with device_errors.named(device):
            yield
    finally:
        torch.set_num_threads(threads)
