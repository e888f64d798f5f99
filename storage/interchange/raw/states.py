"""Read checkpoints of a raw tree as fields of states: weights in the layout's order, log sigma^2, masks, buffers."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...canonical import parse_json
from ...errors import FormatError
from ...formats.layout import Layout
from ...formats.tensors import canonical_nan, pack_mask
from ..torch_file import Arrays, read_state_dict_file
from .architectures import Network, layer_names, layer_shapes, network
from .findings import Findings
from .format import OURS
from .masks import used
from .tree import RawModel, RawTree

NUM_SAMPLES = 4  # read so many models with dropout, and so many without, to recognise the network
PREFIXES = ("_orig_mod.", "module.")  # of keys in state dicts of compiled and of data-parallel modules

Fields = dict[str, NDArray[Any]]
Convert = Callable[[Arrays], Fields]


def read_network(tree: RawTree, dropout: Mapping[int, bool]) -> Network:
    """The network that most of the sampled models have.

    Args:
        dropout: whether the dropout ratio is above 0, by model.

    Raises:
        FormatError: no model has a readable checkpoint, or its keys do not belong to a network that can be read.
    """
    samples: list[tuple[bool, dict[str, tuple[int, ...]]]] = []
    kinds: list[tuple[Any, ...]] = []
    counts = {True: 0, False: 0}
    reason = "no model has a config"
    for index, with_dropout in dropout.items():
        if counts[with_dropout] == NUM_SAMPLES:
            continue
        for path in tree.models[index].checkpoints.values():
            try:
                arrays, _ = without_prefix(read_state_dict_file(path, _name(path)))
                shapes = {key: array.shape for key, array in arrays.items()}
                kinds.append(_kind(shapes))
            except (FormatError, OSError) as error:
                reason = str(error)
                continue
            samples.append((with_dropout, shapes))
            counts[with_dropout] += 1
            break
    if not samples:
        raise FormatError(f"{tree.root}: no readable checkpoint; {reason}")
    kind = max(kinds, key=kinds.count)
    chosen = [sample for sample, own in zip(samples, kinds, strict=True) if own == kind]
    chains = isinstance(kind[0], tuple) and any(key.startswith("module_list.") for key in chosen[0][1])
    names = [(with_dropout, layer_names(shapes)) for with_dropout, shapes in chosen] if chains else []
    return network(chosen[0][1], names)


def _kind(shapes: Mapping[str, tuple[int, ...]]) -> tuple[Any, ...]:
    """The shapes in order. They are equal for all models of a zoo, because dropout layers change only indices."""
    if any(key.startswith("module_list.") for key in shapes):
        return tuple(layer_shapes(shapes))
    return tuple(shapes.items())


class StateReader:
    """Reads checkpoints of one network. A checkpoint that cannot be read gives a finding and not an error."""

    def __init__(self, network: Network, findings: Findings) -> None:
        self.network = network
        self.findings = findings
        self._converters: dict[tuple[Any, ...], Convert | str] = {}

    def read(self, model: RawModel, epoch: int) -> Fields | None:
        """The fields of a state by suffix (``""``: weights); None if it is not readable or of another network."""
        path = model.checkpoints[epoch]
        try:
            arrays, prefix = without_prefix(read_state_dict_file(path, f"epoch {epoch}"))
            signature = tuple((key, array.dtype.str, array.shape) for key, array in arrays.items())
            if signature not in self._converters:
                self._converters[signature] = self._converter(arrays)
            convert = self._converters[signature]
            if isinstance(convert, str):
                raise FormatError(f"epoch {epoch}: {convert}")
            fields = convert(arrays)
            if self.network.noisy_layout is not None:
                fields[".mask"] = self._mask(path, fields, self.network.noisy_layout)
        except FormatError as error:
            self.findings.add(model.index, f"{error}; no weights of that epoch")
            return None
        except OSError as error:
            self.findings.add(model.index, f"epoch {epoch}: not readable ({error.strerror}); no weights of that epoch")
            return None
        if prefix:
            self.findings.add(model.index, f"all keys of its checkpoints begin with `{prefix}`, which is left out")
        if any(array.dtype == np.float64 for array in arrays.values()):
            self.findings.add(model.index, "its weights are float64, and are rounded to float32")
        return fields

    def _converter(self, arrays: Arrays) -> Convert | str:
        """The function from a checkpoint with these keys and shapes to fields, or the reason why there is none."""
        expected = self.network
        other = [
            key for key, array in arrays.items() if array.dtype.kind != "f" and not key.endswith("batches_tracked")
        ]
        if other:
            return f"{other[0]} is {arrays[other[0]].dtype}, expected floats"
        shapes = {key: array.shape for key, array in arrays.items()}
        if expected.buffers_layout is None:
            return self._chain_converter(shapes)
        trained = [entry.name for entry in expected.layout.entries]
        buffers = [entry.name for entry in expected.buffers_layout.entries]
        wanted = {e.name: e.shape for e in (*expected.layout.entries, *expected.buffers_layout.entries)}
        odd = _difference(wanted, {key: shape for key, shape in shapes.items() if key not in expected.counters})
        if odd is not None or set(expected.counters) - set(shapes):
            return odd or "counters of batch normalisation are missing"

        def convert(state: Arrays) -> Fields:
            counts = np.array([int(state[name]) for name in expected.counters], np.int64)
            return {"": _vector(state, trained), ".buffers": _vector(state, buffers), ".counters": counts}

        return convert

    def _chain_converter(self, shapes: Mapping[str, tuple[int, ...]]) -> Convert | str:
        try:
            keys = layer_names(shapes)
            odd = _difference({e.name: e.shape for e in self.network.layout.entries}, dict(layer_shapes(shapes)))
        except FormatError as error:
            return str(error)
        if odd is not None:
            return odd
        order = [keys[entry.name] for entry in self.network.layout.entries]
        noisy = self.network.noisy_layout
        noise = [] if noisy is None else [_noise_key(keys[entry.name]) for entry in noisy.entries]
        missing = [key for key in noise if key not in shapes]
        if missing:
            return f"{missing[0]} is missing"

        def convert(state: Arrays) -> Fields:
            fields = {"": _vector(state, order)}
            if noise:
                fields[".log_sigma2"] = _vector(state, noise)
            return fields

        return convert

    def _mask(self, path: Path, fields: Fields, noisy: Layout) -> NDArray[np.uint8]:
        """The packed mask. It is recomputed, and inverted at the places where our export says that it differed."""
        mask = used(fields[""], fields[".log_sigma2"], self.network.layout, noisy)
        flips = path.with_name(f"{OURS}_mask.json")
        if flips.is_file():
            places = parse_json(flips.read_bytes(), flips.name)
            if not isinstance(places, list) or not all(type(p) is int and 0 <= p < noisy.size for p in places):
                raise FormatError(f"{flips.name}: not a list of places in the mask")
            mask[places] = ~mask[places]
        return pack_mask(mask)


def _noise_key(key: str) -> str:
    module, _, part = key.rpartition(".")
    return f"{module}.{'log_sigma2' if part == 'weight' else 'log_sigma2_bias'}"


def _vector(state: Arrays, keys: list[str]) -> NDArray[np.float32]:
    joined = np.concatenate([np.asarray(state[key], np.float32).reshape(-1) for key in keys])
    vector: NDArray[np.float32] = canonical_nan(joined)
    return vector


def without_prefix(arrays: Arrays) -> tuple[Arrays, str]:
    """The arrays without the ``PREFIXES`` that all keys share, and those prefixes."""
    shared = ""
    while prefix := next((p for p in PREFIXES if all(key.startswith(shared + p) for key in arrays)), ""):
        shared += prefix
    return {key.removeprefix(shared): array for key, array in arrays.items()}, shared


def _difference(expected: Mapping[str, tuple[int, ...]], actual: Mapping[str, tuple[int, ...]]) -> str | None:
    """The first difference between two sets of tensors, in words; None if they are equal."""
    for name in [*expected, *actual]:
        if name not in actual:
            return f"{name} is missing"
        if name not in expected:
            return f"{name} is not of this zoo's network"
        if actual[name] != expected[name]:
            return f"{name} has shape {list(actual[name])}, the zoo's {list(expected[name])}"
    return None


def _name(path: Path) -> str:
    return json.dumps(f"{path.parent.parent.name}/{path.parent.name}")[1:-1]
