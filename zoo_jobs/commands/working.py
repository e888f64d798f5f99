"""Options of the verbs that work on a store; sets up and ends their work."""

import contextlib
import functools
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click
from click.core import ParameterSource

from zooforge.storage.commands.options import locate_zoo
from zooforge.storage.errors import StoreUnreachable
from zooforge.storage.stores.open import open_existing_store, open_store
from zooforge.storage.stores.protocol import ObjectStore

from ..catalogue import in_store
from ..errors import InputError
from ..events import Event, Observer, StageStarted
from ..planning.machines import slot_price
from ..planning.units import Request
from ..running.patience import StoreAway
from ..spec.twins import TwinSpec, Zoo
from .options import allow_code_option, echo_request, resolve_zoo, zoo_names

if TYPE_CHECKING:
    from ..running.work import Work

F = TypeVar("F", bound=Callable[..., Any])

PREEMPTED = 75  # exit status: run again to continue
NO_STORE = "no store: give --store, or set ZOO_STORE, to a path or s3://bucket/prefix; or name the zoo STORE/zoos/NAME"


def store_option(function: F) -> F:
    """``--store URL``: ``store``."""
    return _store_option(callback=_required_store)(function)


def zoo_and_store(function: F) -> F:
    """``NAME`` and ``--store URL``: ``name`` and ``store``. NAME may be the address of a zoo, STORE/zoos/NAME."""

    @functools.wraps(function)
    def located(*args: Any, name: str, store: str | None, **values: Any) -> Any:
        (name,), url = _located([name], store)
        return function(*args, name=name, store=url, **values)

    option = _store_option(more=" NAME may also be an address, STORE/zoos/NAME.")
    return cast(F, click.argument("name", shell_complete=zoo_names)(option(located)))


def zoos_and_store(function: F) -> F:
    """``NAME... | all`` and ``--store URL``: ``names`` and ``store``. A NAME may be an address, STORE/zoos/NAME."""

    @functools.wraps(function)
    def located(*args: Any, names: tuple[str, ...], store: str | None, **values: Any) -> Any:
        located_names, url = _located(names, store)
        return function(*args, names=tuple(located_names), store=url, **values)

    option = _store_option(more=" NAME may also be an address, STORE/zoos/NAME.")
    argument = click.argument("names", nargs=-1, required=True, metavar="NAME... | all", shell_complete=zoo_names)
    return cast(F, argument(option(located)))


def _store_option(more: str = "", **settings: Any) -> Callable[[F], F]:
    text = f"Path, file:// or s3://bucket/prefix; default: $ZOO_STORE.{more}"
    return click.option("--store", envvar="ZOO_STORE", metavar="URL", help=text, **settings)


def _required_store(context: click.Context, parameter: click.Parameter, value: str | None) -> str:
    if not value:
        raise click.UsageError(NO_STORE, context)
    return value


def _located(names: Sequence[str], store: str | None) -> tuple[list[str], str]:
    """Names of the zoos, and the URL of the store that they are in.

    Raises:
        InputError: no store, or several.
    """
    context = click.get_current_context()
    places = [locate_zoo(name, store) for name in names]
    addressed = {url for name, (url, zoo) in zip(names, places, strict=True) if zoo != name and url is not None}
    if store and (len(addressed) < len(names) or context.get_parameter_source("store") is ParameterSource.COMMANDLINE):
        if not addressed <= {store, store.rstrip("/")}:
            raise InputError(f"--store {store} and the address of another store, {min(addressed)}; give one of them")
        addressed.add(store)
    stores = {url.rstrip("/") or url for url in addressed}
    if not stores:
        raise click.UsageError(NO_STORE, context)
    if len(stores) > 1:
        raise InputError(f"zoos of several stores: {', '.join(sorted(stores))}; name those of one store")
    return [zoo for _, zoo in places], addressed.pop()


workers_per_gpu_option = click.option(
    "--workers-per-gpu",
    type=click.IntRange(1),
    default=1,
    envvar="ZOO_WORKERS_PER_GPU",
    metavar="N",
    help="Workers that share each GPU; default: $ZOO_WORKERS_PER_GPU, else 1.",
)

_WORK = (
    click.option("--engine", default="auto", show_default=True, help="auto, lanes, stacked or sequential."),
    click.option(
        "--ray", default="auto", show_default=True, help="auto, local, none (this process alone), or an address."
    ),
    click.option("--slots", type=click.IntRange(1), help="Workers at once; default: CPUs (or GPUs) of the cluster."),
    workers_per_gpu_option,
    click.option("--chunk-models", type=click.IntRange(1), help="Models in memory at once; changes no byte."),
    click.option("--unattended", is_flag=True, help="Wait for the store, and do not start a run that was stopped."),
    click.option(
        "--mix-engines", is_flag=True, help="Continue with another engine than the run began with; this is recorded."
    ),
    click.option("--new-lineage", is_flag=True, help="Begin this zoo again under its name, with another run id."),
    click.option("--single-writer", is_flag=True, help="Work on a store whose conditional writes are not atomic."),
    click.option("--max-hours", type=click.FloatRange(0), help="Commit and stop when the run has taken so many hours."),
    click.option("--max-dollars", type=click.FloatRange(0), help="Commit and stop when the run has cost so much."),
    click.option(
        "--dollars-per-hour",
        type=click.FloatRange(0),
        envvar="ZOO_DOLLARS_PER_HOUR",
        help="Price of one slot; default: $ZOO_DOLLARS_PER_HOUR, else what the workers' $ZOO_MACHINE costs.",
    ),
    allow_code_option,
    click.option("--yes", is_flag=True, help="Do not ask for confirmation of the price."),
    click.option("--metrics-port", type=click.IntRange(1, 65535), help="Default: 9095, or the next free one."),
    click.option("--no-metrics", is_flag=True, help="Serve no metrics."),
    click.option("--quiet", is_flag=True, help="No progress on stderr."),
)


def work_options(function: F) -> F:
    """Every field of ``Options`` except ``store``, and the other options of ``at_work``."""
    for option in reversed(_WORK):
        function = option(function)
    return function


def resolve(
    name: str,
    store: ObjectStore,
    settings: tuple[str, ...] = (),
    new_name: str | None = None,
    allow_code: bool = False,
) -> Zoo:
    """The zoo called ``name``: with ``--set`` in the catalogue, else in the catalogue or the store."""
    if settings or new_name is not None:
        return resolve_zoo(name, settings, new_name, allow_code)
    return in_store.resolve(name, store, allow_code)


def grown_zoo(zoo: Zoo) -> Any:
    """``zoo``, if it is trained from a grid. Raises InputError for twins, which `zoo sparsify` makes."""
    if isinstance(zoo, TwinSpec):
        raise InputError(
            f"{zoo.name} are the twins of {zoo.parent.name}; make them with `zoo sparsify {zoo.parent.name}`"
        )
    return zoo


class _Echo:
    """Prints the resolved request when a stage starts, not before: bad input gets one line and nothing else."""

    def __init__(self, stages: Sequence[tuple[Zoo, Request]]) -> None:
        self._stages = {zoo.name: (zoo, wanted) for zoo, wanted in stages}
        self.metrics_url = ""

    def __call__(self, event: Event) -> None:
        if isinstance(event, StageStarted):
            echo_request(*self._stages[event.zoo])
            if self.metrics_url:
                click.echo(f"metrics at {self.metrics_url}", err=True)
            self.metrics_url = ""


@contextlib.contextmanager
def at_work(store: str, values: dict[str, Any], stages: Sequence[tuple[Zoo, Request]]) -> "Iterator[Work]":
    """Set up progress, metrics and signals from the values of ``work_options``, and end them after the block.

    Raises InputError: options contradict each other.
    """
    quiet, port, no_metrics, yes = (values.pop(name) for name in ("quiet", "metrics_port", "no_metrics", "yes"))
    if no_metrics and port is not None:
        raise InputError(f"--metrics-port {port} and --no-metrics contradict each other; give one of them")
    if values["max_dollars"] is not None and values["dollars_per_hour"] is None and slot_price(os.environ) is None:
        raise InputError("--max-dollars needs the price of a slot: --dollars-per-hour, or $ZOO_DOLLARS_PER_HOUR")
    from prometheus_client import CollectorRegistry

    from ..integrations.trackers import trackers_from
    from ..integrations.webhook import webhook_from
    from ..metrics.driver import RunMetrics
    from ..metrics.server import serve
    from ..running.stage import Options
    from ..running.work import Work
    from ..watching.progress import ProgressObserver

    echo = _Echo(stages)
    observers: list[Observer] = [echo]
    with contextlib.ExitStack() as stack:
        if not quiet:
            observers.append(stack.enter_context(ProgressObserver()))
        webhook = webhook_from(os.environ)
        if webhook is not None:
            observers.append(stack.enter_context(webhook))
        trackers = [stack.enter_context(tracker) for tracker in trackers_from(os.environ)]
        observers += trackers
        opened, metrics = open_store(store, single_writer=bool(values.get("single_writer"))), None
        if not no_metrics:
            registry = CollectorRegistry()
            metrics = RunMetrics(registry, opened.traffic)
            echo.metrics_url = stack.enter_context(serve(registry, port)).url
        confirm = None if yes or values["unattended"] or not sys.stdin.isatty() else _confirm
        options = Options(store=store, **values)
        work = stack.enter_context(Work(options, opened, observers, trackers, metrics, confirm))
        try:
            yield work
        except StoreUnreachable as error:
            if not (work.attempted or values["unattended"]):
                raise
            raise StoreAway(f"{error}; committed work stays, and the same command continues the run") from error


def _confirm(price: str) -> None:
    click.echo(price, err=True)
    click.confirm("Start?", abort=True, err=True)


def end(finished: bool, name: str, reason: str = "") -> int:
    """Exit status of a verb that trains: 0, or 75 and a line that says how to resume."""
    if finished:
        return 0
    why = f", {reason}" if reason else ""
    sys.stderr.write(
        f"{name}: stopped before the end{why}; everything done is in the store; the same command continues the run\n"
    )
    return PREEMPTED


__all__ = [
    "at_work",
    "end",
    "grown_zoo",
    "open_existing_store",
    "open_store",
    "resolve",
    "store_option",
    "work_options",
    "zoo_and_store",
    "zoos_and_store",
]
