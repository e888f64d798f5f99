"""Command-line options that several verbs of `zoo cluster` have."""

import json
from collections.abc import Callable
from typing import Any, TypeVar

import click

from .spec import DEFAULT_RELEASE

F = TypeVar("F", bound=Callable[..., Any])


def target_options(function: F) -> F:
    """``--context``, ``--namespace``, ``--release``: which release in which cluster."""
    for option in (
        click.option(
            "--context", envvar="ZOO_KUBE_CONTEXT", help="Context of the kubeconfig; default: the current one."
        ),
        click.option(
            "-n", "--namespace", envvar="ZOO_NAMESPACE", default="zoos", show_default=True, help="Or $ZOO_NAMESPACE."
        ),
        click.option(
            "--release", envvar="ZOO_RELEASE", default=DEFAULT_RELEASE, show_default=True, help="Or $ZOO_RELEASE."
        ),
    ):
        function = option(function)
    return function


def json_option(function: F) -> F:
    """``--json``, passed as ``as_json``."""
    return click.option("--json", "as_json", is_flag=True, help="JSON on stdout.")(function)


def dry_run_option(function: F) -> F:
    """``--dry-run``, passed as ``dry_run``."""
    return click.option("--dry-run", is_flag=True, help="Print what would be done, and do nothing.")(function)


def print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=1, ensure_ascii=False))
