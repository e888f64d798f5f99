"""The spec of a zoo: a typed, closed and frozen value that says what is trained, and how. Pure."""

from functools import cached_property
from typing import Annotated, Any, Literal, Optional, Self

from pydantic import AfterValidator, Field, PlainSerializer, WithJsonSchema, model_validator

from zooforge.storage.canonical import digest_of
from zooforge.storage.formats.compression import CompressionName

from ..closed import Closed, Number, OneOf
from ..data.own import ImageFacts, facts_of, name_of
from ..data.rules import Preprocessing, SplitRule
from ..errors import InputError, unknown
from ..models.registry import ARCHITECTURES, ArchitectureRow, Network, architecture
from ..tasks.contract import Task, TaskName
from ..tasks.image_regression import COORDINATES, image_range, images_of
from ..tasks.registry import DEFAULT, TASKS, only_of
from .blocks import (
    AXIS_ORDER,
    FIRST_AXES,
    FREE_SPREAD,
    LATER_AXES,
    NUMERICS_VERSION,
    ArchitectureField,
    AugmentName,
    Axes,
    DatasetField,
    Epochs,
    ExtendBlock,
    InitializerName,
    MemoryFormatName,
    ModelSplitRule,
    OptimizerName,
    PrecisionName,
    Reference,
    ScheduleName,
    Seeds,
    SeedsPerCell,
    SparsifyMethod,
    SparsifySpec,
    ZooKind,
    validated,
)
from .draws import DrawsField
from .epochs import EpochSet
from .layer_list import LayerList, unit_models
from .own_code import OwnCode
from .start import Head, ModelRange, difference
from .validation import MisplacedError

__all__ = [
    "AXIS_ORDER", "NUMERICS_VERSION", "AugmentName", "Axes", "ExtendBlock", "InitializerName",
    "OptimizerName", "Preprocessing", "Reference", "ScheduleName", "SparsifyMethod", "SparsifySpec", "SplitRule",
    "Start", "ZooKind", "ZooSpec",
]  # fmt: skip


AXES_EXAMPLE = (
    "{activation: [tanh], dropout_ratio: [0.0], initializer: [uniform], optimizer: [adam], learning_rate: [3e-4], "
    "weight_decay: [0.0]}"
)


def _whole(spec: "ZooSpec | None") -> dict[str, Any] | None:
    """All fields of the parents' spec, even if only the child's fields that differ from their defaults are written."""
    return None if spec is None else spec.to_json()


class Start(Closed):
    """The models (parents) with whose weights the models of this zoo begin. The parent is the grid's slowest axis."""

    zoo: Annotated[str, Field(min_length=1)]
    """The parents' zoo: a name of the catalogue, or the path of a spec's file."""
    epoch: Annotated[int, Field(ge=0)]
    """Epoch of the parents whose weights are used; these weights must be published."""
    models: ModelRange
    """Indices of the parents, a half-open range "A:B"; a larger B appends models to the zoo."""
    head: Head = "keep"
    """keep: all weights are the parent's; new: the last layer is initialised anew, so the classes may differ."""
    parent: Annotated[Optional["ZooSpec"], PlainSerializer(_whole), WithJsonSchema({"type": ["object", "null"]})] = None
    """Spec of the parents' zoo; reading the spec's file fills it in."""

    @property
    def parents(self) -> range:
        """Indices of the parents."""
        first, stop = self.models.split(":")
        return range(int(first), int(stop))

    @property
    def spec(self) -> "ZooSpec":
        """The spec of the parents' zoo."""
        if self.parent is None:
            raise ValueError("the spec of the parents' zoo is not filled in")
        return self.parent


class ZooSpec(Closed):
    """One zoo: a population of models of one architecture on one dataset."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$", max_length=34)] = Field(examples=["my-zoo"])
    """Lower-case words joined by hyphens."""
    description: Annotated[str, Field(min_length=1)] = Field(examples=['"One sentence."'])
    """One sentence for people."""
    source: Annotated[str, Field(min_length=1)] = Field(examples=['"Where the grid comes from"'])
    """Source of the grid, such as a paper."""
    origin: Literal["reference", "ours"] = Field(examples=["ours"])
    """Whether the grid was read from a generator script of the reference."""
    reference: Reference | None = None
    """Names of the zoo in the reference."""
    reference_twins: Reference | None = None
    """Names of its sparsified twins in the reference."""
    conflicts: tuple[str, ...] = ()
    """Known conflicts between the reference's script, its published data and this entry."""

    task: Annotated[TaskName, OneOf(TASKS)] = DEFAULT
    """What the models learn: classification of images, or image_regression, one image per model from coordinates."""
    image: Annotated[str, AfterValidator(image_range)] | None = Field(default=None, examples=['"0:5000"'])
    """Only with image_regression: images to learn, a half-open range "A:B", the slowest axis; a larger B appends."""
    steps_per_epoch: Annotated[int, Field(gt=0)] | None = Field(default=None, examples=["20"])
    """Only with image_regression: steps per epoch. Each step uses all pixels of the image."""
    dataset: DatasetField = Field(examples=["mnist"])
    """Images: the name of a data set, or images of your own, {npz: ./mine.npz} or {folder: ./pictures}."""
    preprocessing: Preprocessing = Field(examples=["{mean: [0.1307], std: [0.3081]}"])
    """How images become the normalised pixels that a network sees."""
    split: SplitRule = Field(examples=["{train: 50000, val: 10000, seed: 42}"])
    """How the images are divided into training, validation and test."""
    augment: AugmentName | None = None
    """Random changes to training images: crop-flip (pad 4, crop, mirror) or flip-rotate (mirror, up to 20 degrees)."""

    architecture: ArchitectureField = Field(examples=["cnn-s"])
    """Network: a name, a list of layers, {layers: [...], width: 1}, or your code, {file: ./net.py, class: Net}."""
    start: Start | None = None
    """Parents whose weights are the initial weights; null: the initializer makes the initial weights."""
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
    """What weight decay shrinks: all parameters, or only kernels, which have at least two axes (biases have one)."""
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
    """How the models of the published zoo are divided into train, val and test."""
    extend: tuple[ExtendBlock, ...] = ()
    """Grids that were appended later. Existing rows are never changed or renumbered."""
    sparsify: SparsifySpec | None = None
    """How `zoo run` makes sparse twins; null: it makes none."""
    compression: CompressionName | None = None
    """Compression of published shards: delta-zstd (lossless) or none; null: that of the zoo's current version."""

    @model_validator(mode="after")
    def _rows_fit(self) -> Self:
        if (self.axes is None) == (self.draws is None):
            raise ValueError("axes and draws: give one of them, a grid or hyperparameters that are drawn")
        if self.draws is None:
            return self
        if self.extend:
            raise ValueError("extend: blocks belong to a grid; a zoo with draws grows by draws.num_models")
        for name in ("seeds_per_cell", "imported_seeds"):
            if getattr(self, name) is not None:
                raise ValueError(f"{name} belongs to a grid, not to draws")
        if self.seeds.values is not None and len(self.seeds.values) != 1:
            raise ValueError("seeds: with draws they are random, or one seed of all models, e.g. [42]")
        return self

    @model_validator(mode="after")
    def _task_fits(self) -> Self:
        task, fields = self.task_row, type(self).model_fields
        for name, field in fields.items():
            owner, value = only_of(name), getattr(self, name)
            if owner == self.task and value is None:
                raise ValueError(
                    f"{name} is required with task {self.task}, e.g. {name}: {(field.examples or [''])[0]}"
                )
            if owner not in (None, self.task) and value is not None:
                raise ValueError(f"{name} belongs to task {owner}, this zoo's is {self.task}")
            if name in task.refused and value != field.get_default():
                raise ValueError(f"{name}: the task {self.task} does not have it; leave it out")
        if task.vectors and not isinstance(self.architecture, LayerList):
            raise ValueError(
                f"architecture: the task {self.task} takes a list of layers, found {self.architecture_name}"
            )
        foreign = {name for row in TASKS.values() for name in row.initializers} - set(task.initializers)
        named = [*self.axis_values("initializer"), *(name for block in self.extend for name in block.initializer or ())]
        if others := foreign.intersection(named):
            raise ValueError(f"initializer: the task {self.task} has no {', '.join(sorted(others))}")
        task.check(self)
        return self

    @model_validator(mode="after")
    def _seeds_fit(self) -> Self:
        per_model = ("seeds_per_cell", self.seeds_per_cell), ("seed_salt", self.seed_salt)
        if self.seeds.values is None:
            needed = per_model if self.draws is None else per_model[1:]
            missing = [name for name, value in needed if value is None]
            if missing:
                raise ValueError(f"seeds: random needs {' and '.join(missing)}")
            if self.imported_seeds is not None and len(self.imported_seeds) != self.num_cells * self.num_seeds:
                raise ValueError(
                    f"imported_seeds has {len(self.imported_seeds)} values, the grid "
                    f"{self.num_cells * self.num_seeds} models"
                )
        else:
            given = [name for name, value in (*per_model, ("imported_seeds", self.imported_seeds)) if value is not None]
            if given:
                raise ValueError(f"{given[0]} belongs to seeds: random, but seeds are {self.seeds}")
        if self.split_rule.kind == "reference" and self.extend:
            raise ValueError("split_rule reference shuffles the whole plan: an extend block would move models of it")
        for number, block in enumerate(self.extend):
            if block.seeds is not None and (block.seeds.values is None) != (self.seeds.values is None):
                raise ValueError(f"extend block {number}: a zoo's seeds are either all random or all stated")
            if set(block.initializer or ()) - set(FREE_SPREAD) and self.axis_values("initial_std") != (1.0,):
                raise ValueError(f"extend block {number}: initial_std belongs to {' and '.join(FREE_SPREAD)}")
            if block.seeds_per_cell is not None and self.seeds.values is not None:
                raise ValueError(f"extend block {number}: seeds_per_cell belongs to seeds: random")
        return self

    @model_validator(mode="after")
    def _images_fit(self) -> Self:
        facts, name = self.image_facts, self.dataset_name
        if self.preprocessing.grayscale and facts.channels == 1:
            raise ValueError(f"preprocessing.grayscale: {name} has one channel already")
        if (self.preprocessing.center_crop or 0) > facts.image_size:
            raise ValueError(f"preprocessing.center_crop: {name} images have a side of {facts.image_size}")
        for field, values in (("mean", self.preprocessing.mean), ("std", self.preprocessing.std)):
            if len(values) != self.in_channels:
                raise ValueError(f"preprocessing.{field}: {len(values)} values for {self.in_channels} channels")
        split = self.split
        if split.test is None and facts.num_test is None:
            raise ValueError(f"split.test: {name} has no official test set; say how many images test")
        if split.test == 0 and "test" in self.task_row.splits:
            raise ValueError("split.test: no image would test; give a number above 0")
        if split.seed is None and (split.val or split.test):
            raise ValueError("split.seed: null keeps the official order and has no val or test to cut; give a seed")
        wanted = split.train + split.val + (split.test or 0)
        if wanted > facts.num_images:
            raise ValueError(f"split: {wanted} images wanted, {name} has {facts.num_images}")
        if self.batch_size > split.train and not self.task_row.vectors:
            raise ValueError(f"batch_size {self.batch_size} is larger than the {split.train} training images")
        return self

    @model_validator(mode="after")
    def _network_fits(self) -> Self:
        network, columns = self.architecture, self.axes or self.draws
        place = "axes" if self.draws is None else "draws"
        takes_activation = takes_dropout = True
        if isinstance(network, LayerList):
            try:
                made = self.network("relu", dropout=True)
            except MisplacedError as error:
                raise ValueError(f"architecture.{error}") from None
            self.task_row.check_network(made, self.axis_values("initializer"))
            takes_activation, takes_dropout = network.takes_activation, network.has_dropout
        elif isinstance(network, OwnCode):
            self._check_code_fits(network)
            takes_activation, takes_dropout = False, bool(network.dropouts)
        elif self.image_size not in ARCHITECTURES[network].image_sizes:
            sizes = " or ".join(f"{size} x {size}" for size in ARCHITECTURES[network].image_sizes)
            raise ValueError(
                f"{network} takes images of {sizes}, {self.dataset_name} gives "
                f"{self.image_size} x {self.image_size}; set preprocessing.resize"
            )
        put = (
            "put `{}` into its layers"
            if isinstance(network, LayerList)
            else "its code has {} layers of its own, if any"
        )
        for axis, taken, layer in (
            ("activation", takes_activation, "activation"), ("dropout_ratio", takes_dropout, "dropout"),
        ):  # fmt: skip
            assert columns is not None
            field = type(columns).model_fields[axis]
            if taken and axis not in columns.model_fields_set:
                raise ValueError(f"{place}.{axis} is required, e.g. {place}.{axis}: {(field.examples or [''])[0]}")
            if not taken and (getattr(columns, axis) != field.default or any(getattr(b, axis) for b in self.extend)):
                raise ValueError(f"{place}.{axis}: no layer of the architecture uses it; {put.format(layer)}")
        return self

    @model_validator(mode="after")
    def _start_fits(self) -> Self:
        start = self.start
        if start is None:
            return self
        if start.parent is None:
            raise ValueError("start: the parents' zoo is read only where a file holds the spec")
        for name, unset in (
            ("draws", self.draws is None), ("extend", not self.extend), ("imported_seeds", self.imported_seeds is None),
        ):  # fmt: skip
            if not unset:
                raise ValueError(f"{name}: a zoo with `start` has a grid for each parent, and grows by start.models")
        if self.split_rule != ModelSplitRule():
            raise ValueError(f"split_rule: models stay in the split of their root, a model of {self.family_root.name}")
        if start.head == "keep" and len(self.axis_values("initializer")) > 1:
            raise ValueError("axes.initializer: nothing is initialised with start.head keep; name one")
        here, there = (one.network(one.axis_values("activation")[0], dropout=False) for one in (self, start.parent))
        if (different := difference(there, here, start.head)) is not None:
            hint = "; head: new leaves the last layer out" if start.head == "keep" else ""
            raise ValueError(f"start: the networks of {start.parent.name} have another layout: {different}{hint}")
        if start.epoch not in start.parent.save_epochs:
            raise ValueError(
                f"start.epoch: {start.parent.name} keeps no weights of epoch {start.epoch}; it keeps "
                f"{start.parent.save_epochs}"
            )
        return self

    @model_validator(mode="after")
    def _training_fits(self) -> Self:
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs a momentum above 0")
        if self.num_epochs % self.commit_every:
            raise ValueError(f"num_epochs {self.num_epochs} is not a multiple of commit_every {self.commit_every}")
        if self.schedule is not None and self.varies("train_fraction"):
            raise ValueError(
                f"train_fraction: the schedule {self.schedule} counts the steps of the whole training split"
            )
        for name in ("train_fraction", "label_noise"):
            if self.task_row.vectors and self.varies(name):
                raise ValueError(f"{name}: a model of task {self.task} learns the whole of one image, without a label")
        if self.image_facts.num_classes < 2 and self.varies("label_noise"):
            raise ValueError(f"label_noise: {self.dataset_name} has one class, so no other label")
        fixed = self.architecture_row.fixed_activation
        for name, value in (("precision", self.precision), ("memory_format", self.memory_format)):
            if fixed is None and value != type(self).model_fields[name].default:
                raise ValueError(f"{name}: {self._kind_of_network}, which is not computed in {value}")
        if isinstance(self.architecture, OwnCode) and self.sparsify is not None:
            raise ValueError(f"sparsify: twins are made of CNNs; {self._kind_of_network}")
        if fixed is not None:
            if self.axis_values("activation") != (fixed,) or self.axis_values("dropout_ratio") != (0.0,):
                raise ValueError(
                    f"{self.architecture} has {fixed} and no dropout: axes.activation [{fixed}], "
                    "axes.dropout_ratio [0.0]"
                )
            if any(block.activation or block.dropout_ratio for block in self.extend):
                raise ValueError(f"{self.architecture} has {fixed} and no dropout; an extend block cannot change them")
            if self.sparsify is not None:
                raise ValueError(f"sparsify: twins are made of CNNs; {self.architecture} has none")
        return self

    def _check_code_fits(self, network: OwnCode) -> None:
        examined = network.in_channels, network.image_size, network.num_classes
        if examined != (self.in_channels, self.image_size, self.image_facts.num_classes):
            channels, size, classes = examined
            raise ValueError(
                f"architecture: the facts of {network.name} are of {channels} x {size} x {size} images and {classes} "
                f"classes, here are {self.in_channels} x {self.image_size} x {self.image_size} and "
                f"{self.image_facts.num_classes}; change it in the spec whose `architecture` names the code's file"
            )

    @property
    def _kind_of_network(self) -> str:
        kind = "code" if isinstance(self.architecture, OwnCode) else "a layer list"
        return f"{self.architecture_name} is {kind}"

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
        """Whether any model may have another value of a later axis than its default."""
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

    @property
    def root(self) -> "ZooSpec":
        """The spec that defines data, architecture and batches: this one. For twins it is the parent's."""
        return self

    @property
    def family_root(self) -> "ZooSpec":
        """The first ancestor: the zoo at the end of the chain of ``start``. Without ``start`` it is this zoo."""
        return self if self.start is None else self.start.spec.family_root

    @property
    def run_content(self) -> dict[str, Any]:
        """JSON of the fields that can change a result, and of no other fields.

        It leaves out names and sources, ``extend`` (it only appends rows), ``draws.num_models``, ``start.models``,
        ``image``, ``save_epochs``, ``commit_every``, ``expected_faulty_ratio``, ``sparsify`` (twins have runs of their
        own), ``compression``, and ``num_epochs`` unless the schedule depends on it.
        """
        later = (
            "split_rule", "initializer_scale", "initial_bias", "memory_format", "precision", "weight_decay_on", "task",
            "steps_per_epoch",
        )  # fmt: skip
        content = self.digest_fields(always=_RESULT_FIELDS, if_set=later)
        if not isinstance(self.dataset, str):
            content["dataset"] = {"digest": self.dataset.digest}
        if isinstance(self.architecture, LayerList):
            content["architecture"] = {"layers": self.architecture.content}
        if isinstance(self.architecture, OwnCode):
            content["architecture"] = {"code": self.architecture.content}
        if self.draws is not None:
            del content["axes"]
            content["draws"] = self.draws.digest_fields(always=("seed", *FIRST_AXES), if_set=LATER_AXES)
        if self.axes is not None:
            content["axes"] = self.axes.digest_fields(always=FIRST_AXES, if_set=LATER_AXES)
        if self.start is not None:
            content["start"] = {"run": self.start.spec.run_id, "epoch": self.start.epoch, "head": self.start.head}
        content["seeds"] = "random" if self.seeds.values is None else list(self.seeds.values)
        content["train_eval_epochs"] = self.train_eval_epochs.with_epoch_0().to_json()
        if self.imported_seeds is not None:
            content["seed_salt"] = None
        if self.schedule is not None:
            content["num_epochs"] = self.num_epochs
        content["numerics_version"] = NUMERICS_VERSION
        return content

    @cached_property
    def run_id(self) -> str:
        """32 hex digits: SHA-256 over the canonical JSON of ``run_content``."""
        return digest_of(self.run_content)[:32]

    def to_json(self) -> dict[str, Any]:
        """The whole spec as JSON, with defaults, without fields that follow from the task. ``from_json`` reads it."""
        dumped: dict[str, Any] = self.model_dump(mode="json")
        return self.task_row.left_out(dumped)

    @classmethod
    def from_json(cls, value: Any, where: str = "spec") -> "ZooSpec":
        """Parse ``value`` as a spec. Raises InputError with one line that begins with ``where``."""
        if isinstance(value, dict):
            if value.get("draws") is not None:
                value = {"axes": None} | value  # `axes` has no default, so that a grid without it is refused
            task = str(value.get("task", DEFAULT))
            if task not in TASKS:  # check the task first, since other fields depend on it
                raise InputError(f"{where}: {unknown('task', task, TASKS)}")
            value = TASKS[task].fill_in(value)
        return validated(cls, value, where)


Start.model_rebuild()
ZooSpec.model_rebuild()

_RESULT_FIELDS = (
    "architecture", "augment", "axes", "batch_size", "dataset", "imported_seeds", "momentum", "nesterov",
    "preprocessing", "schedule", "seed_salt", "seeds_per_cell", "split",
)  # fmt: skip
