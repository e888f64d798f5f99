"""The zoos that come with the project, one YAML file each, by name. Pure except that it reads files."""

import re
from functools import cache
from pathlib import Path
from typing import Any

from ..data.own import ImageFile
from ..data.registry import DATASETS
from ..data.sources import default_cache
from ..errors import InputError, nearest
from ..spec.blocks import SparsifySpec, validated
from ..spec.draws import DrawsLike
from ..spec.twins import TwinSpec, Zoo, twins_of
from ..spec.yaml_values import yaml_values
from ..spec.zoo import Start, ZooSpec
from .code_file import read_code

FOLDER = Path(__file__).parent
MAX_SPEC_BYTES = 16 * 1024 * 1024
_TWIN = re.compile(r"(?P<parent>.+?)-(?:(?P<vd>vd)|magnitude-(?P<percent>\d{2}))(?:-e(?P<epoch>\d{3,}))?")


def names() -> tuple[str, ...]:
    """Names of the zoos, sorted."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.yaml")))


def load(name: str, allow_code: bool = False) -> ZooSpec:
    """The zoo of a catalogue name, a name of the reference, or the path of a YAML file.

    Args:
        allow_code: whether code that the file names as its network may be run.

    Raises:
        InputError: an unknown name, or one of twins: they have no file.
    """
    zoo = resolve(name, allow_code)
    if isinstance(zoo, TwinSpec):
        raise InputError(f"{name!r} names the twins of {zoo.parent.name}; `zoo sparsify {zoo.parent.name}` makes them")
    return zoo


def resolve(name: str, allow_code: bool = False) -> Zoo:
    """``load``, also of twins: ``<zoo>-vd``, ``<zoo>-magnitude-NN``, either with ``-eNNN`` for a source epoch."""
    if name.endswith((".yaml", ".yml")):
        return load_file(Path(name), allow_code)
    if name in names():
        return _entry(name)
    parent = twin_parent(name)
    if parent in names():
        return twins_named(name, _entry(parent))
    reference = _reference_names().get(name.lower())
    if reference is not None:
        return reference
    known = [*names(), *_reference_names()]
    close = nearest(name.lower(), known)
    offer = f"did you mean {close!r}?" if close else "a file's name ends in .yaml."
    raise InputError(f"unknown zoo {name!r}; {offer} `zoo list` shows all {len(names())}")


def twin_parent(name: str) -> str | None:
    """The name of the parent zoo if ``name`` is a name of twins, else None."""
    match = _TWIN.fullmatch(name)
    return match["parent"] if match else None


def twins_named(name: str, parent: ZooSpec) -> TwinSpec:
    """The twins of ``parent`` called ``name``, which holds method, sparsity and source epoch."""
    match = _TWIN.fullmatch(name)
    if match is None or match["parent"] != parent.name:
        raise InputError(f"{name!r} names no twins of {parent.name}; they are {parent.name}-vd and the like")
    sparsify = parent.sparsify
    method = "variational-dropout" if match["vd"] else "magnitude"
    if sparsify is None or sparsify.method != method:
        value: dict[str, object] = {"method": method}
        if match["percent"]:
            value["sparsity_ratio"] = int(match["percent"]) / 100
        sparsify = validated(SparsifySpec, value, name)
    elif match["percent"] and sparsify.percent != int(match["percent"]):
        sparsify = sparsify.model_copy(update={"sparsity_ratio": int(match["percent"]) / 100})
    return twins_of(parent, sparsify, int(match["epoch"]) if match["epoch"] else None)


def load_all() -> tuple[ZooSpec, ...]:
    """All zoos of the catalogue, sorted by name."""
    return tuple(_entry(name) for name in names())


def load_file(path: Path, allow_code: bool = False) -> ZooSpec:
    """The zoo of a YAML file. The user's own images that it names are read, and kept in the cache.

    Args:
        allow_code: whether code that the file names as its network may be run, which gives the facts about it.

    Raises:
        InputError: the file cannot be read or is not a spec, its images cannot be read, or its code is not allowed.
    """
    try:
        if path.stat().st_size > MAX_SPEC_BYTES:
            raise InputError(f"{path}: larger than {MAX_SPEC_BYTES // 2**20} MiB, too large for a spec")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}; NAME may also be one of `zoo list`") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: not UTF-8 text") from None
    where = str(path)
    value = yaml_values(text, where)
    if not isinstance(value, dict):
        raise InputError(f"{where}: a spec is a mapping of fields, found {type(value).__name__}")
    draws = value.get("draws")
    if isinstance(draws, dict) and "like" in draws:
        value["draws"] = _draws_like(validated(DrawsLike, draws, f"{where}: draws"), path)
    dataset = value.get("dataset")
    named = isinstance(dataset, str) and dataset not in DATASETS
    if not named and (not isinstance(dataset, dict) or "digest" in dataset):
        return _zoo(value, path, allow_code)
    from ..data.own_values import added, keep, read_file  # imports Pillow, which the catalogue's zoos do not need

    if named:
        own = added(default_cache()).get(str(dataset))
        return _zoo(value if own is None else value | {"dataset": own.model_dump(mode="json")}, path, allow_code)
    source = validated(ImageFile, dataset, f"{where}: dataset")
    facts, raw = read_file(source, path.parent, default_cache())
    zoo = _zoo(value | {"dataset": facts.model_dump(mode="json")}, path, allow_code)
    keep(facts, raw, default_cache(), source, path.parent)
    return zoo


def _zoo(value: dict[str, Any], path: Path, allow_code: bool) -> ZooSpec:
    """The spec ``value`` of the file ``path``, whose images are known."""
    start = value.get("start")
    if isinstance(start, dict) and "parent" not in start:
        value = value | {"start": _start(validated(Start, start, f"{path}: start"), path)}
    network = value.get("architecture")
    if isinstance(network, dict) and "file" in network:
        value = value | {"architecture": read_code(value, path, allow_code)}
    return ZooSpec.from_json(value, str(path))


def _start(wanted: Start, path: Path) -> dict[str, Any]:
    """JSON of ``start`` with the spec of the parents' zoo. Raises InputError: no such zoo, or it is one of twins."""
    is_file = wanted.zoo.endswith((".yaml", ".yml"))
    if is_file and (path.parent / wanted.zoo).resolve() == path.resolve():
        raise InputError(f"{path}: start.zoo: the file names itself")
    try:
        parent = load(str(path.parent / wanted.zoo) if is_file else wanted.zoo)
    except InputError as error:
        raise InputError(f"{path}: start.zoo: {error}") from None
    return wanted.model_dump(mode="json") | {"zoo": parent.name, "parent": parent.to_json()}


def _draws_like(wanted: DrawsLike, path: Path) -> dict[str, Any]:
    """JSON of the draws of another zoo. Raises InputError: there is no such zoo, or it is grown from a grid."""
    is_file = wanted.like.endswith((".yaml", ".yml"))
    if is_file and (path.parent / wanted.like).resolve() == path.resolve():
        raise InputError(f"{path}: draws.like: the file names itself")
    other = load(str(path.parent / wanted.like) if is_file else wanted.like)
    if other.draws is None:
        raise InputError(f"{path}: draws.like: {other.name} has axes, not draws")
    copied: dict[str, Any] = other.draws.model_dump(mode="json", exclude_defaults=True)
    return copied if wanted.num_models is None else copied | {"num_models": wanted.num_models}


@cache
def _entry(name: str) -> ZooSpec:
    return load_file(FOLDER / f"{name}.yaml")


@cache
def _reference_names() -> dict[str, Zoo]:
    zoos: dict[str, Zoo] = {}
    for spec in load_all():
        for alias in spec.reference.names if spec.reference else ():
            zoos[alias] = spec
        for alias in spec.reference_twins.names if spec.reference_twins else ():
            zoos[alias] = twins_of(spec)
    return zoos
