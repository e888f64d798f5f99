"""The options of a benchmark."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from zooforge.storage.zoo import Zoo as Published

from .methods.contract import Fit
from .splits import SplitKind

THRESHOLDS = (0.0, 0.2, 0.4, 0.6, 0.8)


@dataclass(frozen=True, eq=False)
class Request:
    """A zoo and the options of a protocol; each takes those that its row in ``protocols.registry`` names.

    Attributes:
        store: address of the store that the zoo is in.
        epochs: of the states, as ``Zoo.weights`` takes them; None: as the protocol has it.
        others: zoos to test on.
        methods: those of the benchmark and plugins, by name.
        thresholds: test accuracies; models below are left out before the split.
        first: epochs from which the later ones are forecast.
        order: file of row numbers of Google's matrix.
        samples: folder of generated networks; ``images``: file of the images that they are tested on.
        say: called with lines about the progress.
    """

    zoo: Published
    store: str
    epochs: str | None = None
    others: Sequence[Published] = ()
    methods: Mapping[str, Fit] = field(default_factory=dict)
    seeds: Sequence[int] = (0, 1, 2, 3, 4)
    thresholds: Sequence[float] = THRESHOLDS
    weight_threshold: float | None = None
    splits: SplitKind = "drawn"
    first: int | None = None
    order: Path | None = None
    samples: Path | None = None
    images: Path | None = None
    activation: str | None = None
    say: Callable[[str], None] = lambda _: None
