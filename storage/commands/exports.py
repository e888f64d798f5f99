"""The export formats: one row of ``EXPORT_FORMATS`` each, from which verbs, help and docs/interchange.md follow.

To add a format, write its function in a file of ``storage/interchange`` and add a row here. The function takes a zoo, a
path, one keyword argument per selection and option of its row, and ``progress``; it returns a ``Report``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from ..read.progress import progress_bar
from .options import SELECTION, as_json, print_json, store_option, version_option, zoo_address

if TYPE_CHECKING:
    from ..interchange.folders import Report


@dataclass(frozen=True)
class ExportFormat:
    """One form in which a published zoo leaves a store.

    Attributes:
        function: "module:function" in ``storage/interchange``; imported when the verb runs.
        gives: what is written, as the table of docs/interchange.md says it.
        help: help of the verb.
        selection: parameters of ``SELECTION`` that the function takes.
        options: its other options; their names are the function's parameters.
        target: the path that is written: an argument FOLDER or FILE.
        unit: what ``progress`` counts.
        readers: programs that load the result, and what each of them asserts or assumes.
    """

    verb: str
    function: str
    gives: str
    help: str
    readers: Mapping[str, str]
    selection: tuple[str, ...] = ("epochs", "models", "split", "where", "weight_threshold")
    options: tuple[click.Option, ...] = ()
    target: Literal["folder", "file"] = "folder"
    unit: Literal["states", "bytes"] = "states"

    def command(self) -> click.Command:
        """The verb of ``zoo store``."""
        selection = [SELECTION[name] for name in self.selection]

        @version_option
        @store_option
        @as_json
        def run(zoo: str, version: int | None, store_url: str | None, as_json: bool, **options: Any) -> None:
            self._run(zoo, options.pop(self.target), version, store_url, as_json, options)

        parameters = [click.Argument(["zoo"]), click.Argument([self.target]), *selection, *self.options]
        command = click.command(self.verb, help=f"{self.help}\n\nZOO is STORE/zoos/NAME, or NAME with --store.")(run)
        command.params = [*parameters, *command.params]
        return command

    def _run(
        self, name: str, path: str, version: int | None, store_url: str | None, as_json: bool, options: dict[str, Any]
    ) -> None:
        from ..zoo import open_zoo

        zoo = open_zoo(zoo_address(name, store_url), version)
        module, _, function = self.function.partition(":")
        export = getattr(import_module(f"..interchange.{module}", __package__), function)
        length = sum(ref.bytes for ref in zoo.manifest.refs) if self.unit == "bytes" else 0
        with progress_bar(self.unit, length) as progress:
            report: Report = export(zoo, Path(path), **options, progress=progress)
        if as_json:
            print_json({self.target: path, **report.to_json()})
            return
        click.echo(f"{path}: {report.summary()}")
        for note in report.notes():
            click.echo(note, err=True)


EXPORT_FORMATS = (
    ExportFormat(
        verb="export-raw",
        function="raw.export_tree:export_raw",
        gives="the tree of the reference",
        help="Write ZOO as a tree of the reference into FOLDER; its ModelDatasetBase loads it unchanged.",
        options=(
            click.Option(["--optimizer"], is_flag=True, help="Also write optimizer states; needs the run's store."),
            click.Option(
                ["--indices"],
                type=click.Choice(["plain", "module"]),
                default="plain",
                show_default=True,
                help="Layer numbers: as without dropout layers for all models, or as in each model's torch module.",
            ),
        ),
        readers={
            "`ModelDatasetBase` (ModelZoos/ModelZooDataset)": "imports `torch._six`, which torch removed: give it a "
            "stub. `layer_lst` is `layer` of `index_dict.json`.",
            "`SimCLRDataset` (HSG-AIML/NeurIPS_2022-Generative_Hyper_Representations)": "the same stub, and its noise "
            "arguments.",
            "`ZooDataset` (HSG-AIML/WeightCLIP)": "loads strictly into modules with functional dropout: "
            "`--indices plain`, not `module`.",
            "`DatasetTokens` (HSG-AIML/SANE)": "drops epoch 0 and then fails with IndexError: leave epoch 0 out, e.g. "
            "`--epochs 1:51`.",
        },
    ),
    ExportFormat(
        verb="export-google",
        function="google:export_google",
        gives="one matrix, its labels, its layout",
        help="Write ZOO as weights.npy, metrics.csv.gz and layout.csv, like Google's Small CNN Zoo.",
        options=(
            click.Option(
                ["--final-step"],
                type=click.IntRange(0),
                default=86,
                show_default=True,
                help="Step of the last state of each model, as published readers expect it; 0: steps are epochs.",
            ),
            click.Option(["--splits"], is_flag=True, help="Also write splits.csv, the index file of those readers."),
            click.Option(
                ["--names"],
                type=click.Choice(["short", "all"]),
                default="short",
                show_default=True,
                help="all: all_weights.npy and all_metrics.csv, as Google's notebook expects them.",
            ),
        ),
        readers={
            "`ZooDataset` (AllanYangZhou/nfn, experiments/data_utils.py)": "keeps rows of `step` 86 (the default of "
            "`--final-step`); its index csv is `splits.csv` (`--splits`); finite weights (`--where`); its networks are "
            "three 3 x 3 convolutions 1-16-16-16 with global pooling.",
            "`NFNZooDataset` (mkofinas/neural-graphs, experiments/data_generalization.py)": "as NFN; "
            "`flattening_method=repeat_nodes` for networks with a flatten layer.",
            "`CNNDataset` (jkalogero/scalegmn)": "as neural-graphs, flattening `None` only: no flatten layer.",
            "ProbeGen": "exactly three convolutions 3 x 3, 1-16-16-16, global pooling; pads their inputs by 1, which "
            "the published networks do not.",
            "the notebook of Unterthiner et al. (google-research, dnn_predict_accuracy)": "`--names all`; "
            "`config.init_std` filled, which needs the weights of epoch 0; features per layer for 4,970 weights only.",
        },
    ),
    ExportFormat(
        verb="export-sane",
        function="sane:export_sane",
        gives="token sequences, a file per sample",
        help="Write ZOO as the samples that SANE's PreprocessedSamplingDataset reads, split by split.",
        selection=("epochs", "models", "where", "weight_threshold"),
        options=(
            click.Option(
                ["--tokensize", "token_size"], type=int, default=0, help="Values of a token; 0: the longest channel."
            ),
            click.Option(
                ["--windowsize", "window"], type=int, default=0, help="Tokens of a sample; 0: all of a model."
            ),
            click.Option(["--precision"], type=click.Choice(["16", "32"]), default="32", help="Bits of a value."),
            click.Option(
                ["--standardize/--raw"], default=True, help="Per layer, fitted on the train split; default: yes."
            ),
            click.Option(["--align"], is_flag=True, help="Put hidden units into a canonical order."),
            click.Option(["--dataset-pt"], is_flag=True, help="One dataset.pt of all splits, not a file per sample."),
        ),
        readers={
            "`PreprocessedSamplingDataset` (HSG-AIML/SANE)": "a folder `dataset_torch.SPLIT` with one `sample_N.pt` "
            "per sample.",
            "`AE_trainable` (HSG-AIML/SANE)": "one `dataset.pt` with `trainset`, `valset`, `testset` (`--dataset-pt`), "
            "there instances of its own classes, here dicts of tensors that load with `weights_only=True`: wrap them.",
            "`tokenize_checkpoint`, `tokens_to_checkpoint` (HSG-AIML/SANE)": "tokens are equal both ways with `--raw`.",
        },
    ),
    ExportFormat(
        verb="export-npz",
        function="npz:export_npz",
        gives="one file of NumPy arrays",
        help="Write ZOO as one FILE.npz of arrays: weights, models, epochs, layout, labels.",
        options=(
            click.Option(
                ["--form"],
                type=click.Choice(["matrix", "tensors"]),
                default="matrix",
                show_default=True,
                help="weights [states, values], or an array weights.NAME [states, ...] for each tensor.",
            ),
        ),
        target="file",
        readers={
            "`numpy.load`": "nothing; no array needs `allow_pickle`. `zoo.from_state_dict` takes the arrays of "
            "`--form tensors` without `weights.`."
        },
    ),
    ExportFormat(
        verb="export-safetensors",
        function="safetensors_files:export_safetensors",
        gives="a safetensors file per state, and a table",
        help="Write ZOO as model_MMMMM/epoch_EEE.safetensors and states.csv into FOLDER.",
        options=(
            click.Option(
                ["--names"],
                type=click.Choice(["module", "layout"]),
                default="module",
                show_default=True,
                help="Names of the model's torch module, buffers included, or those of the layout.",
            ),
        ),
        readers={
            "`safetensors.torch.load_file`, then `module.load_state_dict`": "with `--names module` the names of the "
            "module that `zoo.module` gives; `zoo.from_state_dict` takes both names. One state per file: a few "
            "epochs, or many files (`--epochs last`)."
        },
    ),
    ExportFormat(
        verb="zip",
        function="zip:zip_zoo",
        gives="the zoo in one file",
        help="Write ZOO as one zip FILE; extracted into DIR it opens as DIR/zoos/NAME.",
        selection=(),
        target="file",
        unit="bytes",
        readers={"`open_zoo`": "extracted, or where it lies as `FILE.zip/zoos/NAME`."},
    ),
    ExportFormat(
        verb="export-hub",
        function="hub_folder:prepare_hub",
        gives="a data set for the Hugging Face Hub",
        help="Write ZOO as a data set for the Hugging Face Hub, offline: card, Croissant metadata, tables, objects.",
        selection=(),
        options=(
            click.Option(
                ["--repo", "repository"], metavar="OWNER/NAME", help="Name that the data set will have, for its card."
            ),
        ),
        unit="bytes",
        readers={
            '`open_zoo("hf://OWNER/NAME")`': "a private or gated data set needs `HF_TOKEN`.",
            "`mlcroissant` (tried: 1.1.1)": "recommends `datePublished` and `version`, which you add by hand.",
        },
    ),
)

EXPORT_VERBS = tuple(row.command() for row in EXPORT_FORMATS)


BEGIN = "<!-- exports: written by python -m zooforge.storage.commands.exports -->\n"
END = "<!-- end of exports -->\n"


def documented(page: str) -> str:
    """docs/interchange.md with its table of formats, their readers and what these assert, written again."""
    lines = ["| command | writes | read by | which asserts or assumes |", "| --- | --- | --- | --- |"]
    for row in EXPORT_FORMATS:
        path = {"folder": "DIR", "file": "FILE"}[row.target]
        first = [f"`zoo store {row.verb} ZOO {path}`", row.gives]
        for reader, asserts in row.readers.items():
            lines.append(f"| {' | '.join([*first, reader, asserts])} |")
            first = ["", ""]
    before, _, rest = page.partition(BEGIN)
    return before + BEGIN + "\n".join(lines) + "\n" + END + rest.partition(END)[2]


if __name__ == "__main__":
    _page = Path("docs/interchange.md")  # run from the root of a clone
    _page.write_text(documented(_page.read_text()))
