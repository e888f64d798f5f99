"""The sections that are sentences and tables: findings, faulty models, extremes, coverage, fidelity, provenance."""

from collections.abc import Iterable

import numpy as np

from . import words
from .contents import Contents
from .markup import Cell, Row, bar, bullets, code, details, escape, number, pairs, paragraph, table
from .panels import faulty_panel
from .population import Population
from .section import Section, extent
from .statistics import influences, num_at_chance, quantiles, ranked

SHOWN_MODELS = 5
MAX_FAULTY_ROWS = 40


def summary(contents: Contents) -> Section:
    return Section("in-short", "In short", bullets(in_short(contents), "short"))


def in_short(contents: Contents) -> list[str]:
    """The findings that a reader should not miss, as sentences."""
    facts, here = contents.facts, contents.population
    last = int(here.epochs_E[-1])
    lines = []
    q = quantiles(here.final("test_acc"))
    if np.isfinite(q[2]):
        lines.append(
            f"At epoch {last} the median model classifies {words.percent(q[2])} of the test images correctly; the "
            f"middle half lies between {words.percent(q[1])} and {words.percent(q[3])}."
        )
        best = ranked(here)[0]
        lines.append(
            f"The best is model {here.models_N[best]} with {words.percent(here.final('test_acc')[best])}"
            f"{_settings(here, int(best))}."
        )
    found = [influence for influence in influences(here) if influence.share >= 0.01]
    if found:
        shares = [f"{words.NAMES[i.name].lower()} ({words.percent(i.share, 0)})" for i in found[:3]]
        lines.append(f"What explains most of the variance in final accuracy, one at a time: {words.sentence(shares)}.")
    idle = num_at_chance(here, facts.chance_ratio)
    if idle:
        lines.append(
            f"{words.count(idle, 'model')} ended near chance (at most {words.percent(1.5 * facts.chance_ratio, 0)}): "
            "settings that do not train belong to the population and stay in it."
        )
    num_faulty = int((~here.sound_N).sum())
    if num_faulty:
        lines.append(f"{words.count(num_faulty, 'model is', 'models are')} faulty, with epoch and reason below.")
    else:
        lines.append("No model is faulty: every weight of every state is finite.")
    if contents.twins is not None:
        twins = contents.twins.population
        sparsity, accuracy = quantiles(twins.final("sparsity_ratio")), quantiles(twins.final("test_acc"))
        start = quantiles(twins.metrics["test_acc"][:, 0])
        lines.append(
            f"After {words.count(int(twins.epochs_E[-1]), 'epoch')} of sparsification the median twin has lost "
            f"{words.percent(sparsity[2])} of its weights, and median test accuracy went from "
            f"{words.percent(start[2])} to {words.percent(accuracy[2])}."
        )
    return lines


def _settings(here: Population, row: int) -> str:
    varying = here.varying()
    names = [name for name in words.NAMES if name in varying]
    told = [f"{words.NAMES[name].lower()} {words.value(varying[name].tolist()[row])}" for name in names]
    return f" ({', '.join(told)})" if told else ""


def faulty(contents: Contents) -> Section:
    parts, panels = [], []
    for whose in (contents, contents.twins):
        if whose is None:
            continue
        here = whose.population
        rows = np.flatnonzero(~here.sound_N)
        noun = "model" if whose is contents else "twin"
        if not len(rows):
            parts.append(paragraph(f"None of {words.count(here.num_models, noun)} became faulty."))
            continue
        reasons = here.faulty_reasons_N[rows].tolist()
        by_reason = [f"{reasons.count(r)} by {_REASONS[r]}" for r in ("nan", "inf", "parent") if r in reasons]
        parts.append(
            paragraph(
                f"{words.count(len(rows))} of {words.count(here.num_models, noun)}: {words.sentence(by_reason)}. They "
                "are kept, frozen at their faulty epoch, labelled, and have no accuracy from then on."
            )
        )
        epochs = here.faulty_epochs_N[rows].tolist()
        panels.append(faulty_panel(noun, epochs, reasons, int(here.epochs_E[-1])))
        names = sorted(here.varying(), key=list(words.NAMES).index)
        listed: list[Row] = [
            [
                number(str(here.models_N[row])), number(str(here.faulty_epochs_N[row])),
                str(here.faulty_reasons_N[row]),
                *(words.value(here.hyperparameters[name].tolist()[row]) for name in names),
            ]
            for row in rows[:MAX_FAULTY_ROWS]
        ]  # fmt: skip
        more = len(rows) - len(listed)
        caption = f"Faulty {noun}s by index" + (f"; {words.count(more)} more are in the labels" if more else "")
        heads = [noun.capitalize(), "Epoch", "Reason", *(words.NAMES[name] for name in names)]
        parts.append(details(f"List of faulty {noun}s", table(caption, heads, listed)))
    return Section("faulty-models", "Faulty models", "\n".join(parts), tuple(panels), columns=2)


_REASONS = {"nan": "a weight that is not a number", "inf": "an infinite weight", "parent": "a faulty parent"}


def extremes(contents: Contents) -> Section | None:
    here = contents.population
    order = ranked(here)
    if not len(order):
        return None
    count = min(SHOWN_MODELS, len(order))
    best = table(f"The best {words.count(count, 'model')}", *_models_table(here, order[:count]))
    if len(order) <= SHOWN_MODELS:
        return Section("best-and-worst", "Best models", best)
    worst = table(f"The worst {words.count(count, 'model')}", *_models_table(here, order[::-1][:count]))
    return Section("best-and-worst", "Best and worst models", f"{best}\n{worst}")


def _models_table(here: Population, rows: Iterable[int]) -> tuple[list[str], list[Row]]:
    names = [name for name in words.NAMES if name in here.varying()]
    heads = ["Model", "Test", "Gap", *(words.NAMES[name] for name in names), "Seed"]
    lines: list[Row] = [
        [
            number(str(here.models_N[row])), number(words.percent(float(here.final("test_acc")[row]))),
            number(words.points(float(here.final("ggap")[row]))),
            *(words.value(here.hyperparameters[name].tolist()[row]) for name in names), number(str(here.seeds_N[row])),
        ]
        for row in rows
    ]  # fmt: skip
    return heads, lines


def coverage(contents: Contents) -> Section:
    facts, here = contents.facts, contents.population
    cells = set(zip(*(values.tolist() for values in here.hyperparameters.values()), strict=True))
    text = (
        f"{words.count(len(cells))} of {words.count(facts.num_cells, 'cell')} of the grid, "
        f"{extent(contents)}, {words.count(here.num_states, 'model state')}."
    )
    rows: list[Row] = []
    for name, values in facts.axes.items():
        if name not in here.hyperparameters:
            continue
        present = here.hyperparameters[name].tolist()
        for value in values:
            models = present.count(value)
            rows.append(
                [words.NAMES[name], words.value(value), number(words.count(models)), bar(models / here.num_models)]
            )
    splits = [f"{words.count(int((here.splits_N == split).sum()))} {split}" for split in ("train", "val", "test")]
    seeds = len(set(here.seeds_N.tolist()))
    after = paragraph(
        f"{words.count(seeds, 'distinct seed')}. Splits over models, for learning on the zoo: {words.sentence(splits)}."
    )
    after += details("Models by value", table("Models of each value", ["Hyperparameter", "Value", "Models", ""], rows))
    return Section("coverage", "What is here", paragraph(text) + after)


def fidelity(contents: Contents) -> Section | None:
    parts = []
    for whose in (contents, contents.twins):
        if whose is None or not whose.comparisons:
            continue
        rows: list[Row] = []
        for c in whose.comparisons:
            gap_metric = c.figure.metric == "ggap"
            show = words.points if gap_metric else words.percent
            kind = {"agrees": "good", "differs": "bad"}.get(c.verdict, "muted")
            interval = f"{show(c.low)} to {show(c.high)}" if np.isfinite([c.low, c.high]).all() else words.NONE
            rows.append(
                [
                    _METRICS[c.figure.metric], number(str(c.figure.epoch)), _QUANTILES[c.figure.quantile],
                    number(f"{show(c.figure.value)} ± {100 * c.figure.error:.1f}"), number(show(c.found)),
                    number(interval), number(words.points(c.difference)), Cell(c.verdict, kind=kind),
                ]
            )  # fmt: skip
        heads = ["Metric", "Epoch", "Quantile", "Reference", "Here", "95% interval", "Difference", "Verdict"]
        parts.append(table(f"{whose.facts.name} and the reference's figures", heads, rows))
    if not parts:
        return None
    text = (
        "Figures read from the pictures that the reference ships, give or take the reading error. They agree if the "
        "reference's value lies within the interval of ours, which follows from the number of models that are here."
    )
    return Section("fidelity", "Fidelity to the reference", paragraph(text) + "\n".join(parts))


_METRICS = {"test_acc": "Test accuracy", "sparsity_ratio": "Sparsity", "ggap": "Generalisation gap"}
_QUANTILES = {0.25: "25%", 0.5: "median", 0.75: "75%"}


def provenance(contents: Contents) -> Section:
    tables = []
    for whose in (contents, contents.twins):
        if whose is None:
            continue
        facts = whose.facts
        rows: list[tuple[str, str | Cell]] = [
            ("Zoo", code(facts.name)),
            ("Here", f"{extent(whose)}, {words.count(whose.population.num_states, 'model state')}"),
            ("Run", code(facts.run)),
            ("Manifest, SHA-256", code(facts.manifest_sha256)),
            *((f"Engine {i}" if len(facts.engines) > 1 else "Engine", text) for i, text in enumerate(facts.engines, 1)),
            *facts.sources,
        ]
        tables.append(pairs("The zoo" if whose is contents else "Its sparse twins", rows))
    last = int(contents.population.epochs_E[-1])
    example = (
        "import zooforge\n\n"
        f'zoo = zooforge.open_zoo("STORE/zoos/{contents.facts.name}")\n'
        f'weights = zoo.weights(epochs="{max(0, last - 4)}:{last + 1}", split="train")\n'
        "labels = zoo.labels()  # an Arrow table, one row per model and epoch\n"
        f"state_dict = zoo.state_dict({contents.population.models_N[0]}, epoch={last})"
    )
    notes = "".join(paragraph(note) for note in contents.notes)
    reading = f"<h3>Reading it</h3>\n<pre><code>{escape(example)}</code></pre>"
    return Section("provenance", "Provenance", "\n".join(tables) + notes + reading)
