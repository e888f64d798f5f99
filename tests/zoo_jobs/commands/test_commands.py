"""`zoo list|show|plan|diff`: output, refusals, and that they import no heavy packages."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.support.made_runs import MadeRun
from tests.support.made_runs import parent as made_zoo
from tests.support.paths import ROOT
from zooforge.storage.runs.run_files import end_attempt
from zooforge.storage.stores.open import open_store
from zooforge.zoo_jobs.catalogue import entries
from zooforge.zoo_jobs.cli import main
from zooforge.zoo_jobs.commands import diff, list_, plan, show
from zooforge.zoo_jobs.errors import InputError
from zooforge.zoo_jobs.quantities import dollars, duration, flop, size
from zooforge.zoo_jobs.spec.grid import rows
from zooforge.zoo_jobs.spec.reference_seeds import imported_seeds, with_imported_seeds


def run(command: Any, *arguments: str) -> Result:
    result = CliRunner().invoke(command, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result


def run_json(command: Any, *arguments: str) -> Any:
    result = CliRunner().invoke(command, [*arguments, "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.strip().splitlines()
    assert len(lines) == 1
    return lines[0]


@pytest.mark.slower
def test_the_plotting_backend_of_a_notebook_does_not_matter(tmp_path: Path) -> None:
    arguments = ["report", "digits-example", "--store", str(ROOT / "storage/example"), "--out", str(tmp_path)]
    code = f"import sys; from zooforge.zoo_jobs.cli import main; sys.exit(main({arguments}))"
    subprocess.run(
        [sys.executable, "-c", code], check=True, env=os.environ | {"MPLBACKEND": "module://not_there.inline"}
    )
    assert (tmp_path / "index.html").is_file()


def test_list_names_every_zoo_and_explains_the_kinds() -> None:
    output = run(list_.command).stdout
    for name in entries.names():
        assert name in output
    for kind in ("seed ", "hyp-fixed ", "hyp-random "):
        assert f"\n{kind}" in output
    assert "27 zoos of the reference: 50,360 models, 2,588,360 states" in output


def test_list_json_has_the_keys_that_scripts_rely_on() -> None:
    output = run_json(list_.command)
    assert {"name", "dataset", "architecture", "num_models", "num_states", "num_epochs"} <= set(output[0])
    assert sum(z["num_models"] for z in output if z["origin"] == "reference") == 50_360


PLAN_KEYS = {
    "zoo", "run", "num_models", "num_units", "num_steps", "num_flop", "seconds", "peak_bytes", "final_bytes",
    "num_objects", "dollars",
}  # fmt: skip


def test_plan_json_has_the_keys_that_scripts_rely_on_and_plans_what_was_asked() -> None:
    (actual,) = run_json(plan.command, "mnist5k-cnn-s", "--models", "0:32", "--epochs", "6")
    assert set(actual) >= PLAN_KEYS
    assert (actual["num_models"], actual["num_units"], actual["num_steps"]) == (32, 8, 32 * 6 * 400)
    everything = run_json(plan.command, "all")
    assert [z["zoo"] for z in everything] == list(entries.names())


def test_plan_echoes_what_was_resolved_on_stderr() -> None:
    result = run(plan.command, "tune_zoo_mnist_uniform", "--models", "10:", "--epochs", "3")
    assert "mnist-cnn-s-seed: models 10:1,000 of 1,000, epochs 0 to 3, run " in result.stderr
    assert "990 models, 3 epochs, 2,464 parameters each" in result.stdout


def test_plan_ranks_machines_cheapest_first() -> None:
    output = run_json(plan.command, "mnist5k-cnn-s", "--on", "h200-141g,epyc-zen4-2:3,epyc-zen4-2")
    assert [z["machine"] for z in output] == ["epyc-zen4-2", "epyc-zen4-2:3", "h200-141g"]
    cheaper, dearer, unmeasured = (z["dollars"] for z in output)
    assert cheaper < dearer  # the third slot costs more than it saves
    assert unmeasured is None
    text = run(plan.command, "mnist5k-cnn-s", "cifar10-resnet18-seed").stdout
    assert "not measured" in text
    assert "2 zoos" in text


def test_plan_marks_what_it_has_estimated() -> None:
    one = run(plan.command, "cifar10-resnet18-seed", "--on", "h200-141g").stdout
    assert "estimated, not measured: " in one and "at an assumed 60% of 67 TFLOP/s: $" in one
    several = run(plan.command, "cifar10-resnet18-seed", "cifar10-resnet18-seed-bf16", "--on", "h200-141g").stdout
    assert "0 of 2 zoos measured" in several and "2 estimated by an assumed share of the peak" in several
    assert all("~" in line for line in several.splitlines()[1:4])


def test_plan_of_a_changed_spec_is_another_run() -> None:
    (plain,) = run_json(plan.command, "mnist5k-cnn-s")
    (changed,) = run_json(plan.command, "mnist5k-cnn-s", "--set", "batch_size=20", "--name", "my-zoo")
    assert changed["zoo"] == "my-zoo"
    assert changed["run"] != plain["run"]
    assert changed["num_steps"] == plain["num_steps"] // 2


def test_plan_with_twins_plans_the_same_as_run() -> None:
    zoo, twins = run_json(plan.command, "mnist5k-cnn-s", "--epochs", "6", "--twins", "--twin-epochs", "4")
    assert (zoo["zoo"], zoo["num_epochs"]) == ("mnist5k-cnn-s", 6)
    assert (twins["zoo"], twins["num_epochs"]) == ("mnist5k-cnn-s-vd-e006", 4)
    assert len(run_json(plan.command, "cifar10-resnet18-seed", "--twins")) == 1


def test_plan_of_twins_is_made_by_their_name() -> None:
    (actual,) = run_json(plan.command, "mnist5k-cnn-s-vd-e006", "--models", "0:32", "--epochs", "5")
    assert (actual["zoo"], actual["num_models"], actual["num_epochs"]) == ("mnist5k-cnn-s-vd-e006", 32, 5)
    (derived,) = run_json(plan.command, "mnist5k-cnn-s-vd", "--set", "batch_size=20", "--name", "my-zoo")
    assert derived["zoo"] == "my-zoo-vd"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["plan", "mnist-cnn-s-sed"], "did you mean 'mnist-cnn-s-seed'"),
        (["plan", "mnist5k-cnn-s", "--models", "90:10"], "--models 90:10 is empty"),
        (["plan", "mnist5k-cnn-s", "--models", "0:99999"], "0:2560"),
        (["plan", "mnist5k-cnn-s", "--epochs", "-1"], "0 or more"),
        (["plan", "mnist5k-cnn-s", "--set", "batch_size=20"], "--name"),
        (["plan", "mnist5k-cnn-s", "--name", "my-zoo"], "belongs to --set"),
        (["plan", "mnist5k-cnn-s", "--set", "batchsize=20", "--name", "my-zoo"], "did you mean 'batch_size'"),
        (["plan", "mnist5k-cnn-s", "--set", "batch_size=0", "--name", "my-zoo"], "greater than 0"),
        (["plan", "all", "--set", "batch_size=20", "--name", "my-zoo"], "one zoo"),
        (["plan", "mnist5k-cnn-s", "--on", "h200-141"], "did you mean 'h200-141g'"),
        (["plan", "mnist5k-cnn-s", "--engine", "lane"], "did you mean 'lanes'"),
        (["plan", "mnist5k-cnn-s", "--epochs", "six"], "six"),
        (["plan", "mnist5k-cnn-s", "--twin-epochs", "6"], "--twins"),
        (["plan"], "Missing argument"),
        (["show", "none.yaml"], "none.yaml: No such file"),
        (["show", "mnist5k-cnn-s-vd", "--yaml"], "twins are described by their parent"),
        (["diff", "mnist5k-cnn-s", "zzz"], "unknown zoo 'zzz'"),
        (["plann"], "did you mean `zoo plan`"),
    ],
)
def test_bad_input_is_one_line_on_stderr_and_exit_2(
    capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert said in refused(capsys, *arguments)


def test_an_invalid_file_is_refused_in_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    text = (entries.FOLDER / "mnist5k-cnn-s.yaml").read_text()
    path.write_text(text.replace("num_epochs: 50", "num_epoch: 50"))
    said = refused(capsys, "plan", str(path))
    assert "mine.yaml: unknown field 'num_epoch'; did you mean 'num_epochs'" in said


def test_show_answers_the_usual_questions_about_every_zoo() -> None:
    for name in entries.names():
        output = run(show.command, name).stdout
        spec = entries.load(name)
        for words in (spec.run_id, spec.description, spec.dataset, spec.architecture_name, *spec.conflicts):
            assert words in output
    fixed = run(show.command, "mnist-cnn-s-hyp-fixed").stdout
    assert "start from the same weights" in fixed


def test_show_prints_rows_and_json() -> None:
    output = run(show.command, "mnist5k-cnn-s", "--models", "8:10").stdout.splitlines()
    assert [line.split()[0] for line in output] == ["index", "8", "9"]
    actual = run_json(show.command, "mnist5k-cnn-s", "--models", "8:9")
    assert actual["run"] == entries.load("mnist5k-cnn-s").run_id
    assert actual["models"][0]["digest"] == rows(entries.load("mnist5k-cnn-s"))[8].digest


@pytest.mark.parametrize("name", entries.names())
def test_yaml_that_show_prints_is_the_same_zoo(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"{name}.yaml"
    path.write_text(run(show.command, name, "--yaml").stdout)
    assert entries.load(str(path)) == entries.load(name)


def test_diff_names_fields_and_counts_rows(tmp_path: Path) -> None:
    output = run_json(diff.command, "mnist-cnn-s-hyp-fixed", "mnist5k-cnn-s")
    assert output["fields"]["split.train"] == {"a": 50_000, "b": 4_000}
    assert output["models"] == {"equal": 2560, "changed": 0, "only_a": 0, "only_b": 0}
    assert output["same_run"] is False
    path = tmp_path / "longer.yaml"
    path.write_text((entries.FOLDER / "mnist5k-cnn-s.yaml").read_text() + "extend: [{activation: [silu]}]\n")
    text = run(diff.command, "mnist5k-cnn-s", str(path)).stdout
    assert "the same run" in text
    assert "2,560 equal, 0 with another row, 0 only in mnist5k-cnn-s, 640 only in" in text


def write_tree(tree: Path, count: int) -> None:
    spec = entries.load("cifar10-cnn-s-hyp-random")
    for row in rows(spec)[:count]:
        folder = tree / f"NN_tune_trainable_abcde_{row.index:05d}_{row.index}_model::dropout=0.0_2022-06-01_00-00-00"
        folder.mkdir()
        params = {
            "model::nlin": row.activation, "model::dropout": 0 if row.dropout_ratio == 0 else 0.5,
            "model::init_type": row.initializer, "optim::optimizer": row.optimizer, "optim::lr": row.learning_rate,
            "optim::wd": row.weight_decay, "seed": 7 * row.index + 1, "cuda": False,
        }  # fmt: skip
        (folder / "params.json").write_text(json.dumps(params))
    (tree / ".ipynb_checkpoints").mkdir()
    (tree / "config.json").write_text("{}")


def test_seeds_of_a_published_tree_are_taken_where_its_grid_is_ours(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = entries.load("cifar10-cnn-s-hyp-random")
    write_tree(tmp_path, 1280)
    assert imported_seeds(spec, tmp_path) == tuple(7 * index + 1 for index in range(1280))
    imported = with_imported_seeds(spec, tmp_path, "orig")
    assert imported.run_id != spec.run_id
    out = tmp_path / "orig.yaml"
    text = run(show.command, spec.name, "--import-seeds", str(tmp_path), "--name", "orig").stdout
    out.write_text(text)
    assert entries.load(str(out)) == imported
    assert "name it" in refused(capsys, "show", spec.name, "--import-seeds", str(tmp_path))


def test_a_tree_of_another_grid_or_with_holes_is_refused(tmp_path: Path) -> None:
    spec = entries.load("cifar10-cnn-s-hyp-random")
    write_tree(tmp_path, 5)
    with pytest.raises(InputError, match="1275 of 1280 trials are missing, the first is 5"):
        imported_seeds(spec, tmp_path)
    first = next(path for path in sorted(tmp_path.iterdir()) if path.name.startswith("NN_"))
    params = json.loads((first / "params.json").read_text())
    for change, said in (
        ({"optim::wd": 0.5}, "optim::wd is 0.5, model 0 of the grid has 0.01"),
        ({"seed": "x"}, "seed is 'x'"),
    ):
        (first / "params.json").write_text(json.dumps(params | change))
        with pytest.raises(InputError, match=said):
            imported_seeds(spec, tmp_path)
    for text, said in (("[1]", "not a JSON object"), ("{", "not JSON")):
        (first / "params.json").write_text(text)
        with pytest.raises(InputError, match=said):
            imported_seeds(spec, tmp_path)
    with pytest.raises(InputError, match="expected the folder"):
        imported_seeds(spec, tmp_path / "none")
    with pytest.raises(InputError, match="only a zoo of random seeds"):
        imported_seeds(entries.load("mnist-cnn-s-seed"), tmp_path)


def test_commands_of_the_catalogue_import_no_torch_ray_or_boto3() -> None:
    code = (
        "import json, sys; from zooforge.zoo_jobs.cli import main\n"
        "status = main(['plan', 'all'])\n"
        "heavy = {'torch', 'ray', 'boto3', 'kubernetes', 'prometheus_client', 'pyarrow'} & set(sys.modules)\n"
        "sys.stderr.write(json.dumps((status, sorted(heavy))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stderr) == [0, []]
    assert "83,824" in done.stdout


def test_numbers_are_written_for_people() -> None:
    assert [duration(s) for s in (None, 0.5, 41, 600, 7200 * 4, 86400 * 3)] == [
        "not measured", "0.5 s", "41 s", "10 min", "8 h", "3 d",
    ]  # fmt: skip
    assert [size(n) for n in (512, 2048, 3 * 2**30, 2**41)] == ["512 B", "2 KiB", "3 GiB", "2 TiB"]
    assert [flop(n) for n in (999, 2.72e15, 99.7e18, 5e21)] == ["999 FLOP", "2.7 PFLOP", "100 EFLOP", "5,000 EFLOP"]
    assert [dollars(d) for d in (None, 0.001, 0.5, 1234.5)] == ["not known", "under $0.01", "$0.50", "$1,234"]


def test_diff_of_two_files_with_one_name_names_the_files(tmp_path: Path) -> None:
    text = run(show.command, "mnist5k-cnn-s", "--yaml").stdout
    for folder, seeds in (("a", "1:11"), ("b", "1:5")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "zoo.yaml").write_text(re.sub("seeds: .*", f"seeds: '{seeds}'", text))
    first, second = str(tmp_path / "a" / "zoo.yaml"), str(tmp_path / "b" / "zoo.yaml")
    last = run(diff.command, first, second).stdout.splitlines()[-1]
    assert f"only in {first}," in last and last.endswith(f"only in {second}")


def test_a_plan_with_a_store_says_what_remains(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    made = MadeRun(store, made_zoo(), models=(0, 4), epochs=2)
    for epoch in (0, 1):
        made.commit((0, 1, 2, 3), epoch)
    end = {"state": "stopped", "engine": "lanes", "factor": 2.0, "factor_seconds": 700.0}
    end_attempt(store, made.zoo.run_id, made.attempt, end)
    options = ["--models", "0:8", "--epochs", "2", "--store", str(tmp_path / "store")]
    (row,) = run_json(plan.command, made.zoo.name, *options)
    rest = row["remaining"]
    assert (row["num_states"], rest["num_states"], rest["factor"]) == (24, 16, 2.0)
    assert rest["range_seconds"] == [rest["seconds"], rest["seconds"]]
    lines = run(plan.command, made.zoo.name, *options).stdout.splitlines()
    assert f"{made.zoo.name}: 8 of 24 states are in the store; the rest takes" in lines[-1]
    assert "2 times the rate table, as the attempt before measured over 12 min of training" in lines[-1]
    assert (
        "nothing remains" in run(plan.command, made.zoo.name, "--models", "0:4", "--epochs", "1", *options[4:]).stdout
    )
