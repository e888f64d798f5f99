"""The general path of `lanes`: random layer lists, as shares of the FMA peak.

    python benchmarks/lanes_lists.py [--lists 30] [--rows 60] [--pairs 5]

Every list is drawn with its own seed, 0, 1, ..: images of 1 or 3 channels and 16, 24, 28 or 32 pixels a side; 2 to 4
convolutions of 8, 12, 16, 24 or 32 channels, kernel 3 (two in three) or 5, stride 1 (two in three) or 2, padding "same"
(two in three) or none; behind each an activation (relu, tanh, gelu or sine), with an even chance a residual sum where
an earlier output has the shape, and one of: no pool (one in two), maximum of 2 x 2, maximum of 3 x 3 with stride 2,
average of 2 x 2; then a global average, or a flatten and a linear layer of 32 where at most 600 values are left; then
10 classes. A layer that would leave less than 4 x 4 pixels is left out. No dropout; Adam, batch 10, every model its own
images.

The share divides executed multiply-adds by a peak measured in the same process just before; each figure is the median
of interleaved pairs in CPU seconds. The last line is the median over the lists.

Last result: docs/performance.md.
"""

import argparse
import math
import random
from functools import partial

from lanes_work import (
    BATCH,
    PAIRS,
    cpu_seconds_per_model_step,
    images,
    machine,
    median,
    num_steps,
    peak,
    session,
    share_of_peak,
    train_macs,
    vector_sets,
)

from zooforge.zoo_jobs.engines.lanes.engine import extension
from zooforge.zoo_jobs.models.layers import (
    Activation,
    Add,
    Architecture,
    AvgPool2d,
    Conv2d,
    Flatten,
    GlobalAvgPool2d,
    Layer,
    Linear,
    MaxPool2d,
    output_shape,
)

LEAST_SIDE, MOST_FLATTENED = 4, 600


def drawn_list(seed: int) -> Architecture:
    draw = random.Random(seed)
    channels, side = draw.choice([1, 3]), draw.choice([16, 24, 28, 32])
    layers: list[Layer] = []
    shapes: list[tuple[int, ...]] = [(channels, side, side)]

    def put(layer: Layer) -> None:
        shape = output_shape(layer, shapes)
        if len(shape) == 1 or shape[1] >= LEAST_SIDE:
            layers.append(layer)
            shapes.append(shape)

    for _ in range(draw.randint(2, 4)):
        kernel = draw.choice([3, 3, 5])
        padding = draw.choice([kernel // 2, kernel // 2, 0])
        if shapes[-1][1] >= kernel:
            put(Conv2d(shapes[-1][0], draw.choice([8, 12, 16, 24, 32]), kernel, draw.choice([1, 1, 2]), padding))
        put(Activation(draw.choice(["relu", "tanh", "gelu", "sine"])))
        same = [index for index, shape in enumerate(shapes[1:-1]) if shape == shapes[-1]]
        if same and draw.random() < 0.5:
            put(Add(draw.choice(same)))
        pool = draw.choice([None, None, None, MaxPool2d(), MaxPool2d(3, 2), AvgPool2d(2, 2)])
        if pool is not None:
            put(pool)
    if math.prod(shapes[-1]) <= MOST_FLATTENED and draw.random() < 0.5:
        put(Flatten())
        put(Linear(shapes[-1][0], 32))
        put(Activation("relu"))
    else:
        put(GlobalAvgPool2d())
    put(Linear(shapes[-1][0], 10))
    return Architecture(f"list {seed}", channels, side, tuple(layers))


def share(of: Architecture, rows: int, pairs: int, isa: str) -> float:
    data, num_models = images(of, rows), extension().lanes_of(isa)
    with session(of, num_models, data, isa=isa) as opened:
        step = partial(cpu_seconds_per_model_step, opened, num_models, num_steps(data))
        return share_of_peak(isa, train_macs(of) * BATCH, step, pairs)[1]


def words(layer: Layer) -> str:
    match layer:
        case Conv2d(out_channels=o, kernel_size=k, stride=stride, padding=padding):
            return f"conv {o} k{k} s{stride} p{padding}"
        case MaxPool2d(kernel_size=k, stride=stride):
            return f"max {k}/{stride}"
        case AvgPool2d(kernel_size=k, stride=stride):
            return f"avg {k}/{stride}"
        case Activation(name=name):
            return name
        case Linear(out_features=o):
            return f"linear {o}"
        case Add(source=source):
            return f"add {source}"
        case _:
            return "global" if isinstance(layer, GlobalAvgPool2d) else "flatten"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--lists", type=int, default=30)
    parser.add_argument("--rows", type=int, default=60, help="training images of each measurement")
    parser.add_argument("--pairs", type=int, default=PAIRS)
    options = parser.parse_args()
    print(f"{machine()}; peak of one thread {peak() / 1e9:.1f} G multiply-adds/s")
    for isa in vector_sets():
        shares = []
        for seed in range(options.lists):
            of = drawn_list(seed)
            shares.append(share(of, options.rows, options.pairs, isa))
            what = f"{of.in_channels} x {of.image_size}: {', '.join(map(words, of.layers))}"
            print(f"{isa} {shares[-1]:6.1%}  {what}", flush=True)
        print(f"{isa}: median {median(shares):.1%}, least {min(shares):.1%} of the peak", flush=True)


if __name__ == "__main__":
    main()
