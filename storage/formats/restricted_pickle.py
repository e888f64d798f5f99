"""Read pickles of plain values and arrays without running any code of theirs. No other module reads pickles.

A pickle names functions and calls them. Here each allowed name stands for a function of ours that keeps values; any
other name is refused. ``budget.PICKLE`` bounds opcodes, bytes, nesting and time. Fuzzed by ``tests/fuzz``.
"""

import io
import pickle
import re
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..budget import PICKLE, Budget, Meter
from ..errors import FormatError

_ELEMENT_TYPE = re.compile(r"[<>|=]?[biufS][0-9]{1,3}")
_REFUSED_OPCODES = {
    code[0]
    for code in (
        pickle.PERSID, pickle.EXT1, pickle.EXT2, pickle.EXT4, pickle.INST, pickle.OBJ, pickle.NEWOBJ_EX,
        pickle.BYTEARRAY8, pickle.NEXT_BUFFER, pickle.READONLY_BUFFER, pickle.EMPTY_SET, pickle.ADDITEMS,
        pickle.FROZENSET,
    )
}  # fmt: skip
_OPCODES_PER_CHECK = 1024


class StandIn:
    """The result of an allowed name, instead of the pickled library's object: it keeps its arguments."""

    def __setstate__(self, state: Any) -> None:
        raise ValueError(f"{type(self).__name__} takes no state")

    def resolve(self) -> Any:
        """The value for the caller."""
        raise NotImplementedError


Allowed = Mapping[tuple[str, str], Callable[..., Any] | StandIn]


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
            raise ValueError(f"arrays of {self._code[:20]!r} are not read")
        return np.dtype(self._code).newbyteorder(">" if self._order == ">" else "<")


class Array(StandIn):
    """A pickled ``numpy.ndarray``; ``resolve`` gives a view of the pickled bytes."""

    def __init__(self, *unused: Any) -> None:
        self._state: tuple[Any, ...] | None = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self._state = state

    def resolve(self) -> NDArray[Any]:
        if self._state is None:
            raise ValueError("an array without values")
        _, shape, dtype, is_fortran, data = self._state
        if not isinstance(dtype, DType) or not isinstance(data, bytes | str):
            raise ValueError("an array without an element type or values")
        raw = data.encode("latin1") if isinstance(data, str) else data
        sizes = counts(shape)
        return np.frombuffer(raw, dtype.resolve()).reshape(sizes, order="F" if is_fortran is True else "C")


class Dictionary(StandIn):
    """A pickled ``collections.OrderedDict``, read as a dict without other state."""

    def __init__(self, *unused: Any) -> None:
        self._items: dict[Any, Any] = {}

    def __setitem__(self, key: Any, value: Any) -> None:
        self._items[_key(key)] = value

    def __setstate__(self, state: Any) -> None:
        """The versions of a state dict's modules are not needed."""

    def resolve(self) -> dict[Any, Any]:
        return self._items


def encode(text: Any, encoding: Any) -> bytes:
    """Bytes as protocols 0 to 2 write them in Python 3: Latin-1 text."""
    if _text(encoding) not in ("latin1", "latin-1"):
        raise ValueError("bytes in another encoding than latin1 are not read")
    return _text(text).encode("latin1")


NUMPY_ARRAYS: Allowed = {("_codecs", "encode"): encode} | {
    (module, name): stand_in
    for module in ("numpy.core.multiarray", "numpy._core.multiarray", "numpy")
    for name, stand_in in (("_reconstruct", Array), ("ndarray", Array), ("dtype", DType))
}
"""Names of plain arrays of booleans, integers, floats and bytes, of any numpy since Python 2."""


def load(
    data: bytes,
    what: str,
    allowed: Allowed = NUMPY_ARRAYS,
    persistent: Callable[[Any], Any] | None = None,
    limits: Budget = PICKLE,
) -> Any:
    """Value of a pickle: dicts, lists, tuples, numbers, strings, bytes, None, and the results of ``allowed``.

    Python 2 strings are bytes here. Arrays are numpy arrays with memory of their own.

    Args:
        what: the thing that is read; it begins every message.
        allowed: (module, name) as pickled to the function that is called instead.
        persistent: makes the value of a persistent id, which names data outside the pickle; None refuses them.

    Raises:
        BudgetExceeded: more opcodes, bytes, nesting or time than ``limits``.
        FormatError: a name that is not allowed, or a damaged stream.
    """
    return load_several(data, 1, what, allowed, persistent, limits)[0][0]


def load_several(
    data: bytes,
    count: int,
    what: str,
    allowed: Allowed = NUMPY_ARRAYS,
    persistent: Callable[[Any], Any] | None = None,
    limits: Budget = PICKLE,
) -> tuple[list[Any], int]:
    """Values of ``count`` consecutive pickles, and the position after the last one; otherwise as ``load``."""
    meter = limits.meter(what)
    meter.add(num_bytes=len(data))
    stream = io.BytesIO(data)
    values = []
    try:
        for _ in range(count):
            values.append(_Resolver(meter)(_Unpickler(stream, allowed, persistent, meter).load()))
    except FormatError:
        raise
    except Exception as error:  # any exception can come of a damaged stream
        raise FormatError(f"{what}: pickle not read ({one_line(error)})") from None
    return values, stream.tell()


def one_line(error: Exception) -> str:
    """The message of ``error``, or its type, in one line of at most 200 characters."""
    text = " ".join(str(error).strip("'\"").split())
    return "".join(c if c.isprintable() else "?" for c in text[:200]) or type(error).__name__


def counts(values: Any) -> tuple[int, ...]:
    """A shape or strides. Raises ValueError for anything but at most 64 integers from 0 to 2^40."""
    if not isinstance(values, tuple | list) or len(values) > 64:
        raise ValueError("not a list of counts")
    if any(type(n) is not int or not 0 <= n < 2**40 for n in values):
        raise ValueError("counts that are no integers from 0 to 2^40")
    return tuple(values)


class _CountedDispatch(dict[int, Callable[..., None]]):
    """The table of opcodes; each access is one opcode of the stream, and is counted."""

    def __init__(self, table: Mapping[int, Callable[..., None]], meter: Meter) -> None:
        super().__init__(table)
        self._meter = meter
        self._left = _OPCODES_PER_CHECK

    def __getitem__(self, code: int) -> Callable[..., None]:
        self._left -= 1
        if not self._left:
            self._left = _OPCODES_PER_CHECK
            self._meter.add(num_elements=_OPCODES_PER_CHECK)
            self._meter.check_time()
        return super().__getitem__(code)


class _Unpickler(pickle._Unpickler):
    """Python's implementation, since in the C one a short stream can allocate gigabytes for the memo."""

    dispatch: ClassVar[dict[int, Callable[..., None]]] = {
        code: method for code, method in pickle._Unpickler.dispatch.items() if code not in _REFUSED_OPCODES
    }

    stack: list[Any]

    def __init__(
        self, stream: io.BytesIO, allowed: Allowed, persistent: Callable[[Any], Any] | None, meter: Meter
    ) -> None:
        super().__init__(stream, encoding="bytes")
        self._allowed = allowed
        self._persistent = persistent
        self.dispatch = _CountedDispatch(type(self).dispatch, meter)  # type: ignore[misc]

    def persistent_load(self, pid: Any) -> Any:
        if self._persistent is None:
            raise pickle.UnpicklingError("it names data that lie outside it")
        return self._persistent(pid)

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._allowed:
            raise pickle.UnpicklingError(f"it uses {module[:60]}.{name[:60]}, which is not on the allow-list")
        return self._allowed[module, name]

    def load_build(self) -> None:
        state = self.stack.pop()
        if not isinstance(self.stack[-1], StandIn):
            raise pickle.UnpicklingError(f"it gives a state to a {type(self.stack[-1]).__name__}")
        self.stack[-1].__setstate__(state)

    dispatch[pickle.BUILD[0]] = load_build

    def load_reduce(self) -> None:
        arguments = _arguments(self.stack.pop())
        self.stack[-1] = self.stack[-1](*arguments)

    dispatch[pickle.REDUCE[0]] = load_reduce

    def load_newobj(self) -> None:
        arguments, kind = _arguments(self.stack.pop()), self.stack.pop()
        if not (isinstance(kind, type) and issubclass(kind, StandIn)):
            raise pickle.UnpicklingError(f"it makes an object of a {type(kind).__name__}")
        self.stack.append(kind(*arguments))

    dispatch[pickle.NEWOBJ[0]] = load_newobj

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set_items([key, value])

    dispatch[pickle.SETITEM[0]] = load_setitem

    def load_setitems(self) -> None:
        self._set_items(self.pop_mark())  # type: ignore[attr-defined]

    dispatch[pickle.SETITEMS[0]] = load_setitems

    def load_dict(self) -> None:
        items = self.pop_mark()  # type: ignore[attr-defined]
        self.stack.append({})
        self._set_items(items)

    dispatch[pickle.DICT[0]] = load_dict

    def _set_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict | Dictionary):
            raise pickle.UnpicklingError(f"it sets items of a {type(target).__name__}")
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[_key(key)] = value


class _Resolver:
    """Replaces stand-ins by their values in nested containers. A shared part is resolved once, and stays shared."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._done: dict[int, tuple[Any, int]] = {}

    def __call__(self, value: Any) -> Any:
        return self._resolved(value, 0)[0]

    def _resolved(self, value: Any, depth: int) -> tuple[Any, int]:
        """The value, and the number of values in it if each shared part is counted wherever it appears."""
        if not isinstance(value, StandIn | dict | list | tuple) or (not isinstance(value, StandIn) and not value):
            return value, 1
        if id(value) in self._done:
            if self._done[id(value)] is _UNDERWAY:
                raise ValueError("a container holds itself")
            return self._done[id(value)]
        self._meter.check_depth(depth)
        self._done[id(value)] = _UNDERWAY
        resolved: Any = value
        size = 1
        if isinstance(value, StandIn):
            resolved = value.resolve()
            if isinstance(resolved, np.ndarray):
                self._meter.add(num_bytes=resolved.nbytes)
                resolved = resolved.copy(order="K")
            elif isinstance(resolved, dict | list | tuple):
                resolved, size = self._resolved(resolved, depth + 1)
        elif isinstance(value, dict):
            pairs = {key: self._resolved(item, depth + 1) for key, item in value.items()}
            resolved, size = {key: item for key, (item, _) in pairs.items()}, sum(n for _, n in pairs.values()) + 1
        else:
            items = [self._resolved(item, depth + 1) for item in value]
            resolved, size = type(value)(item for item, _ in items), sum(n for _, n in items) + 1
        if size > self._meter.budget.max_elements:  # code that walks through such a value would not end
            raise ValueError(f"it unfolds to more than {self._meter.budget.max_elements:,} values")
        self._done[id(value)] = resolved, size
        return self._done[id(value)]


_UNDERWAY: tuple[Any, int] = (None, 0)


def _arguments(value: Any) -> tuple[Any, ...]:
    if not isinstance(value, tuple) or len(value) > 32:
        raise pickle.UnpicklingError("it calls something with no tuple of at most 32 arguments")
    return value


def _key(key: Any) -> Any:
    """A key whose hash is quick and hard to collide: the hash of nested tuples may take for ever."""
    if type(key) in (str, bytes) or (type(key) is int and abs(key) < 2**60):
        return key
    raise ValueError(f"a key of type {type(key).__name__}, expected text or a small integer")


def _text(value: Any) -> str:
    text = value.decode("latin1") if isinstance(value, bytes) else value
    if not isinstance(text, str):
        raise ValueError(f"a {type(value).__name__} where a name is expected")
    return text
