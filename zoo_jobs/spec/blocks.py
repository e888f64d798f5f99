"""The blocks of a zoo spec, and the types of its fields. Pure."""

import json
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    Field,
    PlainSerializer,
    PlainValidator,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

from ..closed import Closed, Number, OneOf
from ..data.own import ImageFile, Images, OwnImages
from ..data.registry import DATASETS
from ..errors import InputError
from ..models.arithmetic import MEMORY_FORMATS, PRECISIONS
from ..models.layers import ACTIVATIONS
from ..models.optimizers import OPTIMIZERS
from ..models.registry import ARCHITECTURES, INITIALIZERS
from ..sparsify.kl_schedule import LAMBDA_EPOCHS
from .epochs import EPOCHS_JSON_SCHEMA, EpochSet
from .layer_list import ARCHITECTURE_JSON_SCHEMA, LayerList, parse
from .own_code import CodeFile, OwnCode
from .seeds import SEEDS_JSON_SCHEMA, SeedRule
from .validation import one_line

ArchitectureName = Annotated[str, OneOf(ARCHITECTURES)]
PrecisionName = Annotated[str, OneOf(PRECISIONS)]
MemoryFormatName = Annotated[str, OneOf(MEMORY_FORMATS)]
ActivationName = Annotated[str, OneOf(ACTIVATIONS)]
InitializerName = Annotated[str, OneOf(INITIALIZERS)]
OptimizerName = Annotated[str, OneOf(OPTIMIZERS)]
AugmentName = Literal["crop-flip", "flip-rotate"]
ScheduleName = Literal["one-cycle"]
SparsifyMethod = Literal["variational-dropout", "magnitude"]
ZooKind = Literal["seed", "hyp-fixed", "hyp-random", "drawn", "images"]

NUMERICS_VERSION = 1
"""Every change that changes a number of a trajectory raises this version. It is part of every run id."""

T = TypeVar("T")


def _dataset(value: Any) -> Images:
    if isinstance(value, OwnImages) or (isinstance(value, str) and value in DATASETS):
        return value
    if isinstance(value, dict):
        if set(value) & set(ImageFile.model_fields) - set(OwnImages.model_fields):
            raise ValueError("images are read from npz or folder only where a file holds the spec")
        try:
            return OwnImages.model_validate_json(json.dumps(value))
        except ValidationError as error:
            raise ValueError(one_line(error, OwnImages)) from None
    # As pydantic says it of a Literal, which one_line shows with the nearest name.
    raise PydanticCustomError(
        "literal_error", "Input should be {expected}", {"expected": ", ".join(f"'{name}'" for name in DATASETS)}
    )


def _dataset_json(value: Images) -> Any:
    return value if isinstance(value, str) else value.model_dump(mode="json", exclude_defaults=True)


DATASET_JSON_SCHEMA: dict[str, Any] = {
    "anyOf": [{"enum": list(DATASETS)}, ImageFile.model_json_schema(), OwnImages.model_json_schema()]
}
DatasetField = Annotated[
    Images, PlainValidator(_dataset), PlainSerializer(_dataset_json), WithJsonSchema(DATASET_JSON_SCHEMA)
]


NetworkOfSpec = str | LayerList | OwnCode
"""The `architecture` of a spec: a name of the registry, a list of layers, or code."""


def _architecture(value: Any) -> NetworkOfSpec:
    if isinstance(value, LayerList | OwnCode) or (isinstance(value, str) and value in ARCHITECTURES):
        return value
    if isinstance(value, dict):
        if "file" in value:
            raise ValueError("code is read from a file only where a file holds the spec")
        if "code" not in value and "class" not in value:
            return parse(value)
        try:
            return OwnCode.model_validate_json(json.dumps(value))
        except ValidationError as error:
            raise ValueError(one_line(error, OwnCode)) from None
    # As pydantic says it of a Literal, which one_line shows with the nearest name.
    raise PydanticCustomError(
        "literal_error", "Input should be {expected}", {"expected": ", ".join(f"'{name}'" for name in ARCHITECTURES)}
    )


def _architecture_json(value: NetworkOfSpec) -> Any:
    return value if isinstance(value, str) else value.to_json()


CODE_JSON_SCHEMAS = [CodeFile.model_json_schema(), OwnCode.model_json_schema()]
ArchitectureField = Annotated[
    NetworkOfSpec,
    PlainValidator(_architecture),
    PlainSerializer(_architecture_json),
    WithJsonSchema({"anyOf": [*ARCHITECTURE_JSON_SCHEMA["anyOf"], *CODE_JSON_SCHEMAS]}),
]


def _distinct(values: tuple[T, ...]) -> tuple[T, ...]:
    if len(set(values)) != len(values):
        raise ValueError(f"a value is named twice in {list(values)}")
    return values


Epochs = Annotated[
    EpochSet,
    PlainValidator(EpochSet.parse),
    PlainSerializer(EpochSet.to_json),
    WithJsonSchema(EPOCHS_JSON_SCHEMA),
]
Seeds = Annotated[
    SeedRule,
    PlainValidator(SeedRule.parse),
    PlainSerializer(SeedRule.to_json),
    WithJsonSchema(SEEDS_JSON_SCHEMA),
]
Activations = Annotated[tuple[ActivationName, ...], Field(min_length=1), AfterValidator(_distinct)]
DropoutRatios = Annotated[
    tuple[Annotated[Number, Field(ge=0, lt=1)], ...], Field(min_length=1), AfterValidator(_distinct)
]
Initializers = Annotated[tuple[InitializerName, ...], Field(min_length=1), AfterValidator(_distinct)]
Optimizers = Annotated[tuple[OptimizerName, ...], Field(min_length=1), AfterValidator(_distinct)]
LearningRates = Annotated[tuple[Annotated[Number, Field(gt=0)], ...], Field(min_length=1), AfterValidator(_distinct)]
WeightDecays = Annotated[tuple[Annotated[Number, Field(ge=0)], ...], Field(min_length=1), AfterValidator(_distinct)]
TrainFractions = Annotated[
    tuple[Annotated[Number, Field(gt=0, le=1)], ...], Field(min_length=1), AfterValidator(_distinct)
]
LabelNoises = Annotated[
    tuple[Annotated[Number, Field(ge=0, lt=1)], ...], Field(min_length=1), AfterValidator(_distinct)
]
InitialStds = Annotated[tuple[Annotated[Number, Field(gt=0)], ...], Field(min_length=1), AfterValidator(_distinct)]
SeedsPerCell = Annotated[int, Field(gt=0)]


class Axes(Closed):
    """Values of each hyperparameter. The grid is their product; dropout varies fastest, and the seed varies slowest."""

    activation: Activations = Field(default=("identity",), examples=["[tanh, relu]"])
    """Activation function of every hidden layer, or of the layers `activation` of a list; required if there are any."""
    dropout_ratio: DropoutRatios = Field(default=(0.0,), examples=["[0.0]"])
    """Share of activations that are dropped in training; required if the network has dropout layers."""
    initializer: Initializers = Field(examples=["[uniform]"])
    """Distribution of the initial weights."""
    optimizer: Optimizers = Field(examples=["[adam]"])
    """Optimizer, the rule by which a step changes the weights."""
    learning_rate: LearningRates = Field(examples=["[3e-4]"])
    """Learning rate; with the schedule one-cycle, the largest rate of the cycle."""
    weight_decay: WeightDecays = Field(examples=["[0.0]"])
    """L2 penalty, added to the gradient."""
    train_fraction: TrainFractions = Field(default=(1.0,), examples=["[1.0]"])
    """Share of the training images that a model sees, rounded up; models of one seed have nested subsets."""
    label_noise: LabelNoises = Field(default=(0.0,), examples=["[0.0]"])
    """Probability that a training image has a wrong label, which is any other class."""
    initial_std: InitialStds = Field(default=(1.0,), examples=["[1.0]"])
    """Standard deviation of the initial weights of normal, and of truncated_normal before it is cut."""

    @model_validator(mode="after")
    def _spread_is_free(self) -> Self:
        others = [name for name in self.initializer if name not in FREE_SPREAD]
        if others and self.initial_std != (1.0,):
            raise ValueError(f"initial_std belongs to {' and '.join(FREE_SPREAD)}; {others[0]} has its own")
        return self


FREE_SPREAD = ("normal", "truncated_normal")
"""Initializers whose standard deviation does not follow from the layer."""
FIRST_AXES = ("dropout_ratio", "initializer", "activation", "learning_rate", "optimizer", "weight_decay")
"""The reference's grid order, fastest first; the seed is slower than all of them. Source: Ray 1.8 sorts grid keys by
path (``model::dropout``, ``model::init_type``, ``model::nlin``, ``optim::lr``, ...) and varies the first fastest."""
LATER_AXES = ("train_fraction", "label_noise", "initial_std")
"""Axes that were added later. They vary more slowly, and digests contain them only if they differ from the default."""
AXIS_ORDER = (*FIRST_AXES, *LATER_AXES)


class ExtendBlock(Closed):
    """A further grid, whose rows come after all others. An axis that the block does not name is that of the zoo."""

    activation: Activations | None = None
    dropout_ratio: DropoutRatios | None = None
    initializer: Initializers | None = None
    optimizer: Optimizers | None = None
    learning_rate: LearningRates | None = None
    weight_decay: WeightDecays | None = None
    train_fraction: TrainFractions | None = None
    label_noise: LabelNoises | None = None
    seeds: Seeds | None = None
    """Seeds of the block. They are random if and only if the seeds of the zoo are random."""
    seeds_per_cell: SeedsPerCell | None = None
    """Models per cell; only with random seeds."""

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.model_fields_set:
            raise ValueError("a block must name an axis or seeds")
        return self


class ModelSplitRule(Closed):
    """Divides the models of a published zoo into train, val and test; a twin is in the split of its parent."""

    kind: Literal["hash", "reference"] = "hash"
    """hash: by a hash of zoo name and model index, stable when a zoo grows; reference: the reference's shuffle."""
    group: Literal["seed", "cell"] | None = None
    """Puts all models of one seed, or of one cell of the grid, into the same split (only with kind hash)."""

    @model_validator(mode="after")
    def _group_is_hashed(self) -> Self:
        if self.kind == "reference" and self.group is not None:
            raise ValueError("group belongs to kind hash; the reference's shuffle knows no groups")
        return self


class SparsifySpec(Closed):
    """The method by which twins are made from the models of a zoo."""

    method: SparsifyMethod = Field(examples=["variational-dropout"])
    num_epochs: Annotated[int, Field(gt=0)] = 25
    """Epochs of sparsification. The number may grow later, and the run stays the same."""
    sparsity_ratio: Annotated[Number, Field(gt=0, lt=1)] | None = None
    """Share of the weights that magnitude pruning removes, a multiple of 0.01."""
    lambda_epochs: Annotated[int, Field(gt=0)] = LAMBDA_EPOCHS
    """Variational dropout: epochs in which the weight of the KL term grows by 0.01 (reference: num_epochs)."""
    weight_decay: Literal["parent", 0] = 0
    """Weight decay of the twins: 0, or that of each parent, which then also decays log sigma^2."""
    save_epochs: Epochs = EpochSet(None)
    """Epochs whose weights are kept. Metrics are kept for all epochs."""

    @model_validator(mode="after")
    def _lambda_fits_method(self) -> Self:
        if self.method != "variational-dropout" and self.lambda_epochs != LAMBDA_EPOCHS:
            raise ValueError("lambda_epochs belongs to method variational-dropout")
        return self

    @model_validator(mode="after")
    def _ratio_fits_method(self) -> Self:
        if (self.method == "magnitude") != (self.sparsity_ratio is not None):
            raise ValueError("sparsity_ratio belongs to method magnitude, and is required there")
        if self.sparsity_ratio is not None and abs(self.sparsity_ratio * 100 - self.percent) > 1e-9:
            raise ValueError(f"sparsity_ratio is in whole percent, got {self.sparsity_ratio}")
        return self

    @property
    def percent(self) -> int:
        return round((self.sparsity_ratio or 0) * 100)

    @property
    def suffix(self) -> str:
        """Ending of a twin zoo's name, e.g. ``vd`` or ``magnitude-90``."""
        return "vd" if self.method == "variational-dropout" else f"magnitude-{self.percent:02d}"


class Reference(Closed):
    """Names under which the reference published a zoo."""

    script: str | None
    """Generator script in ModelZoos/ModelZooDataset, code/zoo_generators; null if none was published."""
    experiment: str | None
    """Folder that the script writes."""
    published: tuple[str, ...] = ()
    """Folders of the published data, as the authors' downloader knows them."""
    zenodo: tuple[int, ...] = ()
    """Zenodo records."""

    @property
    def names(self) -> tuple[str, ...]:
        """All names by which the zoo can be found, in lower case."""
        names = list(self.published) + [folder.rsplit("/", 1)[-1] for folder in self.published]
        if self.script is not None:
            stem = self.script.removesuffix(".py")
            names += [self.script, stem, stem.removeprefix("train_zoo_").removeprefix("train_")]
            names.append(names[-1] + ".py")
        if self.experiment is not None:
            names.append(self.experiment)
        return tuple(dict.fromkeys(name.lower() for name in names))


M = TypeVar("M", bound=BaseModel)


def validated(model: type[M], value: Any, where: str) -> M:
    """Parse ``value`` as a ``model``. Raises InputError with one line that begins with ``where``."""
    try:
        # Through JSON, so that lists become tuples while strict types stay strict.
        return model.model_validate_json(json.dumps(value))
    except ValidationError as error:
        raise InputError(f"{where}: {one_line(error, model)}") from None
