"""Finds the facts of a user's code by running it once on random images, and refuses what training cannot handle.

Runs foreign code."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (torch's own name for it)
from torch.utils.flop_counter import FlopCounterMode

from ..errors import InputError
from .code_module import constructed, dropouts, errors_named, place_of_class
from .code_network import Code, CodeNetwork, Shapes

FLOP_PER_MAC = 2


def examine(
    code: Code, in_channels: int, image_size: int, num_classes: int, batch_sizes: Iterable[int], *, where: str
) -> CodeNetwork:
    """The network of the code for images [in_channels, image_size, image_size].

    Args:
        batch_sizes: sizes of batches that training will have; a batch of 1 is tried where there is one.
        where: the file, for messages.

    Raises:
        InputError: the code raises, or its module cannot be trained here; the message says where and why.
    """
    return _Examination(code, in_channels, image_size, num_classes, where).network(batch_sizes)


class _Examination:
    def __init__(self, code: Code, in_channels: int, image_size: int, num_classes: int, where: str) -> None:
        self._code, self._where, self._place = code, where, where
        self._image = (in_channels, image_size, image_size)
        self._num_classes = num_classes
        self._module = self._constructed(0)
        self._place = place_of_class(code, where)
        self._seen: dict[str, list[tuple[int, ...]]] = {name: [] for name in dropouts(self._module)}

    def network(self, batch_sizes: Iterable[int]) -> CodeNetwork:
        parameters, buffers, counters = self._tensors()
        self._check_start(buffers, counters)
        sizes = sorted({min(2, size) for size in batch_sizes}, reverse=True)
        for size in sizes:
            self._check_passes(size)
        macs, train_macs = self._count(sizes[0])
        return CodeNetwork(
            code=self._code,
            in_channels=self._image[0],
            image_size=self._image[1],
            num_classes=self._num_classes,
            parameters=parameters,
            buffers=buffers,
            counter_names=counters,
            dropouts=tuple((name, shapes[-1][1:]) for name, shapes in self._seen.items()),
            num_macs=macs,
            num_train_macs=train_macs,
        )

    def _refuse(self, why: str) -> InputError:
        return InputError(f"{self._place}: {self._code.class_name}: {why}")

    def _constructed(self, seed: int) -> nn.Module:
        channels, size, _ = self._image
        return constructed(self._code, channels, size, self._num_classes, seed=seed, where=self._where)

    def _tensors(self) -> tuple[Shapes, Shapes, tuple[str, ...]]:
        """Names and shapes of parameters, of buffers, and names of counters."""
        module = self._module
        named = dict(module.named_parameters(remove_duplicate=False))
        known: dict[int, str] = {}
        for name, parameter in named.items():
            if nn.parameter.is_lazy(parameter):
                raise self._refuse(f"parameter {name!r} has no shape before the first batch; give its layer all sizes")
            if parameter.dtype != torch.float32 or not parameter.requires_grad:
                raise self._refuse(f"parameter {name!r} is not float32 with a gradient; make it a buffer")
            if id(parameter) in known:
                raise self._refuse(f"parameters {known[id(parameter)]!r} and {name!r} are one tensor")
            known[id(parameter)] = name
        parameters: list[tuple[str, tuple[int, ...]]] = []
        buffers: list[tuple[str, tuple[int, ...]]] = []
        counters = []
        for name, tensor in module.state_dict(keep_vars=True).items():
            if name in named:
                parameters.append((name, tuple(tensor.shape)))
            elif not isinstance(tensor, Tensor):
                raise self._refuse(f"{name!r} of its state dict is no tensor")
            elif tensor.dtype == torch.float32:
                buffers.append((name, tuple(tensor.shape)))
            elif tensor.dtype == torch.int64 and tensor.ndim == 0:
                counters.append(name)
            else:
                raise self._refuse(
                    f"buffer {name!r} is {tensor.dtype} {list(tensor.shape)}; buffers are float32, or one int64 number"
                )
        if not parameters:
            raise self._refuse("it has no parameters")
        return tuple(parameters), tuple(buffers), tuple(counters)

    def _check_start(self, buffers: Shapes, counters: tuple[str, ...]) -> None:
        """A second construction has equal parameters under one seed, and equal buffers under any."""
        first = self._module.state_dict()
        same, other = (self._constructed(seed).state_dict() for seed in (0, 1))
        for name, tensor in first.items():
            is_buffer = name in dict(buffers) or name in counters
            if same.keys() != first.keys() or not torch.equal(tensor, same[name]):
                raise self._refuse(f"{name!r} starts with random values that torch's generator does not give")
            if is_buffer and not torch.equal(tensor, other[name]):
                raise self._refuse(f"buffer {name!r} starts with random values; make it a parameter, or fix them")

    def _check_passes(self, size: int) -> None:
        """Two passes in training mode agree, every parameter gets a gradient, and an evaluation changes nothing."""
        module = self._module
        generator = torch.Generator().manual_seed(size)
        images = torch.rand((size, *self._image), generator=generator)
        labels = torch.arange(size) % self._num_classes
        hooks = [layer.register_forward_hook(self._hook(name)) for name, layer in dropouts(module).items()]
        before = _copy(module)
        module.train()
        logits = self._logits(images)
        for hook in hooks:
            hook.remove()
        self._check_dropouts(size)
        trained = _copy(module)
        self._check_changes(before, trained)
        _restore(module, before)
        again = self._logits(images)
        if not torch.equal(logits.nan_to_num(), again.nan_to_num()) or not _equal(trained, _copy(module)):
            raise self._refuse(
                "hidden randomness: two forward passes in training mode do not agree; of random layers only "
                "nn.Dropout is supported"
            )
        if not again.requires_grad:
            raise self._refuse("its output has no gradient")
        with errors_named(self._code, self._where):
            F.cross_entropy(again, labels).backward()
        for name, parameter in module.named_parameters():
            if parameter.grad is None:
                raise self._refuse(f"parameter {name!r} gets no gradient: forward does not use it")
        module.eval()
        evaluated = _copy(module)
        with torch.no_grad():
            self._logits(images)
        if not _equal(evaluated, _copy(module)):
            raise self._refuse("an evaluation changes its buffers")
        _restore(module, before)
        module.zero_grad()

    def _logits(self, images: Tensor) -> Tensor:
        held = dict(self._module.named_buffers())
        with errors_named(self._code, self._where):
            logits = self._module(images)
        if not isinstance(logits, Tensor):
            raise self._refuse(f"forward returns {type(logits).__name__}, expected a tensor")
        wanted = [len(images), self._num_classes]
        if list(logits.shape) != wanted or logits.dtype != torch.float32:
            raise self._refuse(
                f"forward gives {logits.dtype} {list(logits.shape)} for images {list(images.shape)}, expected "
                f"torch.float32 {wanted}, one value per class"
            )
        for name, buffer in self._module.named_buffers():
            if held.get(name) is not buffer:
                raise self._refuse(f"forward replaces buffer {name!r}; change it in place, e.g. with copy_()")
        return logits

    def _hook(self, name: str) -> "_Hook":
        return _Hook(self._seen[name])

    def _check_dropouts(self, size: int) -> None:
        for name, shapes in self._seen.items():
            if len(shapes) != 1:
                times = "never" if not shapes else f"{len(shapes)} times in one pass"
                raise self._refuse(f"dropout layer {name!r} is called {times}; give every place a layer of its own")
            if shapes[0][:1] != (size,):
                raise self._refuse(f"dropout layer {name!r} gets {list(shapes[0])}, whose first axis is not the batch")

    def _check_changes(self, before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> None:
        """Check that a pass changes nothing but the buffers of the state dict."""
        saved = self._module.state_dict().keys() - dict(self._module.named_parameters()).keys()
        for name, values in before.items():
            if name not in saved and not _equal({name: values}, after):
                raise self._refuse(f"forward changes {name!r}, which is no buffer of its state dict")

    def _count(self, size: int) -> tuple[int, int]:
        """Multiply-adds per sample of the forward pass, and of forward and backward pass."""
        self._module.train()
        images = torch.zeros((size, *self._image))
        with FlopCounterMode(display=False) as forward:
            logits = self._logits(images)
        with FlopCounterMode(display=False) as backward, errors_named(self._code, self._where):
            logits.sum().backward()
        forward_flop, backward_flop = forward.get_total_flops(), backward.get_total_flops()
        per_sample = FLOP_PER_MAC * size
        return max(1, forward_flop // per_sample), max(1, (forward_flop + backward_flop) // per_sample)


class _Hook:
    """Remembers the shapes of a layer's inputs."""

    def __init__(self, shapes: list[tuple[int, ...]]) -> None:
        self._shapes = shapes
        shapes.clear()

    def __call__(self, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        del layer, inputs
        self._shapes.append(tuple(output.shape))


def _copy(module: nn.Module) -> dict[str, Tensor]:
    """Copies of all parameters and buffers, those that a state dict leaves out too."""
    return {name: tensor.detach().clone() for name, tensor in _tensors(module)}


def _restore(module: nn.Module, values: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        for name, tensor in _tensors(module):
            tensor.copy_(values[name])


def _tensors(module: nn.Module) -> Iterable[tuple[str, Tensor]]:
    yield from module.named_parameters()
    yield from module.named_buffers()


def _equal(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return all(torch.equal(values.nan_to_num(), other[name].nan_to_num()) for name, values in one.items())
