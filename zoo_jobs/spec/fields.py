"""The fields of a zoo's spec, and the facts that follow from them: its images, grid, network and steps. Pure."""

from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from zooforge.storage.formats.compression import CompressionName

from ..closed import Closed, Number, OneOf
from ..data.own import ImageFacts, facts_of, name_of
from ..data.rules import Preprocessing, SplitRule
from ..models.registry import ARCHITECTURES, ArchitectureRow, Network, architecture
from ..tasks.contract import Task, TaskName
from ..tasks.image_regression import COORDINATES, image_range, images_of
from ..tasks.registry import DEFAULT, TASKS
from .blocks import (
    AXIS_ORDER,
    ArchitectureField,
    AugmentName,
    Axes,
    DatasetField,
    Epochs,
    ExtendBlock,
    MemoryFormatName,
    ModelSplitRule,
    PrecisionName,
    Reference,
    ScheduleName,
    Seeds,
    SeedsPerCell,
    SparsifySpec,
    ZooKind,
)
from .draws import DrawsField
from .epochs import EpochSet
from .layer_list import unit_models
from .own_code import OwnCode

AXES_EXAMPLE = (
    "{activation: [tanh], dropout_ratio: [0.0], initializer: [uniform], optimizer: [adam], learning_rate: [3e-4], "
    "weight_decay: [0.0]}"
)


class ZooFields(Closed):
    """The fields of a spec and what follows from them. ``ZooSpec`` adds the checks and the ids."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$", max_length=34)] = Field(examples=["my-zoo"])
    """Lower-case words joined by hyphens."""
    description: Annotated[str, Field(min_length=1)] = Field(examples=['"One sentence."'])
    """One sentence for people."""
    source: Annotated[str, Field(min_length=1)] = Field(examples=['"Where the grid comes from"'])
    """Source of the grid, such as a paper."""
    origin: Literal["reference", "ours"] = Field(examples=["ours"])
    """Source of the grid: reference if it was read from a generator script of the reference, otherwise ours."""
    reference: Reference | None = None
    """Names of the zoo in the reference."""
    reference_twins: Reference | None = None
    """Names of its sparsified twins in the reference."""
    conflicts: tuple[str, ...] = ()
    """Known conflicts between the reference's script, its published data and this entry."""

    task: Annotated[TaskName, OneOf(TASKS)] = DEFAULT
    """Task of the models: classification of images, or image_regression, one image per model from coordinates."""
    image: Annotated[str, AfterValidator(image_range)] | None = Field(default=None, examples=['"0:5000"'])
    """Only with image_regression: images to learn, a half-open range "A:B", the slowest axis; a larger B appends."""
    steps_per_epoch: Annotated[int, Field(gt=0)] | None = Field(default=None, examples=["20"])
    """Only with image_regression: steps per epoch. Each step uses all pixels of the image."""
    dataset: DatasetField = Field(examples=["mnist"])
    """Images: the name of a data set, or images of your own, {npz: ./mine.npz} or {folder: ./pictures}."""
    preprocessing: Preprocessing = Field(examples=["{mean: [0.1307], std: [0.3081]}"])
    """Conversion of images to the normalised pixels that a network sees."""
    split: SplitRule = Field(examples=["{train: 50000, val: 10000, seed: 42}"])
    """Division of the images into training, validation and test."""
    augment: AugmentName | None = None
    """Random changes to training images: crop-flip (pad 4, crop, mirror) or flip-rotate (mirror, up to 20 degrees)."""

    architecture: ArchitectureField = Field(examples=["cnn-s"])
    """Network: a name, a list of layers, {layers: [...], width: 1}, or your code, {file: ./net.py, class: Net}."""
    start: Any = None  # ZooSpec gives it its type; it is here to keep its place in the order of the fields
    axes: Axes | None = Field(examples=[AXES_EXAMPLE])
    """Grid of hyperparameters; null if hyperparameters are drawn."""
    draws: DrawsField = None
    """Instead of axes: distributions from which the hyperparameters of each model are drawn, or {like: ZOO}."""
    seeds: Seeds = Field(examples=['"1:11"'])
    """A half-open range such as "1:11", a list, or random: each model gets its own, from seed_salt and model index."""
    seeds_per_cell: SeedsPerCell | None = None
    """Models per cell; only with random seeds."""
    seed_salt: Annotated[int, Field(ge=0)] | None = None
    """Only with random seeds, which are derived from it. Another salt makes another zoo."""
    imported_seeds: tuple[Annotated[int, Field(ge=0, lt=2**32)], ...] | None = None
    """Seeds that were read from a published tree, one per model; they replace derived seeds."""
    initializer_scale: Annotated[Number, Field(gt=0)] = 1.0
    """Factor by which the initializer's weights are multiplied; biases are not."""
    initial_bias: Number = 0.01
    """Initial value of all biases."""
    weight_decay_on: Literal["all", "kernels"] = "all"
    """Parameters that weight decay shrinks: all, or only kernels, which have at least two axes (biases have one)."""
    momentum: Annotated[Number, Field(ge=0, lt=1)] = 0.0
    """Momentum of SGD and RMSprop; Adam ignores it."""
    nesterov: bool = False
    """Nesterov momentum of SGD."""
    batch_size: Annotated[int, Field(gt=0)] = Field(examples=["10"])
    """Images per step; the last batch of an epoch may be smaller."""
    num_epochs: Annotated[int, Field(gt=0)] = Field(examples=["50"])
    """Epochs that are trained unless a command requests fewer or more; epoch 0 is the untrained model."""
    schedule: ScheduleName | None = None
    """Schedule of the learning rate; null keeps it constant."""
    precision: PrecisionName = "float32"
    """Arithmetic of training and evaluation; a layer list needs float32."""
    memory_format: MemoryFormatName = "contiguous"
    """Order of images in memory; a layer list needs contiguous."""

    train_eval_epochs: Epochs = EpochSet(((0, 1),))
    """Epochs after which the training split is evaluated too. Epoch 0 is always included."""
    save_epochs: Epochs = EpochSet(None)
    """Epochs whose weights are kept. Metrics are kept for all epochs."""
    commit_every: Annotated[int, Field(gt=0)] = 1
    """Epochs per commit. A worker that fails loses at most its work since the last commit."""
    expected_faulty_ratio: Annotated[Number, Field(ge=0, le=1)] = 0.05
    """Share of models that are expected to become faulty. The alert FaultyRatioHigh fires at twice this share."""
    split_rule: ModelSplitRule = ModelSplitRule()
    """Division of the published zoo's models into train, val and test."""
    extend: tuple[ExtendBlock, ...] = ()
    """Grids that were appended later. Existing rows are never changed or renumbered."""
    sparsify: SparsifySpec | None = None
    """Method by which `zoo run` makes sparse twins; null: it makes none."""
    compression: CompressionName | None = None
    """Compression of published shards: delta-zstd (lossless) or none; null: that of the zoo's current version."""

    @property
    def image_facts(self) -> ImageFacts:
        """Shape, classes and counts of the images, before preprocessing."""
        return facts_of(self.dataset)

    @property
    def dataset_name(self) -> str:
        """Name of the images in messages, cards and manifests."""
        return name_of(self.dataset)

    def axis_values(self, name: str) -> tuple[Any, ...]:
        """Values of a hyperparameter in the zoo's grid, or those it is drawn from; empty for a range of numbers."""
        if self.draws is not None:
            return tuple(getattr(self.draws, name).values)
        return tuple(getattr(self.axes, name))

    def varies(self, name: str) -> bool:
        """True if any model may have another value of a later axis than its default."""
        columns = self.axes if self.axes is not None else self.draws
        assert columns is not None
        default = type(columns).model_fields[name].default
        return getattr(columns, name) != default or any(getattr(block, name, None) is not None for block in self.extend)

    @property
    def num_cells(self) -> int:
        """Number of cells of the zoo's grid without its extend blocks, or number of rows that are drawn."""
        if self.draws is not None:
            return self.draws.num_models
        total = 1
        for name in AXIS_ORDER:
            total *= len(getattr(self.axes, name))
        return total

    @property
    def images(self) -> range | None:
        """Indices of the images that are learned, one per model; None if every model sees all images."""
        return None if self.image is None else images_of(self.image)

    @property
    def num_seeds(self) -> int:
        """Number of models in each cell."""
        return 1 if self.draws is not None else self.seeds_per_cell or len(self.seeds.values or ())

    @property
    def num_base_models(self) -> int:
        """Number of models of the zoo's grid, without its extend blocks."""
        return self.num_cells * self.num_seeds * len(self.images or (0,))

    @property
    def task_row(self) -> Task:
        """The registry's row of the task."""
        return TASKS[self.task]

    @property
    def kind(self) -> ZooKind:
        """The kind of the zoo.

        ``seed``: one cell with many seeds; ``hyp-fixed``: every cell has the same seeds; ``hyp-random``: every model
        has a random seed; ``drawn``: every model has drawn hyperparameters; ``images``: every model learns an image.
        """
        if self.draws is not None:
            return "drawn"
        if self.image is not None:
            return "images"
        if self.seeds.values is None:
            return "hyp-random"
        return "seed" if self.num_cells == 1 else "hyp-fixed"

    @property
    def in_channels(self) -> int:
        return self.preprocessing.shape_of(self.image_facts)[0]

    @property
    def image_size(self) -> int:
        """Side of the square images that the network sees."""
        return self.preprocessing.shape_of(self.image_facts)[1]

    @property
    def num_classes(self) -> int:
        """Outputs of the network: one per class, or per channel of an image that is learned."""
        return (
            self.in_channels
            if self.task_row.vectors
            else max(self.architecture_row.least_outputs, self.image_facts.num_classes)
        )

    @property
    def architecture_name(self) -> str:
        """Name of the network in messages and manifests. For a user's network ``layers-`` or ``code-`` and a digest."""
        return self.architecture if isinstance(self.architecture, str) else self.architecture.name

    @property
    def architecture_row(self) -> ArchitectureRow:
        """The registry's row of the network. For a user's network it is the row that the registry would have."""
        if isinstance(self.architecture, str):
            return ARCHITECTURES[self.architecture]
        return self._own_row

    @cached_property
    def _own_row(self) -> ArchitectureRow:
        own = self.architecture
        assert not isinstance(own, str)

        def build(in_channels: int, image_size: int, num_classes: int, activation: str, dropout: bool) -> Network:
            del dropout  # the layers stay in the network at ratio 0
            if isinstance(own, OwnCode):
                return own.network
            if self.task_row.vectors:
                return own.network(len(COORDINATES), 1, in_channels, activation, self.task_row)
            return own.network(in_channels, image_size, num_classes, activation)

        network = build(self.in_channels, self.image_size, self.image_facts.num_classes, "relu", dropout=True)
        return ArchitectureRow(
            "a network of one's own", build, (self.image_size,), unit_models(network), least_outputs=1
        )

    def network(self, activation: str, dropout: bool) -> Network:
        """The network of the models with this activation; ``dropout`` says whether their dropout ratio is positive."""
        if not isinstance(self.architecture, str):
            classes = self.image_facts.num_classes
            return self._own_row.build(self.in_channels, self.image_size, classes, activation, dropout)
        return architecture(
            self.architecture,
            self.in_channels,
            activation,
            dropout,
            num_classes=self.num_classes,
            image_size=self.image_size,
        )

    @property
    def num_test(self) -> int:
        """Number of images in the test split."""
        return (self.image_facts.num_test or 0) if self.split.test is None else self.split.test

    @property
    def num_steps(self) -> int:
        """Number of steps in an epoch."""
        return self.steps_per_epoch or -(-self.split.train // self.batch_size)

    @property
    def samples_per_epoch(self) -> int:
        """Number of samples in an epoch: images, or for image_regression pixels, counted once per step."""
        return self.steps_per_epoch * self.batch_size if self.steps_per_epoch else self.split.train
