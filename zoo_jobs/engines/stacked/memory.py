"""Predicts the memory of a chunk from its layer list. Pure numpy.

It counts the float32 values that one sample of one model keeps for the backward pass, and the temporary values at the
moment of highest use. Both are multiplied by the batch size and the number of models.
"""

import math

from ...data.prepared import PreparedData
from ...models.layers import Activation, Add, Architecture, AvgPool2d, Conv2d, Dropout, Linear, MaxPool2d
from ..contract import MOMENTS, Program, noisy_layout
from .random_numbers import ORDER_BYTES, TILE_BYTES

WORD_FLOATS = 14  # float32 sizes per value while its word is drawn: eight int64 tensors per four words, and copies


def peak_bytes(program: Program, data: PreparedData, num_models: int, graphs: bool) -> int:
    """Bytes that the data, state and work space of ``num_models`` models take at the moment of highest use.

    Args:
        graphs: whether steps are captured as graphs. A captured training step keeps its work space during evaluations.

    Raises:
        ValueError: the architecture is not a layer list.
    """
    architecture = program.architecture
    if not isinstance(architecture, Architecture):
        raise ValueError(f"{architecture.name} is not a layer list")
    splits = sum(s.images.nbytes + 8 * len(s) for s in (data.train, data.val, data.test))
    variances = noisy_layout(architecture).size if program.variational else 0
    values = architecture.layout.size + variances
    # Values, moments, gradient and three temporaries of the optimizer; a copy for evaluation; a copy on the host.
    state = 4 * values * (2 + 2 * len(MOMENTS[program.optimizer]) + 4) + 4 * architecture.layout.size
    num_rows = program.ordered_rows(data)
    order = 4 * num_rows
    tile = min(TILE_BYTES, num_models * ORDER_BYTES * num_rows)
    step = 4 * program.batch_size * training_floats(architecture, program)
    evaluation = 4 * max(program.batch_size, 10) * evaluation_floats(architecture)
    work = step + evaluation if graphs else max(step, evaluation)
    return splits + max(tile, num_models * work) + num_models * (state + order)


def training_floats(architecture: Architecture, program: Program) -> int:
    """float32 values of one sample of one model at the moment of highest use in a step."""
    kept = 0  # for the backward pass
    widest = 0
    shapes = architecture.shapes
    sizes = [math.prod(shape) for shape in shapes]
    noisy = program.variational
    moments = []  # for each layer: values kept up to and including it, and further values in its backward pass
    for index, layer in enumerate(architecture.layers):
        taken, given = sizes[index], sizes[index + 1]
        first = index == 0
        on_top = 0
        match layer:
            case Conv2d(in_channels=c, kernel_size=k):
                unfolded = c * k * k * shapes[index + 1][1] * shapes[index + 1][2]
                padded = _padded(layer, shapes[index])
                kept += unfolded + given
                on_top = given + (padded if first else unfolded + 2 * taken + padded)
                if noisy:  # squares, their patches, the variance, its root, noise, two products
                    kept += taken + unfolded + 5 * given
                    on_top += 2 * given
                widest = max(widest, kept)
            case MaxPool2d():
                kept += 3 * given  # values and int64 places
                on_top = taken
            case Activation(omega=omega) if omega != 1.0:  # the sine's argument is a copy of its input
                kept += 2 * given
                on_top = 2 * given
            case Activation() | Linear():
                kept += given * (5 if noisy and isinstance(layer, Linear) else 1)
                on_top = 2 * given
            case AvgPool2d():
                kept += 2 * given
                on_top = taken + given
            case Add():  # the sum, and the earlier output, which is held until here
                kept += 2 * given
                on_top = 2 * given
            case Dropout() if program.dropout:
                kept += 2 * given
                on_top = 2 * given
            case _:
                pass
        moments.append((kept, on_top))
    drawn = 0
    for index, layer in enumerate(architecture.layers):
        if isinstance(layer, Conv2d | Linear) if noisy else program.dropout and isinstance(layer, Dropout):
            drawn = max(drawn, sizes[index + 1] * WORD_FLOATS)
    backward = max(held + on_top for held, on_top in moments)
    return sizes[0] * 3 + max(widest, backward, drawn)


def evaluation_floats(architecture: Architecture) -> int:
    """float32 values of one image of one model at the moment of highest use in an evaluation.

    All models share the patches of the first layer.
    """
    shapes = architecture.shapes
    widest = 0
    held = sum({layer.source: math.prod(shapes[layer.source + 1]) for layer in architecture.layers
                if isinstance(layer, Add)}.values())  # fmt: skip
    for index, layer in enumerate(architecture.layers):
        taken, given = (math.prod(shape) for shape in shapes[index : index + 2])
        taken = held + (0 if index == 0 else taken)
        if isinstance(layer, Conv2d) and index > 0:
            unfolded = layer.in_channels * layer.kernel_size**2 * shapes[index + 1][1] * shapes[index + 1][2]
            widest = max(widest, taken + _padded(layer, shapes[index]) + unfolded + given)
        elif isinstance(layer, MaxPool2d):
            widest = max(widest, taken + 3 * given)
        else:
            widest = max(widest, taken + given)
    return widest


def _padded(layer: Conv2d, shape: tuple[int, ...]) -> int:
    """Values of the padded copy of the layer's input; 0 without padding."""
    channels, height, width = shape
    return channels * (height + 2 * layer.padding) * (width + 2 * layer.padding) if layer.padding else 0
