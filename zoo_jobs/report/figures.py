"""The pictures of a data set's card: test accuracy over epochs, at the end, by the most influential hyperparameter."""

from dataclasses import replace

from zooforge.storage.deposit.parcel import Figure
from zooforge.storage.publish.cards import FIGURES
from zooforge.storage.zoo import Zoo

from .charts.drawing import panels_png
from .charts.panels import bands_panel, histogram_panel, influence_panel
from .read import read_population
from .statistics import bands, influences


def card_figures(zoo: Zoo) -> tuple[Figure, ...]:
    """Empty if no test accuracy was measured; without the last if no hyperparameter varies. Equal zoos, equal bytes."""
    here = read_population(zoo)
    if not here.has("test_acc"):
        return ()
    chance = 1 / int(zoo.architecture["num_classes"])
    what = "Test accuracy over epochs"
    panels = [
        bands_panel(what, what, bands(here.epochs_E, here.metrics["test_acc"]), epochs=here.span, chance_ratio=chance),
        histogram_panel("Test accuracy at the last epoch", "final test accuracy", here.final("test_acc"), chance),
    ]
    for influence in influences(here)[:1]:
        panel = influence_panel(influence, chance)
        panels.append(replace(panel, title=f"Final test accuracy by {panel.title.lower()}"))
    return tuple(Figure(name, panels_png([panel], 1), panel.alt) for name, panel in zip(FIGURES, panels, strict=False))
