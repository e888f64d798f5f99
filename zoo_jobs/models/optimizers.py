"""Registry of optimizers: the torch class that takes the steps, its state, and what a model row sets of it. Pure."""

from dataclasses import dataclass

OptimizerName = str  # a key of OPTIMIZERS


@dataclass(frozen=True, slots=True)
class OptimizerRow:
    """One optimizer.

    Attributes:
        torch_class: as ``package.module:Class``, imported only where a step is taken.
        moments: tensors of the class's state per parameter, in the order in which they are stored.
        settings: arguments of the class, besides learning rate and weight decay, that a model row sets.
        counts_steps: whether the class keeps a step count in addition to the moments.
    """

    torch_class: str
    moments: tuple[str, ...]
    settings: tuple[str, ...] = ()
    counts_steps: bool = True


OPTIMIZERS: dict[OptimizerName, OptimizerRow] = {
    # A momentum buffer of zeros gives torch's first step of SGD, which takes the gradient itself.
    "sgd": OptimizerRow("torch.optim:SGD", ("momentum_buffer",), ("momentum", "nesterov"), counts_steps=False),
    "adam": OptimizerRow("torch.optim:Adam", ("exp_avg", "exp_avg_sq")),
    # Decay is taken off the weights themselves, not added to the gradient.
    "adamw": OptimizerRow("torch.optim:AdamW", ("exp_avg", "exp_avg_sq")),
    "rmsprop": OptimizerRow("torch.optim:RMSprop", ("square_avg", "momentum_buffer"), ("momentum",)),
}
"""``sequential`` runs every row. ``stacked`` and ``lanes`` have steps of their own and refuse an optimizer that they
have none for."""
