"""Targets that read foreign files: pickles, checkpoints, trees, JSON."""

import gzip
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from tests.fuzz.target import Target
from tests.support.raw_trees import config, result
from zooforge.storage.canonical import parse_json
from zooforge.storage.errors import FormatError
from zooforge.storage.formats.restricted_pickle import load
from zooforge.storage.interchange.google_tables import GoogleTables
from zooforge.storage.interchange.raw.import_tree import import_raw
from zooforge.storage.interchange.raw.split_file import read_splits
from zooforge.storage.interchange.torch_file import read_state_dict
from zooforge.storage.stores.memory import MemoryStore

SHAPES = {"0": (2, 1, 2, 2), "3": (2, 2, 2, 2), "6": (3, 8)}
_FOLDED = b"(t" + 60 * b"2\x86"  # a tuple that holds the same tuple twice, 60 levels deep: 2 ** 60 parts

_PIECES = [
    *(bytes([code]) for code in b"()]}\x85\x86\x87tldsuaeR\x81bQ20N\x88\x89.\x8f\x90\x91"),
    b"\x80\x02", b"q\x00", b"h\x00", b"q\x01", b"h\x01", b"K\x00", b"K\x02", b"J\xff\xff\xff\x7f",
    b"\x8a\x08" + 8 * b"\x7f",
    b"X\x01\x00\x00\x00a", b"X\x02\x00\x00\x00u1", b"U\x04dat\x00", b"X\x07\x00\x00\x00storage", b"X\x01\x00\x00\x000",
    b"cnumpy.core.multiarray\n_reconstruct\n", b"cnumpy\nndarray\n", b"cnumpy\ndtype\n", b"c_codecs\nencode\n",
    b"ccollections\nOrderedDict\n", b"ctorch._utils\n_rebuild_tensor_v2\n", b"ctorch\nFloatStorage\n",
    b"ctorch.storage\nUntypedStorage\n", b"ctorch\nfloat8_e5m2\n", b"ctorch._utils\n_rebuild_tensor_v3\n",
    b"ctorch._utils\n_rebuild_parameter\n", b"cpathlib\nPosixPath\n",
    b"ccheckpoints_to_datasets.dataset_base\nModelDatasetBase\n",
]  # fmt: skip


def program(random: Random) -> bytes:
    """A pickle of opcodes that mostly fit together. Opcodes that enlarge values are repeated."""
    pieces = []
    for _ in range(random.randint(1, 30)):
        pieces += [random.choice(_PIECES)] * random.choice((1, 1, 1, 1, 2, 40))
    return b"\x80\x02" + b"".join(pieces) + b"."


def saved(value: Any, as_zip: bool = True) -> bytes:
    out = io.BytesIO()
    torch.save(value, out, _use_new_zipfile_serialization=as_zip)
    return out.getvalue()


def state(seed: int, dtype: torch.dtype = torch.float32, prefix: str = "") -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    return {
        f"{prefix}module_list.{index}.{part}": torch.randn(shape, generator=generator).to(dtype)
        for index, full in SHAPES.items()
        for part, shape in (("weight", full), ("bias", full[:1]))
    }


def pickles() -> list[bytes]:
    from pickle import dumps

    value = {b"data": np.arange(12, dtype=np.uint8).reshape(3, 4), b"labels": [1, 2], "f": np.ones(3, ">f4"),
             "plain": (None, True, -5, 2.5, "text", [(), {}])}  # fmt: skip
    return [dumps(value, protocol) for protocol in range(5)]


HOSTILE_PICKLES = (
    b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n)R(K\x01J\x00\x00\x00\x19\x85cnumpy\ndtype\nX\x02\x00\x00\x00u1\x85R"
    b"\x89J\x00\x00\x00\x19tb.",  # an array whose values are bytes(419430400)
    b"\x80\x02}" + _FOLDED + b"K\x01s.",
    b"\x80\x02" + _FOLDED + b".",
    b"\x80\x02cnumpy\ndtype\n" + _FOLDED + b"\x85R.",
    b"\x80\x02(" + 5_000_000 * b"]" + b"l.",
    b"\x80\x02" + 100_000 * b"]" + 99_999 * b"a" + b".",
    b"\x80\x02(" + 200_000 * b"N" + b"tq\x00" + 200_000 * b"ccollections\nOrderedDict\nh\x00R0" + b".",
)


def as_checkpoint(pickled: bytes) -> bytes:
    """A file of torch.save with this pickle and one storage of 100 values."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/data/0", np.arange(100, dtype="<f4").tobytes())
    return out.getvalue()


def look_at_checkpoint(data: bytes) -> None:
    """Read the tensors and use each value, as an import does."""
    arrays = read_state_dict(data, "file")
    np.concatenate([np.asarray(array, np.float32).reshape(-1) for array in arrays.values()])


def split_file() -> bytes:
    """A torch.save file of the reference's preprocessed data set, without its class."""
    source = zipfile.ZipFile(io.BytesIO(saved({"trainset": {"paths": ["a/b"], "w": torch.ones(2)}})))
    return source.read(next(name for name in source.namelist() if name.endswith("data.pkl")))


def in_folder(name: str, look: Callable[[Path], Any]) -> Callable[[bytes], None]:
    """Write the bytes as a file NAME of a new folder in memory, then call ``look`` with its path."""

    def read(data: bytes) -> None:
        with TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
            path = Path(folder) / name
            path.write_bytes(data)
            look(path)

    return read


def raw_tree() -> Target:
    """Read a tree of two models. The first byte chooses the file that the other bytes replace."""
    settings = {**config(1), "model::o_dim": 3}
    rows = "".join(json.dumps(result(epoch, settings, 10 * epoch, old=False)) + "\n" for epoch in range(3))
    contents = [json.dumps(settings).encode(), rows.encode(), saved(state(1, torch.bfloat16, "module."))]
    names = ["params.json", "result.json", "checkpoint_000001/checkpoints"]

    def read(data: bytes) -> None:
        with TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
            for model in range(2):
                trial = Path(folder) / f"NN_tune_trainable_abcde_{model:05d}_{model}"
                (trial / "checkpoint_000001").mkdir(parents=True)
                for name, content in zip(names, contents, strict=True):
                    (trial / name).write_bytes(content)
            if data:
                (trial / names[data[0] % len(names)]).write_bytes(data[1:])
            import_raw(Path(folder), MemoryStore(), "zoo").findings.lines()

    hostile = (
        b'\x01{"training_iteration": 1, "test_loss": ' + 4000 * b"9" + b"}",
        b"\x01" + 100_000 * b"[",
        b'\x01{"training_iteration": 1, "test_acc": "' + 100_000 * b"(" + b'"}',
        b'\x01{"training_iteration": 1, "test_acc": "1e999999999%"}',
        b'\x00{"seed": "\\ud800", "optim::lr": ' + 4000 * b"9" + b"}",
        b"\x02" + saved({"module_list.0.weight": torch.ones(1).expand(30_000, 30_000)}),
    )
    return Target([bytes([number]) + content for number, content in enumerate(contents)], read, hostile=hostile)


LAYOUT = b'varname,start_idx,end_idx,size,shape\nc/bias:0,0,2,2,"(2,)"\nc/kernel:0,2,10,8,"(2, 2, 1, 2)"\n'
ROWS = b"modeldir,step,test_accuracy,config.random_seed\na,0,0.1,7\nb,0,0.5,8\na,86,0.9,7\n"


def look_at_tables(data: bytes) -> None:
    """Read the two tables of a matrix. The first byte chooses the one that the other bytes replace."""
    if data:
        tables = [ROWS, LAYOUT]
        tables[data[0] % 2] = data[1:]
        GoogleTables.read(gzip.compress(tables[0], 1), tables[1], "folder")


def outside_targets() -> dict[str, Target]:
    """All targets of this module, by name."""
    saved_states = [saved(state(seed, dtype), as_zip) for seed, dtype, as_zip in (
        (0, torch.float32, True), (1, torch.bfloat16, True), (2, torch.float8_e5m2, False), (3, torch.float32, False)
    )]  # fmt: skip
    inner = [zipfile.ZipFile(io.BytesIO(data)).read("archive/data.pkl") for data in saved_states[:2]]
    return {
        "pickle": Target(pickles(), lambda data: load(data, "value"), hostile=HOSTILE_PICKLES, make=program),
        "checkpoint": Target(
            saved_states, look_at_checkpoint, hostile=(saved({"w": torch.ones(1).expand(30_000, 30_000)}),)
        ),
        "checkpoint-pickle": Target(
            inner, lambda data: look_at_checkpoint(as_checkpoint(data)), hostile=HOSTILE_PICKLES, make=program
        ),
        "split-file": Target(
            [split_file()],
            lambda data: in_folder("set.pt", read_splits)(as_checkpoint(data)),
            hostile=tuple(data for data in HOSTILE_PICKLES if len(data) < 10**6),  # such files may be large
            make=program,
        ),
        "raw-tree": raw_tree(),
        "google-tables": Target([b"\0" + ROWS, b"\1" + LAYOUT], look_at_tables),
        "json": Target(
            [b'{"a": [1, 2.5, "text", null, true], "b": {"c": -1e-3}}'],
            lambda data: parse_json(data, "value"),
            (FormatError,),
            hostile=(
                100_000 * b"[", b'{"a":' * 100_000, 5000 * b"9", b'{"a":1e999}', b'["\\ud800"]',
                b"{" + b"".join(b'"%d":0,' % n for n in range(20_000)) + b'"7":1}',
            ),
        ),
    }  # fmt: skip
