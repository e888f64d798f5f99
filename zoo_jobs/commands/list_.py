"""`zoo list`: the zoos of the catalogue."""

import click

from ..catalogue import entries
from ..quantities import table
from ..spec.grid import rows
from .options import json_option, print_json

KINDS = {
    "seed": "one set of hyperparameters, another seed for every model",
    "hyp-fixed": "many sets of hyperparameters, the same few seeds in each (fixed seeds): cells share initial weights",
    "hyp-random": "many sets of hyperparameters, every model with a seed of its own",
    "drawn": "hyperparameters of every model drawn from ranges",
    "images": "another image for every model to learn",
}


@click.command("list")
@json_option
def command(as_json: bool) -> None:
    """The zoos of the catalogue.

    Most names end in what varies: seed (one set of hyperparameters, another seed for every model), hyp-fixed (many
    sets, the same seeds in each) or hyp-random (many sets, every model with a seed of its own).
    """
    specs = entries.load_all()
    zoos = [
        {
            "name": spec.name,
            "dataset": spec.dataset_name,
            "architecture": spec.architecture_name,
            "kind": spec.kind,
            "origin": spec.origin,
            "num_models": len(rows(spec)),
            "num_states": len(rows(spec)) * (spec.num_epochs + 1),
            "num_epochs": spec.num_epochs,
            "num_params": spec.network(spec.axis_values("activation")[0], dropout=False).layout.size,
            "run": spec.run_id,
            "description": spec.description,
        }
        for spec in specs
    ]
    if as_json:
        print_json(zoos)
        return
    lines = [["zoo", "dataset", "network", "varies", "models", "epochs", "states", "parameters"]]
    for z in zoos:
        numbers = [f"{z[key]:,}" for key in ("num_models", "num_epochs", "num_states", "num_params")]
        lines.append([str(z["name"]), str(z["dataset"]), str(z["architecture"]), str(z["kind"]), *numbers])
    for line in table(lines, "<<<<>>>>"):
        click.echo(line)
    click.echo()
    for kind, meaning in KINDS.items():
        click.echo(f"{kind:10}  {meaning}")
    reference = [z for z in zoos if z["origin"] == "reference"]
    models, states = (sum(int(str(z[key])) for z in reference) for key in ("num_models", "num_states"))
    click.echo(f"\n{len(reference)} zoos of the reference: {models:,} models, {states:,} states; the others are ours.")
    click.echo("Sparsified twins of a CNN zoo: NAME-vd, NAME-magnitude-NN. `zoo show NAME` says more of one.")
