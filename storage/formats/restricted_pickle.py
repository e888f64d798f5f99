"""The only place that reads pickles, and only of things that cannot act.

A pickle names functions and calls them. Here each name it may use is in an allow-list and leads to a function of ours
that keeps values; no code of the pickled library runs. Fuzzed by tests/storage/test_restricted_pickle.py.
"""

import io
import pickle
import re
import struct
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..errors import FormatError

Allowed = Mapping[tuple[str, str], Callable[..., Any]]

# Documented by the pickle module: a damaged stream may raise any of these.
_DAMAGED = (
    pickle.UnpicklingError, ArithmeticError, AttributeError, EOFError, ImportError, LookupError, MemoryError,
    RecursionError, TypeError, ValueError, struct.error,
)  # fmt: skip
_ELEMENT_TYPE = re.compile(r"[<>|=]?[biufS][0-9]{1,3}")
_REFUSED_OPCODES = {
    code[0]
    for code in (
        pickle.PERSID, pickle.EXT1, pickle.EXT2, pickle.EXT4, pickle.INST, pickle.OBJ,
        pickle.NEWOBJ_EX, pickle.BYTEARRAY8, pickle.NEXT_BUFFER, pickle.READONLY_BUFFER,
    )
}  # fmt: skip


class StandIn:
    """What an allowed name makes in place of the pickled library's object: it keeps what it is given."""

    def __setstate__(self, state: Any) -> None:
        raise ValueError(f"{type(self).__name__} takes no state")

    def resolve(self) -> Any:
        """The value for the caller."""
        raise NotImplementedError


class DType(StandIn):
    """A pickled ``numpy.dtype``: its code such as ``u1``, then its byte order."""

    def __init__(self, code: Any, *unused: Any) -> None:
        self._code = _text(code)
        self._order = "|"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self._order = _text(state[1])
        if any(part is not None for part in state[2:5]):
            raise ValueError("records and subarrays are not read")

    def resolve(self) -> np.dtype[Any]:
        if _ELEMENT_TYPE.fullmatch(self._code) is None:
            raise ValueError(f"arrays of {self._code!r} are not read")
        return np.dtype(self._code).newbyteorder(">" if self._order == ">" else "<")


class Array(StandIn):
    """A pickled ``numpy.ndarray``; ``resolve`` gives it with memory of its own."""

    def __init__(self, *unused: Any) -> None:
        self._state: tuple[Any, ...] | None = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self._state = state

    def resolve(self) -> NDArray[Any]:
        if self._state is None:
            raise ValueError("an array without values")
        _, shape, dtype, is_fortran, data = self._state
        if not isinstance(dtype, DType):
            raise ValueError("an array without an element type")
        raw = data.encode("latin1") if isinstance(data, str) else bytes(data)
        flat = np.frombuffer(raw, dtype.resolve())
        return flat.reshape(tuple(int(n) for n in shape), order="F" if is_fortran else "C").copy()


class Dictionary(StandIn):
    """A pickled ``collections.OrderedDict``, as a dict; what else it carries is dropped."""

    def __init__(self, *unused: Any) -> None:
        self._items: dict[Any, Any] = {}

    def __setitem__(self, key: Any, value: Any) -> None:
        self._items[key] = value

    def __setstate__(self, state: Any) -> None:
        """A state dict's versions of its modules: of no use here."""

    def resolve(self) -> dict[Any, Any]:
        return self._items


def encode(text: Any, encoding: Any) -> bytes:
    """Bytes as protocols 0 to 2 write them in Python 3: Latin-1 text."""
    if _text(encoding) not in ("latin1", "latin-1"):
        raise ValueError(f"bytes in encoding {encoding!r} are not read")
    return _text(text).encode("latin1")


NUMPY_ARRAYS: Allowed = {("_codecs", "encode"): encode} | {
    (module, name): stand_in
    for module in ("numpy.core.multiarray", "numpy._core.multiarray", "numpy")
    for name, stand_in in (("_reconstruct", Array), ("ndarray", Array), ("dtype", DType))
}
"""Plain arrays of booleans, integers, floats and bytes, of any numpy since Python 2."""


def load(
    data: bytes, what: str, allowed: Allowed = NUMPY_ARRAYS, persistent: Callable[[Any], Any] | None = None
) -> Any:
    """Value of a pickle: dicts, lists, tuples, numbers, strings, bytes, None, and what ``allowed`` makes.

    Python 2 strings come as bytes. Arrays come as numpy arrays with memory of their own.

    Args:
        what: what is read, begins every message.
        allowed: (module, name) as pickled to the function called in its place.
        persistent: makes a value of what the pickle names as lying outside it; None refuses such names.

    Raises:
        FormatError: a name that is not allowed, or a damaged stream.
    """
    return load_several(data, 1, what, allowed, persistent)[0][0]


def load_several(
    data: bytes,
    count: int,
    what: str,
    allowed: Allowed = NUMPY_ARRAYS,
    persistent: Callable[[Any], Any] | None = None,
) -> tuple[list[Any], int]:
    """Values of ``count`` pickles that follow each other, and where the last one ends; otherwise as ``load``."""
    stream = io.BytesIO(data)
    values = []
    try:
        for _ in range(count):
            values.append(_Resolver()(_Unpickler(stream, allowed, persistent).load()))
    except _DAMAGED as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise FormatError(f"{what}: pickle not read ({reason})") from None
    return values, stream.tell()


class _Unpickler(pickle._Unpickler):
    """Python's own, not the C one: a short stream can make that one fill gigabytes with its memo."""

    dispatch: ClassVar[dict[int, Callable[..., None]]] = {
        code: method for code, method in pickle._Unpickler.dispatch.items() if code not in _REFUSED_OPCODES
    }

    stack: list[Any]

    def __init__(self, stream: io.BytesIO, allowed: Allowed, persistent: Callable[[Any], Any] | None) -> None:
        super().__init__(stream, encoding="bytes")
        self._allowed = allowed
        self._persistent = persistent

    def persistent_load(self, pid: Any) -> Any:
        if self._persistent is None:
            raise pickle.UnpicklingError("it names data that lie outside it")
        return self._persistent(pid)

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._allowed:
            raise pickle.UnpicklingError(f"it uses {module}.{name}, which is not on the allow-list")
        return self._allowed[module, name]

    def load_build(self) -> None:
        state = self.stack.pop()
        if not isinstance(self.stack[-1], StandIn):
            raise pickle.UnpicklingError(f"it gives a state to a {type(self.stack[-1]).__name__}")
        self.stack[-1].__setstate__(state)

    dispatch[pickle.BUILD[0]] = load_build

    def load_newobj(self) -> None:
        arguments, kind = self.stack.pop(), self.stack.pop()
        if not (isinstance(kind, type) and issubclass(kind, StandIn)):
            raise pickle.UnpicklingError(f"it makes an object of {str(kind)[:60]}")
        self.stack.append(kind(*arguments))

    dispatch[pickle.NEWOBJ[0]] = load_newobj


class _Resolver:
    """Puts values in the place of stand-ins, in the containers that data files use; shared parts once."""

    def __init__(self) -> None:
        self._done: dict[int, Any] = {}

    def __call__(self, value: Any) -> Any:
        if not isinstance(value, StandIn | dict | list | tuple):
            return value
        if id(value) in self._done:
            if self._done[id(value)] is _UNDERWAY:
                raise ValueError("a container holds itself")
            return self._done[id(value)]
        self._done[id(value)] = _UNDERWAY
        resolved: Any
        if isinstance(value, StandIn):
            found = value.resolve()
            resolved = self(found) if isinstance(found, dict) else found
        elif isinstance(value, dict):
            resolved = {self(k): self(v) for k, v in value.items()}
        else:
            resolved = type(value)(self(item) for item in value)
        self._done[id(value)] = resolved
        return resolved


_UNDERWAY = object()


def _text(value: Any) -> str:
    text = value.decode("latin1") if isinstance(value, bytes) else value
    if not isinstance(text, str):
        raise ValueError(f"{value!r} is not a name")
    return text
