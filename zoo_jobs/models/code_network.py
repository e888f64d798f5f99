"""A network that is a user's code: its text, and the facts from one run of it. Pure; runs no code."""

import hashlib
from dataclasses import dataclass
from functools import cached_property

from zooforge.storage.canonical import digest_of
from zooforge.storage.formats.layout import Layout

Shapes = tuple[tuple[str, tuple[int, ...]], ...]
PREFIX = "code-"  # of the names of such networks in manifests


@dataclass(frozen=True, slots=True)
class Code:
    """The text of a file and the name of the class in it that is the network."""

    text: str
    class_name: str

    @property
    def sha256(self) -> str:
        """64 hex digits: SHA-256 of the text in UTF-8."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def name(self) -> str:
        """``code-`` and 8 hex digits of the SHA-256 over the canonical JSON of class and SHA-256 of the text."""
        return f"{PREFIX}{digest_of({'class': self.class_name, 'sha256': self.sha256})[:8]}"


@dataclass(frozen=True)
class CodeNetwork:
    """A torch module that the code makes. It is no layer list: ``layers`` is None, and engines that need one refuse it.

    Attributes:
        parameters, buffers: names of the state dict with their shapes, float32, in its order.
        counter_names: int64 scalars of the state dict.
        dropouts: modules that drop values, with the shape of one sample of their input.
        num_macs, num_train_macs: multiply-adds of the forward pass, and of forward and backward pass, of one sample.
    """

    code: Code
    in_channels: int
    image_size: int
    num_classes: int
    parameters: Shapes
    buffers: Shapes
    counter_names: tuple[str, ...]
    dropouts: Shapes
    num_macs: int
    num_train_macs: int

    layers = None

    @property
    def name(self) -> str:
        return self.code.name

    @cached_property
    def layout(self) -> Layout:
        """Parameters in state-dict order."""
        return Layout.of(self.parameters)

    @cached_property
    def buffer_layout(self) -> Layout:
        """Buffers in state-dict order; empty for a network without any."""
        return Layout.of(self.buffers)

    @property
    def state_dict_names(self) -> dict[str, str]:
        """Layout names equal those of the state dict."""
        return {entry.name: entry.name for entry in self.layout.entries}
