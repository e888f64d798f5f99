"""The description of a zoo as plain data, so that publishing needs no other room. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..formats.compression import CompressionName
from ..formats.layout import Layout
from ..formats.manifest import Parent
from ..formats.splits import SplitRule


@dataclass(frozen=True)
class ZooDescription:
    """A zoo as its spec defines it: two machines that describe one spec give equal values.

    Attributes:
        dataset, architecture: their names. ``in_channels``, ``image_size``, ``num_classes``: of the models.
        num_models, num_epochs: of the full plan, not of a request.
        layout: of the weight vector; ``noisy_layout`` of log sigma^2 and masks (twins).
        layers: variant to layer list, each layer a JSON object with ``type``. Variants are ``plain`` and, where
            dropout layers shift indices, ``dropout``, which a model with dropout_ratio > 0 has.
        state_dict_names: variant to {layout name: name in the torch module's state dict}.
        symmetries: permutation groups as storage/formats/symmetry.py describes them.
        rows: model index to its row: ``row_digest`` and the hyperparameters of ``labels.ROW_COLUMNS``, ``parent_zoo``,
            ``parent_model``, ``parent_epoch``, and ``root_model`` where it is not the index itself. All that may be
            published, and rows 0..19.
        root_zoo: the ancestor whose rows decide the split, or the images whose indices do where each model learns one;
            the zoo itself if it has no parent.
        num_root_models: models in the full plan of the root zoo.
        root_rows: rows of the root zoo by its model index, where ``split`` has groups and ``rows`` have other
            hyperparameters (twins); None: ``rows``.
        absent: models that will never be trained, with the reason.
        buffers_layout: of ``.buffers`` where an architecture has them, by state-dict name.
        notes: known conflicts and remarks for the card.
        compression: of the shards; None: as the current version has them, at first not at all.
        shard_shape: (models, epochs) of a shard; None: as many models as fit into 64 MiB.
        task: JSON: ``name`` and facts of the task; None: classification.
        data: JSON: which images the models saw, their licence, how they were prepared and split; None: not known.
    """

    name: str
    title: str
    source: str
    dataset: str
    architecture: str
    in_channels: int
    image_size: int
    num_classes: int
    num_models: int
    num_epochs: int
    layout: Layout
    rows: Mapping[int, Mapping[str, Any]]
    state_dict_names: Mapping[str, Mapping[str, str]]
    layers: Mapping[str, list[dict[str, Any]]] = field(default_factory=dict)
    symmetries: list[dict[str, Any]] = field(default_factory=list)
    noisy_layout: Layout | None = None
    buffers_layout: Layout | None = None
    counters: tuple[str, ...] = ()
    split: SplitRule = field(default_factory=SplitRule)
    root_zoo: str = ""
    num_root_models: int = 0
    root_rows: Mapping[int, Mapping[str, Any]] | None = None
    parent: Parent | None = None
    absent: Mapping[int, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    compression: CompressionName | None = None
    shard_shape: tuple[int, int] | None = None
    data: Mapping[str, Any] | None = None
    task: Mapping[str, Any] | None = None

    @property
    def root(self) -> str:
        return self.root_zoo or self.name

    def architecture_json(self) -> dict[str, Any]:
        value: dict[str, Any] = {
            "name": self.architecture,
            "in_channels": self.in_channels,
            "image_size": self.image_size,
            "num_classes": self.num_classes,
        }
        if self.buffers_layout is not None:
            value["buffers_layout"] = self.buffers_layout.to_json()
            value["counters"] = list(self.counters)
        return value
