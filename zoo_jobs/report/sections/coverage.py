"""Coverage: the part of the grid, the models and the splits that the version has."""

from .. import words
from ..blocks import Block, Cell, Details, Paragraph, Row, Section, Table, number
from ..contents import Contents, extent
from ..statistics import MOST_VALUES, levels


def section(contents: Contents) -> Section:
    facts, population = contents.facts, contents.population
    cells = set(zip(*(values.tolist() for values in population.hyperparameters.values()), strict=True))
    part = f"{words.count(len(cells))} of {words.count(facts.num_cells, 'cell')} of the grid, "
    if facts.kind == "drawn":
        part = "Hyperparameters are drawn for every model: "
    text = f"{part}{extent(contents)}, {words.count(population.num_states, 'model state')}."
    rows: list[Row] = []
    for name, values in facts.axes.items():
        if name not in population.hyperparameters:
            continue
        present = levels(population.hyperparameters[name])
        for value in values if len(values) <= MOST_VALUES else present:
            models = int(present[value].sum()) if value in present else 0
            bar = Cell(bar=models / population.num_models)
            rows.append([words.name(name), words.value(value), number(words.count(models)), bar])
    splits = [f"{words.count(int((population.splits_N == split).sum()))} {split}" for split in ("train", "val", "test")]
    seeds = words.count(len(set(population.seeds_N.tolist())), "distinct seed")
    table = Table("Models of each value", ["Hyperparameter", "Value", "Models", ""], rows)
    after: list[Block] = [
        Paragraph(f"{seeds}. Splits over models, for learning on the zoo: {words.sentence(splits)}."),
        Details("Models by value", [table]),
    ]
    return Section("coverage", "What is here", [Paragraph(text), *after])
