"""Files of torch.save, read and written without torch."""

import hashlib
import io
import os
import zipfile
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zooforge.storage.errors import FormatError
from zooforge.storage.interchange.torch_file import read_state_dict, state_dict_bytes, value_bytes

ARRAYS = {
    "module_list.0.weight": np.arange(12, dtype=np.float32).reshape(3, 1, 2, 2),
    "module_list.0.bias": np.array([np.nan, np.inf, -0.0], np.float32),
    "bn.num_batches_tracked": np.array(7, np.int64),
    "half": np.ones((2, 0, 3), np.float16),
}


def saved(value: Any, **options: Any) -> bytes:
    target = io.BytesIO()
    torch.save(value, target, **options)
    return target.getvalue()


def test_torch_loads_what_is_written_without_it() -> None:
    data = state_dict_bytes(ARRAYS, "checkpoints")
    for weights_only in (True, False):
        found = torch.load(io.BytesIO(data), weights_only=weights_only)
        assert type(found) is OrderedDict
        assert list(found) == list(ARRAYS)
        for name, array in ARRAYS.items():
            assert found[name].shape == array.shape
            assert found[name].numpy().tobytes() == array.tobytes()


def test_equal_arrays_give_equal_bytes_and_come_back() -> None:
    data = state_dict_bytes(ARRAYS, "checkpoints")
    assert state_dict_bytes({name: array.copy() for name, array in ARRAYS.items()}, "checkpoints") == data
    found = read_state_dict(data, "file")
    assert list(found) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert found[name].dtype == array.dtype
        assert found[name].tobytes() == array.tobytes()


def test_the_bytes_are_those_of_every_version_of_this_program() -> None:
    digest = hashlib.sha256(state_dict_bytes(ARRAYS, "checkpoints")).hexdigest()
    assert digest == "1936f92f2ed164904181c387ce13232bd1d0dd62bf0b4c57086c8e27dc3f1831"


@pytest.mark.parametrize("as_zip", [True, False])
def test_what_torch_saves_of_a_module_is_read_views_included(as_zip: bool) -> None:
    """``as_zip`` False: as torch did before 1.6."""
    module = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2))
    state = module.state_dict()
    base = torch.arange(24.0).reshape(4, 6)
    state["transposed"] = base.t()
    state["slice"] = base[1:3, ::2]
    found = read_state_dict(saved(state, _use_new_zipfile_serialization=as_zip), "file")
    assert {name: array.tolist() for name, array in found.items()} == {name: t.tolist() for name, t in state.items()}


def test_any_plain_value_is_written_as_torch_reads_it() -> None:
    value = {
        "state": {0: {"step": np.array(3.0, np.float32), "exp_avg": np.ones((2, 3), np.float32)}},
        "param_groups": [
            {"lr": 1e-3, "betas": (0.9, 0.999), "foreach": None, "amsgrad": False, "params": [0, 2**40, -1]}
        ],
    }
    found = torch.load(io.BytesIO(value_bytes(value, "optimizer")))
    assert found["param_groups"] == value["param_groups"]
    assert found["state"][0]["step"].item() == 3.0
    assert found["state"][0]["exp_avg"].tolist() == [[1.0] * 3] * 2


class Sly:
    def __reduce__(self) -> Any:
        return os.system, ("false",)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (state_dict_bytes(ARRAYS, "checkpoints")[:900], "truncated"),
        (b"", "truncated"),
        (saved({"weight": Sly()}), "allow-list"),
        (saved({"weight": [1]}), "no tensor"),
        (saved([1]), "no state dict"),
        (saved({"weight": Sly()}, _use_new_zipfile_serialization=False), "allow-list"),
        (saved({"weight": torch.ones(9)}, _use_new_zipfile_serialization=False)[:-3], "truncated"),
        (saved({"weight": torch.ones(9)}, _use_new_zipfile_serialization=False)[:90], "pickle not read"),
        (saved(torch.nn.Linear(1, 1)), "allow-list"),
    ],
)
def test_what_is_no_state_dict_is_refused_in_one_line_and_never_run(data: bytes, reason: str) -> None:
    with pytest.raises(FormatError, match=reason) as error:
        read_state_dict(data, "model 3, epoch 7")
    assert str(error.value).startswith("model 3, epoch 7")
    assert "\n" not in str(error.value)


def test_a_flipped_byte_in_the_values_is_found() -> None:
    data = bytearray(state_dict_bytes(ARRAYS, "checkpoints"))
    place = data.index(ARRAYS["module_list.0.weight"].tobytes()) + 5
    data[place] ^= 1
    with pytest.raises(FormatError, match="CRC"):
        read_state_dict(bytes(data), "file")


@pytest.mark.parametrize("damage", [{"strides": (10**6, 1)}, {"numel": 10**9}, {"dtype": "DoubleStorage"}])
def test_a_tensor_beyond_its_storage_is_refused(damage: dict[str, Any]) -> None:
    """Built by hand, since torch would not: strides or sizes that reach outside of the values."""
    data = state_dict_bytes({"weight": np.ones((2, 3), np.float32)}, "checkpoints")
    source = zipfile.ZipFile(io.BytesIO(data))
    pickled = source.read("checkpoints/data.pkl")
    if "strides" in damage:
        pickled = pickled.replace(b"(J\x03\x00\x00\x00J\x01\x00\x00\x00t", b"(J\x40\x42\x0f\x00J\x01\x00\x00\x00t")
    elif "numel" in damage:
        pickled = pickled.replace(b"J\x06\x00\x00\x00tQ", b"J\x00\xca\x9a\x3btQ")
    else:
        pickled = pickled.replace(b"FloatStorage", b"DoubleStorage")
    assert pickled != source.read("checkpoints/data.pkl")
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("checkpoints/data.pkl", pickled)
        archive.writestr("checkpoints/data/0", source.read("checkpoints/data/0"))
    with pytest.raises(FormatError):
        read_state_dict(target.getvalue(), "file")


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_damaged_file_gives_arrays_or_a_format_error(data: st.DataObject) -> None:
    stream = bytearray(state_dict_bytes(ARRAYS, "checkpoints"))
    for _ in range(data.draw(st.integers(1, 4))):
        stream[data.draw(st.integers(0, len(stream) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = read_state_dict(bytes(stream), "file")
    except FormatError:
        return
    assert all(isinstance(array, np.ndarray) for array in found.values())
