"""`zoo show`: one zoo, its grid and data, and its known differences from the reference."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import click
import yaml

from ..errors import InputError
from ..models.arithmetic import PRECISIONS
from ..planning.units import model_slice, work_units
from ..quantities import table
from ..spec.blocks import AXIS_ORDER, LATER_AXES, Reference
from ..spec.grid import rows
from ..spec.layer_list import LayerList
from ..spec.own_code import OwnCode
from ..spec.reference_seeds import with_imported_seeds
from ..spec.twins import TwinSpec, Zoo
from ..spec.zoo import ZooSpec
from .family import family_of
from .list_ import KINDS
from .options import allow_code_option, json_option, models_option, print_json, resolve_zoo, set_options, zoo_names


@click.command("show")
@click.argument("name", shell_complete=zoo_names)
@models_option
@set_options
@click.option("--yaml", "as_yaml", is_flag=True, help="The spec as YAML, to start a zoo of your own from.")
@click.option(
    "--import-seeds",
    "tree",
    metavar="TREE",
    type=click.Path(path_type=Path),
    help="Seeds from the trials of a published tree; needs --name, prints YAML.",
)
@allow_code_option
@json_option
def command(
    name: str,
    models: str | None,
    settings: tuple[str, ...],
    new_name: str | None,
    as_yaml: bool,
    tree: Path | None,
    allow_code: bool,
    as_json: bool,
) -> None:
    """One zoo: grid, data, training, sources, known conflicts. With --models, the rows of these models."""
    zoo = resolve_zoo(name, settings, new_name, allow_code) if tree is None else _imported(name, tree, new_name)
    if as_yaml or (tree is not None and not as_json):
        click.echo(yaml.safe_dump(writable(zoo), sort_keys=False, allow_unicode=True, width=120), nl=False)
        return
    chosen = None if models is None else [rows(zoo)[i] for i in model_slice(models, len(rows(zoo)), zoo.name)]
    if as_json:
        value = {**zoo.to_json(), "zoo": zoo.name, "run": zoo.run_id, "num_models": len(rows(zoo))}
        if chosen is not None:
            names = list(type(chosen[0]).__slots__)
            value["models"] = [{n: getattr(row, n) for n in names} | {"digest": row.digest} for row in chosen]
        print_json(value)
        return
    for line in _lines(zoo) if chosen is None else _row_lines(chosen):
        click.echo(line)


def _imported(name: str, tree: Path, new_name: str | None) -> ZooSpec:
    zoo = resolve_zoo(name)
    if isinstance(zoo, TwinSpec):
        raise InputError(f"{zoo.name}: import the seeds of {zoo.parent.name}; its twins have them too")
    return with_imported_seeds(zoo, tree, new_name)


def writable(zoo: Zoo) -> dict[str, Any]:
    """The fields of ``zoo`` for a YAML file: those that differ from the defaults."""
    if isinstance(zoo, TwinSpec):
        raise InputError(f"{zoo.name} has no file: twins are described by their parent, `zoo show {zoo.parent.name}`")
    fields = zoo.task_row.left_out(zoo.model_dump(mode="json", exclude_defaults=True))
    # Fields that a network may require are written even if they have the default value.
    fields |= {name: block.model_dump(mode="json") for name in ("axes", "draws") if (block := getattr(zoo, name))}
    return {name: fields[name] for name in ZooSpec.model_fields if fields.get(name) is not None}


def _lines(zoo: Zoo) -> list[str]:
    spec, all_rows = zoo.root, rows(zoo)
    units = work_units(zoo)
    net = spec.network(spec.axis_values("activation")[0], dropout=False)
    lines = [f"{zoo.name}: {spec.description}"]
    if isinstance(zoo, TwinSpec):
        lines.append(
            f"Sparsified twins of {spec.name} ({zoo.sparsify.method}), from weights after epoch {zoo.source_epoch};"
        )
        lines.append("optimizer and learning rate are the parent's, weight decay and dropout are 0.")
    if (family := family_of(spec)) is not None:
        lines += ["", *family]
    num_states = len(all_rows) * (zoo.num_epochs + 1)
    sizes = f"{len(all_rows):,} of {net.layout.size:,} parameters, {zoo.num_epochs} epochs: {num_states:,} states"
    lines += ["", f"run        {zoo.run_id}", f"models     {sizes}"]
    lines.append(f"varies     {spec.kind}: {KINDS[spec.kind]}")
    shown = [name for name in AXIS_ORDER if name not in LATER_AXES or spec.varies(name)]
    lines += [f"  {name:14} {_values(spec, name)}" for name in shown]
    lines.append(f"  {'seed':14} {_seeds(spec)}")
    for number, block in enumerate(spec.extend):
        lines.append(f"  extend {number}       {block.model_dump(mode='json', exclude_none=True)}")
    sees = "from coordinates to pixels of" if spec.images is not None else ""
    shape = f"{spec.in_channels} x {spec.image_size} x {spec.image_size} images"
    lines.append(f"network    {', '.join([spec.architecture_name, f'{sees} {shape}'.strip()])}")
    if isinstance(spec.architecture, LayerList):
        lines += [f"  {number:<4} {_layer(layer)}" for number, layer in enumerate(spec.architecture.content)]
    if isinstance(spec.architecture, OwnCode):
        own = spec.architecture
        lines.append(f"  class {own.class_name} of code with the SHA-256 {own.text.sha256}")
    val = f"{spec.split.val:,} val" if spec.split.val else "no val"
    images = f"{spec.split.train:,} train, {val}, {spec.num_test:,} test"
    if spec.images is not None:
        images = f"images {spec.image}, one for each model"
    lines.append(f"data       {spec.dataset_name}: {images}")
    momentum = f", momentum {spec.momentum}{' (nesterov)' if spec.nesterov else ''} of SGD" if spec.momentum else ""
    scaled = f", initial weights times {spec.initializer_scale:g}" if spec.initializer_scale != 1 else ""
    if spec.initial_bias != ZooSpec.model_fields["initial_bias"].default:
        scaled += f", initial biases {spec.initial_bias:g}"
    if spec.weight_decay_on == "kernels":
        scaled += ", weight decay of kernels only"
    schedule = f", schedule {spec.schedule}" if spec.schedule else ""
    augment = f", augmentation {spec.augment}" if spec.augment else ""
    batches = f"batches of {spec.batch_size}"
    if spec.images is not None:
        batches = f"{spec.num_steps} steps an epoch on all {spec.batch_size} pixels"
    lines.append(f"training   {batches}{momentum}{schedule}{augment}{scaled}")
    if spec.precision != "float32" or spec.memory_format != "contiguous":
        lines.append(f"arithmetic {PRECISIONS[spec.precision]}; {spec.memory_format} memory")
    lines.append(f"weights    kept after epochs {zoo.save_epochs}")
    measured = f"val and test after every epoch, train after epochs {zoo.train_eval_epochs}"
    lines.append(f"measured   {measured if spec.images is None else 'squared error and PSNR after every epoch'}")
    lines.append(f"units      {len(units):,} work units of {len({r.family for r in all_rows})} operation families")
    if not isinstance(zoo, TwinSpec) and spec.sparsify is not None:
        lines.append(f"twins      {spec.name}-{spec.sparsify.suffix}, {spec.sparsify.num_epochs} epochs")
    lines += [f"source     {spec.source}", *_reference("reference", spec.reference)]
    lines += _reference("its twins", spec.reference_twins)
    if spec.kind == "hyp-fixed" and spec.start is None:
        lines.append("")
        lines.append(
            "Models of one seed and initializer start from the same weights in every cell: split with `group: seed`"
        )
        lines.append("where train and test must not share them.")
    if spec.conflicts:
        lines += ["", "Known conflicts with the reference and its published data:"]
        lines += [f"- {conflict}" for conflict in spec.conflicts]
    return lines


def _values(spec: ZooSpec, name: str) -> str:
    if spec.draws is not None:
        return str(getattr(spec.draws, name))
    return ", ".join(str(value) for value in spec.axis_values(name))


def _seeds(spec: ZooSpec) -> str:
    if spec.seeds.values is None:
        origin = "imported" if spec.imported_seeds else f"derived from seed_salt {spec.seed_salt} and model index"
        if spec.draws is not None:
            return f"one per model, {origin}"
        return f"one per model, {origin}; {spec.num_seeds} models per cell"
    if spec.draws is not None:
        return f"{spec.seeds.values[0]}, that of all models"
    text = str(spec.seeds)
    return f"{text} (half-open, {spec.num_seeds:,} seeds)" if ":" in text else text


def _reference(title: str, reference: Reference | None) -> list[str]:
    if reference is None:
        return []
    names = [name for name in (reference.script, reference.experiment, *reference.published) if name is not None]
    records = [f"zenodo.org/records/{number}" for number in reference.zenodo]
    return [f"{title:10} {', '.join([*names, *records])}"]


def _row_lines(chosen: list[Any]) -> list[str]:
    names = [name for name in type(chosen[0]).__slots__ if any(getattr(row, name) is not None for row in chosen)]
    unused = [
        f.name
        for f in fields(chosen[0])
        if f.name in LATER_AXES and all(getattr(r, f.name) == f.default for r in chosen)
    ]
    names = [name for name in names if name not in unused]
    names.append("digest")
    cells = [[str(getattr(row, name)) for name in names] for row in chosen]
    return table([names, *cells], ">" + "<" * (len(names) - 1))


def _layer(layer: str | dict[str, Any]) -> str:
    """A layer as it stands in a spec: ``conv: {channels: 16, kernel: 3, stride: 2, padding: 0}``."""
    if isinstance(layer, str):
        return layer
    ((kind, values),) = layer.items()
    if isinstance(values, dict):
        values = "{" + ", ".join(f"{name}: {value}" for name, value in values.items()) + "}"
    return f"{kind}: {values}"
