"""Runs a user's code: makes its torch module, with our dropout layers. Only with `--allow-code`."""

import ast
import contextlib
import hashlib
import inspect
import sys
import threading
import types
from collections.abc import Iterator
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.dropout import _DropoutNd

from ..errors import InputError, nearest
from .code_network import Code, CodeNetwork

ARGUMENTS = ("in_channels", "image_size", "num_classes")
"""The constructor gets those of them that it names."""
DEFAULT_RATIO = nn.Dropout().p
_construction = threading.Lock()  # constructors draw from torch's global generator


class MaskedDropout(nn.Module):
    """Stands for an ``nn.Dropout``. In training it multiplies by ``mask``, if there is one; else it changes nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.mask: Tensor | None = None

    def forward(self, values: Tensor) -> Tensor:
        return values if self.mask is None or not self.training else values * self.mask


def code_module(network: CodeNetwork, seed: int = 0) -> nn.Module:
    """The module of the network as its constructor makes it, with the dropout layers replaced.

    Args:
        seed: of torch's generators while the constructor runs; the CPU generator is restored.

    Raises:
        InputError: the code does not make such a module; the message names the place in the text.
    """
    return constructed(
        network.code, network.in_channels, network.image_size, network.num_classes, seed=seed, where=network.name
    )


def dropouts(module: nn.Module) -> dict[str, MaskedDropout]:
    """The dropout layers of a module by name, in the order of its modules."""
    return {name: layer for name, layer in module.named_modules() if isinstance(layer, MaskedDropout)}


def filled_layers(module: nn.Module) -> dict[str, nn.Module]:
    """The layers by name whose weights an initializer gives: linear layers and convolutions."""
    return {name: layer for name, layer in module.named_modules() if isinstance(layer, nn.Linear | _ConvNd)}


def constructed(code: Code, in_channels: int, image_size: int, num_classes: int, *, seed: int, where: str) -> nn.Module:
    """``code_module`` of a network of which only the code is known; ``where`` is the file in messages."""
    network_class = _class(code, where)
    given = dict(zip(ARGUMENTS, (in_channels, image_size, num_classes), strict=True))
    arguments = _arguments(network_class, given, code, where)
    with _construction, torch.random.fork_rng(devices=[]), errors_named(code, where):
        torch.manual_seed(seed)
        module: nn.Module = network_class(**arguments)
    _replace_dropouts(module, code, where)
    return module


@contextlib.contextmanager
def errors_named(code: Code, where: str) -> Iterator[None]:
    """Run a block of foreign code: what it prints goes to stderr, and what it raises becomes an InputError.

    The message names the last line of the text that was running.
    """
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    except SyntaxError as error:
        raise InputError(f"{where}, line {error.lineno}: {error.msg}") from None
    except (Exception, SystemExit) as error:
        line, trace = None, error.__traceback__
        while trace is not None:
            if trace.tb_frame.f_code.co_filename == _file_name(code.text):
                line = trace.tb_lineno
            trace = trace.tb_next
        place = where if line is None else f"{where}, line {line}"
        text = " ".join(str(error).split())
        raise InputError(f"{place}: {type(error).__name__}{f': {text}' if text else ''}") from None


def place_of_class(code: Code, where: str) -> str:
    """``net.py, line 7``: where the class begins."""
    for node in ast.walk(ast.parse(code.text)):
        if isinstance(node, ast.ClassDef) and node.name == code.class_name:
            return f"{where}, line {node.lineno}"
    return where


def _class(code: Code, where: str) -> type[nn.Module]:
    with errors_named(code, where):
        names = vars(_module(code.text))
    network = names.get(code.class_name)
    if network is None:
        classes = [
            name for name, value in names.items() if isinstance(value, type) and value.__module__ == _name(code.text)
        ]
        close = nearest(code.class_name, classes)
        offer = f"did you mean {close!r}? " if close else ""
        raise InputError(f"{where}: no class {code.class_name!r}; {offer}it has {', '.join(classes) or 'none'}")
    if not (isinstance(network, type) and issubclass(network, nn.Module)):
        raise InputError(f"{place_of_class(code, where)}: {code.class_name} is no torch.nn.Module")
    return network


def _arguments(network_class: type[nn.Module], given: dict[str, int], code: Code, where: str) -> dict[str, int]:
    """The arguments of the constructor: those of ``given`` that it names."""
    parameters = list(inspect.signature(network_class).parameters.values())
    for parameter in parameters:
        required = parameter.default is parameter.empty and parameter.kind not in (
            parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD,
        )  # fmt: skip
        if required and (parameter.name not in given or parameter.kind is parameter.POSITIONAL_ONLY):
            raise InputError(
                f"{place_of_class(code, where)}: {code.class_name} needs {parameter.name!r}; it may take "
                f"{', '.join(ARGUMENTS)}, everything else needs a default"
            )
    return {name: value for name, value in given.items() if any(p.name == name for p in parameters)}


def _replace_dropouts(module: nn.Module, code: Code, where: str) -> None:
    for name, layer in list(module.named_modules()):
        if not isinstance(layer, _DropoutNd):
            continue
        what = f"{place_of_class(code, where)}: layer {name!r}"
        if type(layer) is not nn.Dropout:
            raise InputError(f"{what} is {type(layer).__name__}; of the dropout layers only nn.Dropout is supported")
        if layer.p != DEFAULT_RATIO:
            raise InputError(
                f"{what} has a ratio of its own, {layer.p}; write nn.Dropout(), the axis dropout_ratio gives it"
            )
        parent, _, attribute = name.rpartition(".")
        setattr(module.get_submodule(parent), attribute, MaskedDropout())


@cache
def _module(text: str) -> types.ModuleType:
    """The module of the text, run once in a process."""
    module = types.ModuleType(_name(text))
    sys.modules[module.__name__] = module  # dataclasses look up the module of their class
    try:
        exec(compile(text, _file_name(text), "exec"), vars(module))
    except BaseException:
        del sys.modules[module.__name__]
        raise
    return module


def _name(text: str) -> str:
    return f"zooforge_code_{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _file_name(text: str) -> str:
    return f"<{_name(text)}>"
