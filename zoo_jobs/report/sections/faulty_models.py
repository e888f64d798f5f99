"""Faulty models: how many, when and why."""

import numpy as np

from .. import words
from ..blocks import Block, Details, Panel, Paragraph, Row, Section, Table, number
from ..charts.panels import faulty_panel
from ..contents import Contents

MAX_ROWS = 40
REASONS = {"nan": "a weight that is not a number", "inf": "an infinite weight", "parent": "a faulty parent"}


def section(contents: Contents) -> Section:
    blocks: list[Block] = []
    panels: list[Panel] = []
    for zoo, noun in ((contents, "model"), (contents.twins, "twin")):
        if zoo is None:
            continue
        population = zoo.population
        rows = np.flatnonzero(~population.sound_N)
        if not len(rows):
            blocks.append(Paragraph(f"None of {words.count(population.num_models, noun)} became faulty."))
            continue
        reasons = population.faulty_reasons_N[rows].tolist()
        by_reason = [f"{reasons.count(r)} by {text}" for r, text in REASONS.items() if r in reasons]
        blocks.append(
            Paragraph(
                f"{words.count(len(rows))} of {words.count(population.num_models, noun)}: {words.sentence(by_reason)}. "
                "They are kept, frozen at their faulty epoch, labelled, and have no accuracy from then on."
            )
        )
        epochs = population.faulty_epochs_N[rows].tolist()
        panels.append(faulty_panel(noun, epochs, reasons, int(population.epochs_E[-1])))
        names = words.in_order(population.varying())
        listed: list[Row] = [
            [
                number(str(population.models_N[row])), number(str(population.faulty_epochs_N[row])),
                str(population.faulty_reasons_N[row]),
                *(words.value(population.hyperparameters[name].tolist()[row]) for name in names),
            ]
            for row in rows[:MAX_ROWS]
        ]  # fmt: skip
        more = len(rows) - len(listed)
        caption = f"Faulty {noun}s by index" + (f"; {words.count(more)} more are in the labels" if more else "")
        heads = [noun.capitalize(), "Epoch", "Reason", *map(words.name, names)]
        blocks.append(Details(f"List of faulty {noun}s", [Table(caption, heads, listed)]))
    return Section("faulty-models", "Faulty models", blocks, panels, columns=2)
