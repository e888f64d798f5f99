"""`zoo store`: list, check, copy and clean up a store, and run the embedded S3 server."""

from collections.abc import Sequence

import click

from .commands.exports import EXPORT_VERBS
from .commands.imports import IMPORT_VERBS
from .commands.options import as_json, locate_zoo, opened, print_json, store_option, zoo_address
from .errors import NotPublished, StorageError
from .keys import zoo_url
from .quantities import human_bytes
from .stores.open import open_store


@click.group()
def command() -> None:
    """List, check, copy and clean up what a store holds."""


for verb in (*EXPORT_VERBS, *IMPORT_VERBS):
    command.add_command(verb)


@command.command("ls")
@click.argument("zoo", required=False)
@store_option
@as_json
def ls(zoo: str | None, store_url: str | None, as_json: bool) -> None:
    """Zoos of the store and their versions; with ZOO the objects of its current version.

    ZOO is NAME with --store, or STORE/zoos/NAME.
    """
    from .ops.listing import list_objects, list_store

    if zoo is not None:
        store_url, zoo = locate_zoo(zoo, store_url)
    store = opened(store_url, existing=True)
    if zoo is None:
        zoos = list_store(store)
        if as_json:
            print_json([z.to_json() for z in zoos])
            return
        for z in zoos:
            click.echo(z.line())
        if not zoos:
            click.echo(f"no zoo in {store.url}", err=True)
        return
    objects = list_objects(store, zoo)
    if as_json:
        print_json(objects)
        return
    for item in objects:
        click.echo(f"{human_bytes(item['bytes']):>10}  {item['key']}  {item['what']}")


@command.command("verify")
@click.argument("zoos", nargs=-1)
@click.option("--version", type=int, help="A version's number; default the current one.")
@store_option
@as_json
def verify(zoos: Sequence[str], version: int | None, store_url: str | None, as_json: bool) -> None:
    """Hash every object that a manifest names again; check shapes, rows, finiteness, splits. Exit 1 if any is bad.

    ZOOS are NAMEs with --store, or STORE/zoos/NAME; without any, all that are published in the store.
    """
    from .ops.verify import verify_zoo
    from .publish.head import list_zoos, read_head
    from .zoo import open_zoo

    addresses = [zoo_address(zoo, store_url) for zoo in zoos]
    if not zoos:
        store = opened(store_url, existing=True)
        published = [name for name in list_zoos(store) if read_head(store, name) is not None]
        addresses = [zoo_address(name, store_url) for name in published]
    if not addresses:
        raise NotPublished(f"{store.url}: no zoo is published here")
    reports, num_bad = [], 0
    for address in addresses:
        zoo = open_zoo(address, version)
        report = verify_zoo(zoo)
        num_bad += len(report.problems)
        reports.append(
            {
                "zoo": report.zoo,
                "version": report.version,
                "objects": report.num_objects,
                "bytes": report.num_bytes,
                "states": report.num_states,
                "problems": [{"name": p.name, "what": p.what} for p in report.problems],
            }
        )
        if not as_json:
            verdict = "all good" if report.ok else f"{len(report.problems)} bad"
            click.echo(
                f"{report.zoo} version {report.version}: {report.num_objects:,} objects, "
                f"{human_bytes(report.num_bytes)}, {report.num_states:,} states: {verdict}"
            )
            for problem in report.problems:
                click.echo(f"  {problem}")
    if as_json:
        print_json(reports)
    if num_bad:
        raise StorageError(f"{num_bad} problem{'s' if num_bad > 1 else ''} in {len(addresses)} zoo(s)")


@command.command("pull")
@click.argument("source")
@click.argument("folder")
@click.option("--version", type=int, help="A version's number; default the current one.")
@click.option("--epochs", help="E.g. 50 or 0,21:26 (half-open).")
@click.option("--models", help="As --epochs.")
@click.option("--split", type=click.Choice(["train", "val", "test"]))
@click.option("--where", help="E.g. \"test_acc > 0.8 and optimizer == 'adam'\".")
@store_option
@as_json
def pull(
    source: str,
    folder: str,
    version: int | None,
    epochs: str | None,
    models: str | None,
    split: str | None,
    where: str | None,
    store_url: str | None,
    as_json: bool,
) -> None:
    """Copy a zoo, or a part of it, into FOLDER; it then reads without a network.

    SOURCE is NAME with --store, or STORE/zoos/NAME.
    """
    from .ops.pull import pull as pull_zoo
    from .zoo import open_zoo

    zoo = open_zoo(zoo_address(source, store_url), version)
    target = open_store(folder)
    pulled = pull_zoo(zoo, target, epochs=epochs, models=models, split=split, where=where)
    address = zoo_url(folder, zoo.name)
    if as_json:
        print_json(
            {
                "zoo": zoo.name,
                "url": address,
                "version": pulled.number,
                "states": pulled.manifest.num_states,
                "objects": len(pulled.manifest.refs),
                "objects_read": pulled.num_read,
            }
        )
        return
    click.echo(
        f"{address} version {pulled.number}: {pulled.manifest.num_models:,} models, "
        f"{pulled.manifest.num_states:,} states; {pulled.num_read:,} of {len(pulled.manifest.refs):,} objects were read"
    )


@command.command("gc")
@click.option("--yes", is_flag=True, help="Do it; without, only say what would be done.")
@store_option
@as_json
def gc(yes: bool, store_url: str | None, as_json: bool) -> None:
    """Collect objects that nothing names: the first run marks them, one a day later sweeps them."""
    from .ops.gc import collect

    collected = collect(opened(store_url, existing=True), dry_run=not yes)
    if as_json:
        print_json(collected.to_json())
        return
    click.echo(f"{collected.num_objects:,} objects, {human_bytes(collected.num_bytes)} {collected.phase}")
    if not yes and collected.num_objects:
        click.echo("nothing was changed; --yes does it", err=True)


@command.command("du")
@store_option
@as_json
def du(store_url: str | None, as_json: bool) -> None:
    """Bytes per zoo, run and data set, and of what nothing names. Every byte counts once."""
    from .ops.usage import usage

    used = usage(opened(store_url, existing=True))
    if as_json:
        print_json([one.to_json() for one in used])
        return
    for one in used:
        click.echo(one.line())
    click.echo(f"{human_bytes(sum(one.num_bytes for one in used)):>10}  in all")


@command.command("rm")
@click.argument("zoo")
@click.option("--yes", is_flag=True, help="Do it; without, only say what would be removed.")
@store_option
@as_json
def rm(zoo: str, yes: bool, store_url: str | None, as_json: bool) -> None:
    """Remove ZOO: its versions, and its run with all records. `zoo store gc` then collects the objects.

    Refused while a driver works on the run, and while another zoo descends from it. ZOO is NAME with --store, or
    STORE/zoos/NAME.
    """
    from .ops.remove import plan_removal, remove

    store_url, zoo = locate_zoo(zoo, store_url)
    store = opened(store_url, existing=True)
    removal = remove(store, zoo) if yes else plan_removal(store, zoo)
    if as_json:
        print_json({**removal.to_json(), "removed": yes})
        return
    click.echo(f"{'removed' if yes else 'would remove'} {removal.line()}")
    if not yes:
        click.echo("nothing was changed; --yes does it", err=True)


@command.command("probe")
@store_option
@as_json
def probe(store_url: str | None, as_json: bool) -> None:
    """Try what the store must keep: atomic creation, If-Match, ranges, checksums. Exit 2 if it cannot be relied on."""
    from .stores.probe import probe as try_store
    from .stores.probe import require, versioning

    store = opened(store_url)
    capabilities = try_store(store)
    shown = {**capabilities.to_json(), "space_comes_back": versioning(store)}
    if as_json:
        print_json(shown)
    else:
        for name, there in shown.items():
            said = "unknown, or does not apply" if there is None else "yes" if there else "no"
            click.echo(f"{name.replace('_', ' '):<24} {said}")
    require(capabilities, store.url)


@command.command("up")
def up() -> None:
    """Start the embedded S3 server (SeaweedFS) on loopback, or find it running."""
    from .stores import seaweedfs

    _exit(seaweedfs.main(["up"]))


@command.command("down")
def down() -> None:
    """Stop the embedded S3 server; its data stay."""
    from .stores import seaweedfs

    _exit(seaweedfs.main(["down"]))


@command.command("env")
def env() -> None:
    """Shell lines that point a client at the embedded server."""
    from .stores import seaweedfs

    _exit(seaweedfs.main(["env"]))


def _exit(status: int) -> None:
    if status:
        raise click.exceptions.Exit(status)
