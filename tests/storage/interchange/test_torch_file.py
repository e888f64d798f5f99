"""Files of torch.save, read and written without torch."""

import hashlib
import io
import os
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zooforge.storage.budget import CHECKPOINT
from zooforge.storage.errors import BudgetExceeded, FormatError
from zooforge.storage.interchange.torch_file import read_state_dict, read_state_dict_file, state_dict_bytes, value_bytes

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


def test_torch_loads_files_that_were_written_without_torch() -> None:
    data = state_dict_bytes(ARRAYS, "checkpoints")
    for weights_only in (True, False):
        loaded = torch.load(io.BytesIO(data), weights_only=weights_only)
        assert type(loaded) is OrderedDict
        assert list(loaded) == list(ARRAYS)
        for name, array in ARRAYS.items():
            assert loaded[name].shape == array.shape
            assert loaded[name].numpy().tobytes() == array.tobytes()


def test_equal_arrays_give_equal_bytes_and_come_back() -> None:
    data = state_dict_bytes(ARRAYS, "checkpoints")
    assert state_dict_bytes({name: array.copy() for name, array in ARRAYS.items()}, "checkpoints") == data
    actual = read_state_dict(data, "file")
    assert list(actual) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert actual[name].dtype == array.dtype
        assert actual[name].tobytes() == array.tobytes()


def test_the_bytes_are_those_of_every_version_of_this_program() -> None:
    digest = hashlib.sha256(state_dict_bytes(ARRAYS, "checkpoints")).hexdigest()
    assert digest == "1936f92f2ed164904181c387ce13232bd1d0dd62bf0b4c57086c8e27dc3f1831"


@pytest.mark.parametrize("as_zip", [True, False])
def test_a_module_that_torch_saved_is_read_views_included(as_zip: bool) -> None:
    """``as_zip`` False: as torch did before 1.6."""
    module = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2))
    state = module.state_dict()
    base = torch.arange(24.0).reshape(4, 6)
    state["transposed"] = base.t()
    state["slice"] = base[1:3, ::2]
    actual = read_state_dict(saved(state, _use_new_zipfile_serialization=as_zip), "file")
    assert {name: array.tolist() for name, array in actual.items()} == {name: t.tolist() for name, t in state.items()}


def test_any_plain_value_is_written_as_torch_reads_it() -> None:
    value = {
        "state": {0: {"step": np.array(3.0, np.float32), "exp_avg": np.ones((2, 3), np.float32)}},
        "param_groups": [
            {"lr": 1e-3, "betas": (0.9, 0.999), "foreach": None, "amsgrad": False, "params": [0, 2**40, -1]}
        ],
    }
    loaded = torch.load(io.BytesIO(value_bytes(value, "optimizer")))
    assert loaded["param_groups"] == value["param_groups"]
    assert loaded["state"][0]["step"].item() == 3.0
    assert loaded["state"][0]["exp_avg"].tolist() == [[1.0] * 3] * 2


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
def test_a_file_without_a_state_dict_is_refused_in_one_line_and_never_run(data: bytes, reason: str) -> None:
    with pytest.raises(FormatError, match=reason) as error:
        read_state_dict(data, "model 3, epoch 7")
    assert str(error.value).startswith("model 3, epoch 7")
    assert "\n" not in str(error.value)


def test_a_flipped_byte_in_the_values_is_refused() -> None:
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


FLOATS = [torch.bfloat16, torch.float16, torch.float32, torch.float64, torch.float8_e5m2, torch.float8_e4m3fn,
          torch.float8_e5m2fnuz, torch.float8_e4m3fnuz, torch.float8_e8m0fnu]  # fmt: skip


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("as_zip", [True, False])
def test_every_float_that_torch_saves_is_read(dtype: torch.dtype, as_zip: bool) -> None:
    """All 256 values of 8-bit floats, all upper halves of the others."""
    codes = torch.arange(256, dtype=torch.uint8)
    tensor = codes.view(dtype) if dtype.itemsize == 1 else (codes.to(torch.int64) << 56).view(torch.float64).to(dtype)
    tensor = tensor.reshape(16, 16).t()
    arrays = read_state_dict(saved({"w": tensor}, _use_new_zipfile_serialization=as_zip), "file")
    expected = tensor.to(torch.float32 if dtype != torch.float64 else dtype).numpy()
    assert np.array_equal(arrays["w"].astype(expected.dtype), expected, equal_nan=True)


def tensors(*shapes_and_strides: tuple[tuple[int, ...], tuple[int, ...]], numel: int = 6) -> bytes:
    """A file whose tensors are views of one storage."""
    storage = torch.arange(float(numel))
    return saved({str(n): storage.as_strided(*view) for n, view in enumerate(shapes_and_strides)})


@pytest.mark.parametrize("as_zip", [True, False])
def test_a_small_file_does_not_become_a_large_array(as_zip: bool) -> None:
    """Stride 0: 2.4 kB that would be 3.6 GiB."""
    state = {"w": torch.ones(1).expand(30_000, 30_000)}
    with pytest.raises(FormatError, match="repeats the 1 values of its storage"):
        read_state_dict(saved(state, _use_new_zipfile_serialization=as_zip), "file")


def test_tied_tensors_share_values_up_to_a_limit() -> None:
    view = ((2, 3), (3, 1))
    assert list(read_state_dict(tensors(view, view), "file")) == ["0", "1"]
    with pytest.raises(FormatError, match="its tensors have 18 values, its storages 6"):
        read_state_dict(tensors(view, view, view), "file")


def test_overlapping_storages_are_refused() -> None:
    """Many entries of the zip's directory at one place of the file."""
    names = [f"w{n}" for n in range(50)]
    source = zipfile.ZipFile(io.BytesIO(state_dict_bytes({name: np.zeros(10_000, np.float32) for name in names}, "c")))
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("c/data.pkl", source.read("c/data.pkl"))
        archive.writestr("c/data/0", source.read("c/data/0"))
        for number in range(1, 50):
            info = zipfile.ZipInfo.__new__(zipfile.ZipInfo)
            for slot in zipfile.ZipInfo.__slots__:
                if hasattr(archive.getinfo("c/data/0"), slot):
                    setattr(info, slot, getattr(archive.getinfo("c/data/0"), slot))
            info.filename = f"c/data/{number}"
            archive.filelist.append(info)
    with pytest.raises(FormatError, match=r"^file: .*(overlap|Overlap|differ)"):
        read_state_dict(target.getvalue(), "file")


def test_a_file_beyond_the_budget_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "checkpoints").open("wb") as file:
        file.truncate(CHECKPOINT.max_bytes + 1)
    with pytest.raises(BudgetExceeded, match=r"epoch 3: .* bytes, the limit is"):
        read_state_dict_file(tmp_path / "checkpoints", "epoch 3")


@pytest.mark.parametrize("name", ["a\nb", "\udc80", "x" * 501, "\x1b[2J"])
def test_a_name_that_is_not_one_line_of_text_is_refused(name: str) -> None:
    with pytest.raises(FormatError) as error:
        read_state_dict(saved({name: torch.ones(1)}), "file")
    assert str(error.value).isprintable() and len(str(error.value)) < 200


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_damaged_file_gives_arrays_or_a_format_error(data: st.DataObject) -> None:
    stream = bytearray(state_dict_bytes(ARRAYS, "checkpoints"))
    for _ in range(data.draw(st.integers(1, 4))):
        stream[data.draw(st.integers(0, len(stream) - 1))] = data.draw(st.integers(0, 255))
    try:
        actual = read_state_dict(bytes(stream), "file")
    except FormatError:
        return
    assert all(isinstance(array, np.ndarray) for array in actual.values())
