"""The command `zoo`. Each verb's module is imported when the verb is used; `store` and `cluster` have their own."""

import importlib
import logging
import os
import sys
from collections.abc import Sequence
from typing import Any

import click
from click.shell_completion import CompletionItem

from . import logs
from .errors import InputError, nearest

logger = logging.getLogger(__name__)

VERBS = {
    "list": (".commands.list_", "The zoos of the catalogue"),
    "show": (".commands.show", "One zoo: grid, data, training, sources, known conflicts"),
    "plan": (".commands.plan", "Estimate a zoo: models, steps, FLOP, hours, dollars, bytes, objects"),
    "diff": (".commands.diff", "Differences of two specs"),
    "tune": (".commands.tune", "Search ranges of hyperparameters, and propose a grid"),
    "engines": (".commands.engines", "Engines of this machine, and their speed"),
    "data": (".commands.data", "List, fetch, mirror and verify data sets"),
    "train": (
        ".commands.train",
        "Train a zoo; every epoch is committed to the store, and training resumes where it stopped",
    ),
    "sparsify": (".commands.sparsify", "Train the sparse twins of a zoo"),
    "vectorize": (".commands.vectorize", "Publish the trained models as a sealed version: shards, labels, splits"),
    "run": (".commands.run", "Train, sparsify, vectorize and verify a zoo, resumable"),
    "status": (".commands.status", "Progress of a zoo, when it ends, and its problems"),
    "logs": (".commands.logs", "Events of a run, from the store"),
    "report": (".commands.report", "One HTML page about a published zoo"),
    "site": (".commands.site", "Static pages of the zoos of a store, with an index"),
    "fidelity": (".commands.fidelity", "Compare a published zoo with the figures of the reference"),
    "benchmark": (".commands.benchmark", "Predict properties of models from their weights, by named protocols"),
    "verify": (".commands.verify", "Recompute the stored accuracy of a sample of states"),
    "publish": (".commands.publish", "Publish a zoo in a folder, in a bucket, on the Hugging Face Hub or on Zenodo"),
    "cite": (".commands.cite", "BibTeX of a published zoo, with the digest of its manifest"),
    "slurm": (".commands.slurm", "Write an sbatch array that runs a zoo where there is no Kubernetes"),
    "exporter": (".commands.exporter", "Serve the metrics of all runs of a store"),
    "completion": (".commands.completion", "Print what makes the shell complete `zoo`: bash, zsh or fish"),
    "store": ("..storage.cli", "List, verify, pull, import and export what a store holds"),
    "cluster": ("..cluster.cli", "Deploy to Kubernetes, submit, follow and stop runs there"),
}


class Verbs(click.Group):
    """Imports a verb's module only when it is used, so that `zoo list` does not wait for torch or Ray."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in VERBS:
            return None
        module, help_text = VERBS[name]
        try:
            command: click.Command = importlib.import_module(module, __package__).command
        except ModuleNotFoundError as error:
            if (error.name or "").startswith("zooforge"):
                raise
            if ctx.resilient_parsing:  # the shell completes a line
                return None
            extra = "cluster" if name == "cluster" else "grow"
            raise InputError(
                f"`zoo {name}` needs the package {error.name}, which is not installed; this brings all that it needs: "
                f"pip install 'zooforge[{extra}]'"
            ) from None
        command.short_help = help_text
        if name == "store" and isinstance(command, click.Group):
            command.add_command(store_publish)
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        verbs = [CompletionItem(name, help=text) for name, (_, text) in VERBS.items() if name.startswith(incomplete)]
        return [*verbs, *click.Command.shell_complete(self, ctx, incomplete)]

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args[0] not in VERBS and not ctx.resilient_parsing:
            close = nearest(args[0], VERBS)
            offer = f"; did you mean `zoo {close}`?" if close else "; `zoo --help` lists the verbs"
            raise click.UsageError(f"unknown verb {args[0]!r}{offer}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl([(name, help_text) for name, (_, help_text) in VERBS.items()])


@click.command(
    "publish",
    help="The same as `zoo publish`, with its options.",
    add_help_option=False,
    context_settings={"ignore_unknown_options": True},  # they are those of `zoo publish`
)
@click.argument("words", nargs=-1, metavar="NAME --to TARGET", type=click.UNPROCESSED)
@click.pass_context
def store_publish(context: click.Context, words: tuple[str, ...]) -> Any:
    publish = zoo.get_command(context, "publish")
    assert publish is not None
    with publish.make_context("publish", list(words), parent=context.find_root()) as inner:
        return publish.invoke(inner)


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("-v", "--verbose", is_flag=True, help="Log units, parts, chunks and records to stderr.")
@click.version_option(package_name="zooforge", prog_name="zooforge")
def zoo(verbose: bool) -> None:
    """Grow, sparsify, publish and read model zoos."""
    logs.set_up(verbose)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `zoo`. An error is one line on stderr. Returns the exit status: 0, 1, 2 or 75 (run again to resume)."""
    _open_standard_streams()
    os.environ.pop("MPLBACKEND", None)  # a notebook's backend may not be installed here, and charts need none
    try:
        status = zoo.main(args=arguments, prog_name="zoo", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        sys.stderr.write(f"{error.format_message()}\n")
        return error.exit_code
    except click.ClickException as error:
        hint = ""
        if isinstance(error, click.UsageError) and error.ctx is not None:
            hint = f" (`{error.ctx.command_path} --help` says more)"
        return _fail(f"{error.format_message()}{hint}", error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        return _fail("interrupted", 130)
    except OSError as error:  # for example a folder without write permission, or a full disk
        logger.info("the operating system refused", exc_info=True)
        return _fail(f"{error.filename or 'this machine'}: {error.strerror or error}", 1)
    except Exception as error:  # expected errors have an exit status; any other is a defect and keeps its traceback
        exit_status = getattr(error, "exit_status", None)
        if not isinstance(exit_status, int):
            raise
        return _fail(str(error), exit_status)
    return status if isinstance(status, int) else 0


def _open_standard_streams() -> None:
    """Put the null device in place of standard streams that the caller has closed.

    Otherwise Python has None there, and the next file that is opened becomes what C code takes for standard error.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "r" if number == 0 else "w", closefd=False))  # noqa: SIM115


def _fail(message: str, status: int) -> int:
    sys.stderr.write(f"zoo: {' '.join(message.split())}\n")
    return status
