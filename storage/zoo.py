"""The public interface to published zoos: ``open_zoo``, ``list_zoos`` and the class ``Zoo``."""

import operator
import os
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, SupportsIndex

import numpy as np
from numpy.typing import NDArray

from .errors import FormatError, NotPublished, StorageError, StorageUsageError, StoreURLError, import_optional
from .formats.manifest import Manifest
from .formats.symmetry import augment_permute
from .keys import manifest_key, zoo_url
from .publish.head import list_published, read_manifest_bytes, some_names, split_zoo_url
from .read.reader import ZooReader
from .read.selection import Selector
from .stores.open import open_store, require_existing

if TYPE_CHECKING:
    import torch

    from .views.standardize import Standardizer

Address = str | os.PathLike[str]


class Zoo(ZooReader):
    """One version of a published zoo: the reader, and its torch data sets."""

    def standardizer(
        self, *, epochs: Selector = None, models: Selector = None, where: str | None = None
    ) -> "Standardizer":
        """Mean and deviation of each tensor over the train states of a selection, to standardise others by.

        Args:
            epochs, models, where: as for ``weights``. Only states of the train split are fitted, and only finite ones.

        Raises:
            StorageUsageError: the selection has no such state. Also the errors of ``weights``.
        """
        from .views.standardize import fit_standardizer

        return fit_standardizer(self, epochs, models, where)

    def module(
        self, model: SupportsIndex, epoch: SupportsIndex | str = -1, *, masked: bool = True
    ) -> "torch.nn.Module":
        """The network of a model at an epoch as a torch module in evaluation mode, its weights loaded.

        Args:
            epoch: one whose weights are kept; -1 is the last of them.
            masked: whether pruned values of sparsified twins are zero.

        Raises:
            StorageUsageError: the manifest lists no layers to build it from (ResNet-18); load ``state_dict`` into a
                module of your own. Also the errors of ``state_dict``.
        """
        state = self.state_dict(model, epoch, masked=masked)
        return self._module(operator.index(model), state)

    def to_module(self, vector: "NDArray[Any] | torch.Tensor", model: SupportsIndex) -> "torch.nn.Module":
        """As ``module``, with the weights of any vector [D] in the zoo's layout, e.g. a generated one.

        Args:
            model: one of the zoo, whose activation and dropout the module gets.
        """
        index = operator.index(model)
        return self._module(index, self.to_state_dict(np.asarray(vector, np.float32), index))

    def _module(self, model: int, state: "Mapping[str, NDArray[Any]]") -> "torch.nn.Module":
        torch_package = import_optional("torch")
        from .views.module import build_module

        row = self.row(model)
        ratio = row["dropout_ratio"] or 0.0
        layers = self.manifest.layers.get("dropout" if ratio else "plain") or self.manifest.layers.get("plain")
        if not layers:
            raise StorageUsageError(
                f"zoo {self.name!r}: its manifest lists no layers of {self.architecture['name']}, so no module can be "
                "built; load zoo.state_dict(model, epoch, torch=True) into one of your own"
            )
        module = build_module(layers, row["activation"], ratio)
        module.load_state_dict({name: torch_package.from_numpy(np.array(value)) for name, value in state.items()})
        return module.eval()

    def detokenize(self, tokens: Any) -> "NDArray[np.float32]":
        """The weight vectors of tokens: [N, D] of values [N, T, S], [D] of values [T, S].

        Args:
            tokens: values, or a sample of ``dataset(layout="tokens")``: values, mask and positions.

        Raises:
            FormatError: not as many tokens as the layout has.
        """
        from .views.tokens import detokenize

        values = np.asarray(tokens[0] if isinstance(tokens, tuple | list) else tokens)
        return detokenize(values, self.layout) if values.ndim == 3 else detokenize(values[None], self.layout)[0]

    def from_graph(self, graph: "Mapping[str, Any]") -> "NDArray[np.float32]":
        """The weight vector [D] of a graph of ``dataset(layout="graph")``. Raises FormatError for another network's."""
        from .views.graph import from_graph

        return from_graph(graph, self.layout)

    def permuted(self, values: "NDArray[np.float32]", seed: int) -> "NDArray[np.float32]":
        """Weight vectors [N, D] with hidden units in a random order, another for each row; logits stay equal."""
        return augment_permute(values, self.layout, self.symmetries, seed)

    def dataset(
        self,
        split: str | None = None,
        epochs: Selector = None,
        *,
        layout: Literal["vector", "state_dict", "tokens", "graph"] = "vector",
        task: Literal["reconstruction", "sequence"] = "reconstruction",
        models: Selector = None,
        where: str | None = None,
        align: Literal["canonical"] | None = None,
        augment: Literal["permute"] | None = None,
        standardize: "bool | Standardizer" = False,
        columns: Sequence[str] | Literal["all"] | None = None,
        seed: int = 0,
        stream: bool = False,
        shuffle: bool = True,
        buffer_bytes: int | None = None,
    ) -> "torch.utils.data.Dataset[Any]":
        """A torch Dataset of (input, target, labels), in memory or as a stream.

        Args:
            layout: what a state is given as; tensors in each case. ``tokens``: values, mask and positions (place in the
                sequence, layer, channel) of a token per channel, as SANE takes them.
            task: ``sequence`` gives a state and the same model's next selected epoch.
            align: hidden units in a canonical order.
            augment: hidden units in a random order, drawn by (``seed``, pass, sample); ``set_epoch`` sets the pass.
            standardize: mean 0 and deviation 1 per tensor, fitted as ``standardizer`` does on these models, epochs and
                ``where``; or a Standardizer that was fitted before. The dataset has it as ``.standardizer``.
            columns: label columns of a sample; None: model, epoch, split, test_acc and ggap; "all": all that have no
                null which torch cannot hold.
            stream: an IterableDataset that reads while it is iterated, for DataLoaders with any number of workers.
            shuffle: of a stream: by (``seed``, pass); the order is stated in ``storage/views/stream.py``.
            buffer_bytes: of a stream: what a worker holds, and mixes, at once; None: 32 MiB.
        """
        import_optional("torch")
        from .views.torch_data import BUFFER_BYTES, Source, StateDataset, StateStream, Transform

        transform = Transform(layout, align, augment, standardize, seed)
        source = Source(self, split, epochs, transform, task, models, where, columns)
        if stream:
            held = BUFFER_BYTES if buffer_bytes is None else buffer_bytes
            return StateStream(source, shuffle=shuffle, buffer_bytes=held)
        return StateDataset(source)


def open_zoo(
    url: Address, version: int | None = None, *, cache: Address | None = None, cache_bytes: int | None = None
) -> Zoo:
    """Open a published zoo: see ``zooforge.open_zoo``.

    Raises:
        StoreURLError: not the address of a zoo. NotPublished, FormatError, NewerFormat, and what the store raises.
    """
    address = path_text(url)
    try:
        base, name, number = split_zoo_url(address)
    except StoreURLError as error:
        raise _no_zoo(address, error) from None
    store = open_store(base)
    if number is not None and version is not None and number != version:
        raise StorageUsageError(f"{address}: names version {number}, asked for {version}")
    wanted = version if version is not None else number
    if wanted is not None and wanted < 1:
        raise NotPublished(f"zoo {name!r}: versions count from 1; asked for {wanted}")
    number, data = read_manifest_bytes(store, name, wanted)
    manifest = Manifest.from_json(data, manifest_key(name, number))
    if manifest.zoo != name:
        raise FormatError(f"{manifest_key(name, number)}: belongs to zoo {manifest.zoo!r}")
    folder = os.environ.get("ZOOFORGE_CACHE") if cache is None else path_text(cache)
    return Zoo(store, manifest, number, folder, cache_bytes)


def list_zoos(url: Address) -> list[str]:
    """Names of the zoos that a store has published: see ``zooforge.list_zoos``."""
    store = open_store(path_text(url))
    require_existing(store)
    return list_published(store)


def path_text(path: Address) -> str:
    """An address as text. Raises StoreURLError for a URL that was put into a ``pathlib.Path``, which damages it."""
    text = os.fsdecode(path)
    if not isinstance(path, str) and re.match(r"(file|s3|https?|hf|memory):/", text):
        raise StoreURLError(f"{text}: a pathlib.Path cannot hold a URL; pass it as text")
    return text


def _no_zoo(address: str, error: StoreURLError) -> StoreURLError:
    """The error for an address that names no zoo; where a store is there, it says which zoos the store holds."""
    try:
        names = list_zoos(address)
    except StorageError:
        return error
    if not names:
        return error
    example = zoo_url(address, names[0])
    return StoreURLError(f"{address} is a store, not a zoo; it holds {some_names(names)}: open e.g. {example}")
