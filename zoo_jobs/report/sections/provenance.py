"""Provenance: identities of the zoo, and how to read it."""

from .. import words
from ..blocks import Cell, Code, Paragraph, Row, Section, Table
from ..contents import Contents, extent


def section(contents: Contents) -> Section:
    tables = []
    for zoo, caption in ((contents, "The zoo"), (contents.twins, "Its sparse twins")):
        if zoo is None:
            continue
        facts = zoo.facts
        rows: list[tuple[str, Cell]] = [
            ("Zoo", Cell(facts.name, code=True)),
            ("Here", Cell(f"{extent(zoo)}, {words.count(zoo.population.num_states, 'model state')}", wrap=True)),
            ("Run", Cell(facts.run, code=True)),
            ("Manifest, SHA-256", Cell(facts.manifest_sha256, code=True)),
        ]
        engines = [
            (f"Engine {i}" if len(facts.engines) > 1 else "Engine", text) for i, text in enumerate(facts.engines, 1)
        ]
        rows += [(name, Cell(text, wrap=True)) for name, text in (*engines, *facts.sources)]
        as_rows: list[Row] = list(rows)
        tables.append(Table(caption, (), as_rows))
    last = int(contents.population.epochs_E[-1])
    example = (
        "import zooforge\n\n"
        f'zoo = zooforge.open_zoo("STORE/zoos/{contents.facts.name}")\n'
        f'weights = zoo.weights(epochs="{max(0, last - 4)}:{last + 1}", split="train")\n'
        "labels = zoo.labels()  # an Arrow table, one row per model and epoch\n"
        f"state_dict = zoo.state_dict({contents.population.models_N[0]}, epoch={last})"
    )
    notes = [Paragraph(note) for note in contents.notes]
    return Section("provenance", "Provenance", [*tables, *notes, Code("Reading it", example)])
