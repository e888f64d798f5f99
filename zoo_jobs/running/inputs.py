"""A run as the engines need it: programs, hyperparameters and initial states of a zoo's models. No Ray."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from zooforge.storage.formats.labels import FAULT_REASONS
from zooforge.storage.runs.ledger import read_ledger
from zooforge.storage.runs.trained_weights import read_weights
from zooforge.storage.stores.protocol import ObjectStore

from ..catalogue.parents import read_parents
from ..engines.contract import Hyperparameters, OneCycle, Program, StateArrays, initial_state
from ..engines.growth import NEVER
from ..models.initialize import initial_buffers, initial_weights
from ..sparsify.kl_schedule import LAMBDA_EPOCHS
from ..sparsify.magnitude import pruned_by_magnitude
from ..spec.epochs import EpochSet
from ..spec.grid import Family, ModelRow, rows
from ..spec.start import kept
from ..spec.twins import TwinSpec, Zoo


@dataclass(frozen=True)
class Run:
    """Everything that determines the trajectories of a zoo, independent of request, machine and time."""

    zoo: Zoo

    @property
    def name(self) -> str:
        return self.zoo.name

    @property
    def id(self) -> str:
        return self.zoo.run_id

    @property
    def stage(self) -> str:
        return "sparsify" if isinstance(self.zoo, TwinSpec) else "train"

    @cached_property
    def rows(self) -> tuple[ModelRow, ...]:
        return rows(self.zoo)

    def program(self, family: Family) -> Program:
        """The program of a family: the operations that its models share."""
        spec = self.zoo.root
        schedule = OneCycle(spec.num_epochs * spec.num_steps) if spec.schedule == "one-cycle" else None
        return Program(
            spec.network(family.activation, family.dropout),
            family.optimizer,
            spec.batch_size,
            family.dropout,
            variational=self._method == "variational-dropout",
            lambda_epochs=self.zoo.sparsify.lambda_epochs if isinstance(self.zoo, TwinSpec) else LAMBDA_EPOCHS,
            pruned=self._method == "magnitude",
            schedule=schedule,
            augment=spec.augment,
            precision=spec.precision,
            memory_format=spec.memory_format,
            decays_biases=spec.weight_decay_on == "all",
            task=spec.task,
            steps_per_epoch=spec.steps_per_epoch or 0,
        )

    def programs(self) -> Iterable[Program]:
        """One per operation family of the zoo."""
        return (self.program(family) for family in dict.fromkeys(row.family for row in self.rows))

    def hyperparameters(self, models: Sequence[int]) -> Hyperparameters:
        chosen = [self.rows[model] for model in models]
        images = [row.image for row in chosen if row.image is not None]
        return Hyperparameters(
            seed_P=np.array([row.seed for row in chosen], np.uint32),
            learning_rate_P=np.array([row.learning_rate for row in chosen], np.float64),
            weight_decay_P=np.array([row.weight_decay for row in chosen], np.float64),
            momentum_P=np.array([row.momentum for row in chosen], np.float64),
            nesterov_P=np.array([row.nesterov for row in chosen], np.bool_),
            dropout_ratio_P=np.array([row.dropout_ratio for row in chosen], np.float64),
            train_fraction_P=np.array([row.train_fraction for row in chosen], np.float64),
            label_noise_P=np.array([row.label_noise for row in chosen], np.float64),
            image_P=np.array(images, np.int64) if images else None,
        )

    def first_state(self, models: Sequence[int], store: ObjectStore) -> StateArrays:
        """State at epoch 0: initial weights by seed, or weights of the parents of twins and families.

        A model whose parent is faulty at that epoch is faulty from epoch 0.
        """
        program = self.program(self.rows[models[0]].family)
        if isinstance(self.zoo, TwinSpec):
            weights_PD = read_weights(read_ledger(store, self.zoo.parent.run_id), models, self.zoo.source_epoch)
            state = initial_state(program, weights_PD, self._mask(program, weights_PD))
            return _faulty_as_parents(state, np.asarray(np.isfinite(weights_PD).all(axis=1)))
        network = program.architecture
        chosen = [self.rows[model] for model in models]
        weights_PD = np.stack(
            [
                initial_weights(
                    network, r.initializer, r.seed, scale=r.initializer_scale * r.initial_std, bias=r.initial_bias
                )
                for r in chosen
            ]
        )
        if self.zoo.start is None:
            return initial_state(program, weights_PD, initial_buffers(network, len(models)))
        parents = read_parents(store, self.zoo, chosen)
        tensors, theirs = network.layout.unflatten(weights_PD), parents.layout.unflatten(parents.weights_PD)
        for entry in kept(network.layout, self.zoo.start.head):
            tensors[entry.name][...] = theirs[entry.name]
        return _faulty_as_parents(initial_state(program, weights_PD, parents.others), parents.finite_P)

    @property
    def _method(self) -> str | None:
        return self.zoo.sparsify.method if isinstance(self.zoo, TwinSpec) else None

    def _mask(self, program: Program, weights_PD: NDArray[np.float32]) -> StateArrays | None:
        if not isinstance(self.zoo, TwinSpec) or self.zoo.sparsify.sparsity_ratio is None:
            return None
        layout = program.architecture.layout
        return {"mask": pruned_by_magnitude(layout, weights_PD, self.zoo.sparsify.sparsity_ratio)}

    @property
    def kept_epochs(self) -> EpochSet:
        return self.zoo.save_epochs

    @property
    def train_eval_epochs(self) -> EpochSet:
        return self.zoo.train_eval_epochs.with_epoch_0()


def _faulty_as_parents(state: StateArrays, finite_P: NDArray[np.bool_]) -> StateArrays:
    """``state`` in which models are faulty from epoch 0 if their parents are, whose numbers are not all finite."""
    state["faulty_epoch"] = np.where(finite_P, NEVER, 0).astype(np.int32)
    state["faulty_reason"] = np.where(finite_P, NEVER, FAULT_REASONS.index("parent")).astype(np.int8)
    return state
