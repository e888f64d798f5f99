"""The checks of a zoo's spec: whether its fields fit each other, its images and its network. Pure."""

from ..models.registry import ARCHITECTURES
from ..tasks.registry import TASKS, only_of
from .blocks import FREE_SPREAD
from .fields import ZooFields
from .layer_list import LayerList
from .own_code import OwnCode
from .validation import MisplacedError


def check_fields(spec: ZooFields) -> None:
    """Raises ValueError with the first problem: two fields of ``spec`` that do not fit each other."""
    _rows_fit(spec)
    _task_fits(spec)
    _seeds_fit(spec)
    _images_fit(spec)
    _network_fits(spec)
    _training_fits(spec)


def _rows_fit(spec: ZooFields) -> None:
    if (spec.axes is None) == (spec.draws is None):
        raise ValueError("axes and draws: give one of them, a grid or hyperparameters that are drawn")
    if spec.draws is None:
        return
    if spec.extend:
        raise ValueError("extend: blocks belong to a grid; a zoo with draws grows by draws.num_models")
    for name in ("seeds_per_cell", "imported_seeds"):
        if getattr(spec, name) is not None:
            raise ValueError(f"{name} belongs to a grid, not to draws")
    if spec.seeds.values is not None and len(spec.seeds.values) != 1:
        raise ValueError("seeds: with draws they are random, or one seed of all models, e.g. [42]")


def _task_fits(spec: ZooFields) -> None:
    task, fields = spec.task_row, type(spec).model_fields
    for name, field in fields.items():
        owner, value = only_of(name), getattr(spec, name)
        if owner == spec.task and value is None:
            raise ValueError(f"{name} is required with task {spec.task}, e.g. {name}: {(field.examples or [''])[0]}")
        if owner not in (None, spec.task) and value is not None:
            raise ValueError(f"{name} belongs to task {owner}, this zoo's is {spec.task}")
        if name in task.refused and value != field.get_default():
            raise ValueError(f"{name}: the task {spec.task} does not have it; leave it out")
    if task.vectors and not isinstance(spec.architecture, LayerList):
        raise ValueError(f"architecture: the task {spec.task} takes a list of layers, found {spec.architecture_name}")
    foreign = {name for row in TASKS.values() for name in row.initializers} - set(task.initializers)
    named = [*spec.axis_values("initializer"), *(name for block in spec.extend for name in block.initializer or ())]
    if others := foreign.intersection(named):
        raise ValueError(f"initializer: the task {spec.task} has no {', '.join(sorted(others))}")
    task.check(spec)


def _seeds_fit(spec: ZooFields) -> None:
    per_model = ("seeds_per_cell", spec.seeds_per_cell), ("seed_salt", spec.seed_salt)
    if spec.seeds.values is None:
        needed = per_model if spec.draws is None else per_model[1:]
        missing = [name for name, value in needed if value is None]
        if missing:
            raise ValueError(f"seeds: random needs {' and '.join(missing)}")
        if spec.imported_seeds is not None and len(spec.imported_seeds) != spec.num_cells * spec.num_seeds:
            raise ValueError(
                f"imported_seeds has {len(spec.imported_seeds)} values, the grid "
                f"{spec.num_cells * spec.num_seeds} models"
            )
    else:
        given = [name for name, value in (*per_model, ("imported_seeds", spec.imported_seeds)) if value is not None]
        if given:
            raise ValueError(f"{given[0]} belongs to seeds: random, but seeds are {spec.seeds}")
    if spec.split_rule.kind == "reference" and spec.extend:
        raise ValueError("split_rule reference shuffles the whole plan: an extend block would move models of it")
    for number, block in enumerate(spec.extend):
        if block.seeds is not None and (block.seeds.values is None) != (spec.seeds.values is None):
            raise ValueError(f"extend block {number}: a zoo's seeds are either all random or all stated")
        if set(block.initializer or ()) - set(FREE_SPREAD) and spec.axis_values("initial_std") != (1.0,):
            raise ValueError(f"extend block {number}: initial_std belongs to {' and '.join(FREE_SPREAD)}")
        if block.seeds_per_cell is not None and spec.seeds.values is not None:
            raise ValueError(f"extend block {number}: seeds_per_cell belongs to seeds: random")


def _images_fit(spec: ZooFields) -> None:
    facts, name = spec.image_facts, spec.dataset_name
    if spec.preprocessing.grayscale and facts.channels == 1:
        raise ValueError(f"preprocessing.grayscale: {name} has one channel already")
    if (spec.preprocessing.center_crop or 0) > facts.image_size:
        raise ValueError(f"preprocessing.center_crop: {name} images have a side of {facts.image_size}")
    for field, values in (("mean", spec.preprocessing.mean), ("std", spec.preprocessing.std)):
        if len(values) != spec.in_channels:
            raise ValueError(f"preprocessing.{field}: {len(values)} values for {spec.in_channels} channels")
    split = spec.split
    if split.test is None and facts.num_test is None:
        raise ValueError(f"split.test: {name} has no official test set; say how many images test")
    if split.test == 0 and "test" in spec.task_row.splits:
        raise ValueError("split.test: no image would test; give a number above 0")
    if split.seed is None and (split.val or split.test):
        raise ValueError("split.seed: null keeps the official order and has no val or test to cut; give a seed")
    wanted = split.train + split.val + (split.test or 0)
    if wanted > facts.num_images:
        raise ValueError(f"split: {wanted} images wanted, {name} has {facts.num_images}")
    if spec.batch_size > split.train and not spec.task_row.vectors:
        raise ValueError(f"batch_size {spec.batch_size} is larger than the {split.train} training images")


def _network_fits(spec: ZooFields) -> None:
    network, columns = spec.architecture, spec.axes or spec.draws
    place = "axes" if spec.draws is None else "draws"
    takes_activation = takes_dropout = True
    if isinstance(network, LayerList):
        try:
            made = spec.network("relu", dropout=True)
        except MisplacedError as error:
            raise ValueError(f"architecture.{error}") from None
        spec.task_row.check_network(made, spec.axis_values("initializer"))
        takes_activation, takes_dropout = network.takes_activation, network.has_dropout
    elif isinstance(network, OwnCode):
        _code_fits(spec, network)
        takes_activation, takes_dropout = False, bool(network.dropouts)
    elif spec.image_size not in ARCHITECTURES[network].image_sizes:
        sizes = " or ".join(f"{size} x {size}" for size in ARCHITECTURES[network].image_sizes)
        raise ValueError(
            f"{network} takes images of {sizes}, {spec.dataset_name} gives "
            f"{spec.image_size} x {spec.image_size}; set preprocessing.resize"
        )
    put = "put `{}` into its layers" if isinstance(network, LayerList) else "its code has {} layers of its own, if any"
    for axis, taken, layer in (
        ("activation", takes_activation, "activation"), ("dropout_ratio", takes_dropout, "dropout"),
    ):  # fmt: skip
        assert columns is not None
        field = type(columns).model_fields[axis]
        if taken and axis not in columns.model_fields_set:
            raise ValueError(f"{place}.{axis} is required, e.g. {place}.{axis}: {(field.examples or [''])[0]}")
        if not taken and (getattr(columns, axis) != field.default or any(getattr(b, axis) for b in spec.extend)):
            raise ValueError(f"{place}.{axis}: no layer of the architecture uses it; {put.format(layer)}")


def _training_fits(spec: ZooFields) -> None:
    if spec.nesterov and not spec.momentum:
        raise ValueError("nesterov needs a momentum above 0")
    if spec.num_epochs % spec.commit_every:
        raise ValueError(f"num_epochs {spec.num_epochs} is not a multiple of commit_every {spec.commit_every}")
    if spec.schedule is not None and spec.varies("train_fraction"):
        raise ValueError(f"train_fraction: the schedule {spec.schedule} counts the steps of the whole training split")
    for name in ("train_fraction", "label_noise"):
        if spec.task_row.vectors and spec.varies(name):
            raise ValueError(f"{name}: a model of task {spec.task} learns the whole of one image, without a label")
    if spec.image_facts.num_classes < 2 and spec.varies("label_noise"):
        raise ValueError(f"label_noise: {spec.dataset_name} has one class, so no other label")
    fixed = spec.architecture_row.fixed_activation
    for name, value in (("precision", spec.precision), ("memory_format", spec.memory_format)):
        if fixed is None and value != type(spec).model_fields[name].default:
            raise ValueError(f"{name}: {_kind_of_network(spec)}, which is not computed in {value}")
    if isinstance(spec.architecture, OwnCode) and spec.sparsify is not None:
        raise ValueError(f"sparsify: twins are made of CNNs; {_kind_of_network(spec)}")
    if fixed is not None:
        if spec.axis_values("activation") != (fixed,) or spec.axis_values("dropout_ratio") != (0.0,):
            raise ValueError(
                f"{spec.architecture} has {fixed} and no dropout: axes.activation [{fixed}], axes.dropout_ratio [0.0]"
            )
        if any(block.activation or block.dropout_ratio for block in spec.extend):
            raise ValueError(f"{spec.architecture} has {fixed} and no dropout; an extend block cannot change them")
        if spec.sparsify is not None:
            raise ValueError(f"sparsify: twins are made of CNNs; {spec.architecture} has none")


def _code_fits(spec: ZooFields, network: OwnCode) -> None:
    examined = network.in_channels, network.image_size, network.num_classes
    if examined != (spec.in_channels, spec.image_size, spec.image_facts.num_classes):
        channels, size, classes = examined
        raise ValueError(
            f"architecture: the facts of {network.name} are of {channels} x {size} x {size} images and {classes} "
            f"classes, here are {spec.in_channels} x {spec.image_size} x {spec.image_size} and "
            f"{spec.image_facts.num_classes}; change it in the spec whose `architecture` names the code's file"
        )


def _kind_of_network(spec: ZooFields) -> str:
    kind = "code" if isinstance(spec.architecture, OwnCode) else "a layer list"
    return f"{spec.architecture_name} is {kind}"
