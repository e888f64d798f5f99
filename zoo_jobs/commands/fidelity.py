"""`zoo fidelity`: compares a published zoo with the figures of the reference."""

import json
import math
from dataclasses import asdict
from pathlib import Path

import click

from ..errors import InputError
from ..quantities import table
from .options import FOLDER, json_option, print_json
from .working import open_existing_store, zoo_and_store


@click.command("fidelity")
@zoo_and_store
@click.option("--version", type=click.IntRange(1), metavar="N", help="Default: the current version.")
@click.option(
    "--out",
    type=FOLDER,
    metavar="DIR",
    help="Write fidelity.json there as well, and where the reference has figures, fidelity.md and fidelity.png.",
)
@json_option
def command(name: str, store: str, version: int | None, out: Path | None, as_json: bool) -> None:
    """Compare accuracy, sparsity and gap with the reference's figures for the zoo of the same name."""
    from ..report import fidelity_page
    from ..report.contents import extent
    from ..report.fidelity import references
    from ..report.read import read_labels_only

    contents = read_labels_only(open_existing_store(store), store, name, version)
    if contents.facts.architecture.startswith(("layers-", "code-")):
        raise InputError(
            f"{contents.facts.name}: its network, {contents.facts.architecture}, is one's own; the reference has "
            "figures of its own networks only"
        )
    facts, reference = contents.facts, references().get(contents.facts.name)
    lines = [
        {
            **asdict(c.figure),
            "found": c.ours,
            "low": c.low,
            "high": c.high,
            "num_models": c.num_models,
            "verdict": c.verdict,
        }
        for c in contents.comparisons
    ]
    value = {
        "zoo": facts.name,
        "version": facts.version,
        "extent": extent(contents),
        "source": None if reference is None else reference.source,
        "comparisons": [{name: _finite(value) for name, value in line.items()} for line in lines],
    }
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / "fidelity.json").write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
        if reference is not None:
            page = fidelity_page.markdown(contents, reference, "fidelity.png")
            (out / "fidelity.md").write_text(page, encoding="utf-8")
            (out / "fidelity.png").write_bytes(fidelity_page.picture(contents))
    if as_json:
        print_json(value)
        return
    if reference is None:
        known = ", ".join(sorted(references()))
        click.echo(f"{facts.name}: no reference figures; there are some of {known}")
        return
    click.echo(f"{facts.name}: {extent(contents)}; reference: {reference.source}")
    for line in table(fidelity_page.rows(contents), fidelity_page.ALIGN):
        click.echo(line)
    click.echo(fidelity_page.verdicts(contents))


def _finite(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value
