"""The engine's contract: its refusals, its memory prediction, and numbers that never change."""

import hashlib
import json
import logging
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from tests.support.lanes_cases import catalogue_case, run
from tests.support.paths import ROOT
from zooforge.zoo_jobs.engines.contract import OneCycle
from zooforge.zoo_jobs.engines.lanes import LanesEngine, build, engine
from zooforge.zoo_jobs.engines.lanes.engine import VERSION
from zooforge.zoo_jobs.models.resnet18 import ResNet18

GOLDEN = ROOT / "tests" / "golden" / "lanes_trajectories.json"
GOLDEN_CASES = {
    "cnn-s ch1 tanh adam": ("cnn-s ch1", "tanh", "adam", "plain"),
    "cnn-s ch1 gelu adam twins": ("cnn-s ch1", "gelu", "adam", "twin"),
    "cnn-s ch3 sigmoid sgd dropout": ("cnn-s ch3", "sigmoid", "sgd", "dropout"),
    "cnn2 ch1 silu rmsprop": ("cnn2 ch1", "silu", "rmsprop", "plain"),
    "cnn-l ch3 relu sgd": ("cnn-l ch3", "relu", "sgd", "plain"),
    "cnn-l ch3 leaky_relu adam dropout": ("cnn-l ch3", "leaky_relu", "adam", "dropout"),
}


def trajectories() -> dict[str, str]:
    """SHA-256 over the whole state of three models after two epochs, and their sums without those by class."""
    return {name: run(catalogue_case(*of, num_models=3)).digest(classes=False) for name, of in GOLDEN_CASES.items()}


def test_two_epochs_end_in_the_bytes_of_this_numerics_version() -> None:
    golden = json.loads(GOLDEN.read_text())
    assert golden["version"] == VERSION, f"write the golden file again: python -m {__name__}"
    assert trajectories() == golden["sha256"], "the numbers changed: raise VERSION in lanes/engine.py, or undo that"


def test_the_engine_says_why_it_cannot_run_a_program(monkeypatch: pytest.MonkeyPatch) -> None:
    lanes, program = LanesEngine(), catalogue_case("cnn-s ch1", "tanh", "sgd", "plain").program
    assert lanes.refuses(program) is None
    assert lanes.refuses(replace(program, architecture=ResNet18(3, 32, 10))) == "resnet18 is not a layer list"
    assert "schedule" in str(lanes.refuses(replace(program, schedule=OneCycle(100))))
    assert "augmentation" in str(lanes.refuses(replace(program, augment="crop-flip")))
    assert "65536" in str(lanes.refuses(replace(program, batch_size=70_000)))
    monkeypatch.setenv(engine.ISA_VARIABLE, "mmx")
    assert "'mmx'" in str(lanes.refuses(program))
    monkeypatch.setattr(engine, "extension", lambda: None)
    assert "its extension is not here" in str(lanes.refuses(program))


def test_numerics_do_not_name_the_instruction_set(monkeypatch: pytest.MonkeyPatch) -> None:
    program = catalogue_case("cnn-s ch1", "tanh", "sgd", "plain").program
    expected = {"engine": "lanes", "version": VERSION}
    assert LanesEngine().numerics(program) == expected
    monkeypatch.setenv(engine.ISA_VARIABLE, "scalar")
    assert LanesEngine().numerics(program) == expected


def test_an_instruction_set_that_is_not_here_is_an_error_everywhere() -> None:
    program = catalogue_case("cnn-s ch1", "tanh", "sgd", "plain").program
    arguments = engine.program_arguments(program)
    for call in (
        lambda: engine.extension().memory(*arguments, "mmx", 16, 100),
        lambda: engine.extension().peak("mmx", 0.0),
        lambda: engine.extension().noise("mmx", 1, 2, 3, 4, 5, np.zeros(4, np.float32)),
    ):
        with pytest.raises(ValueError, match="instruction set mmx is not available here"):
            call()


def test_a_layer_without_a_kernel_is_refused_by_name() -> None:
    chosen = catalogue_case("cnn-s ch1", "tanh", "sgd", "plain").program
    layers = tuple(
        replace(layer, name="swish") if hasattr(layer, "name") else layer for layer in chosen.architecture.layers
    )
    program = replace(chosen, architecture=replace(chosen.architecture, layers=layers))
    assert "no kernel for Activation(name='swish'" in str(LanesEngine().refuses(program))


def test_a_chunk_is_everything_unless_memory_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = catalogue_case("cnn-l ch3", "tanh", "adam", "plain")
    assert LanesEngine().chunk_models(chosen.program, chosen.data, 128) == 128
    whole = LanesEngine().peak_bytes(chosen.program, chosen.data, 128)
    monkeypatch.setattr(engine, "MEMORY_RATIO", engine.MEMORY_RATIO * 0.6 * whole / _free())
    assert LanesEngine().chunk_models(chosen.program, chosen.data, 128) in (48, 64)
    monkeypatch.setattr(engine, "MEMORY_RATIO", 0.0)
    assert LanesEngine().chunk_models(chosen.program, chosen.data, 128) == 16


def _free() -> float:
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") * engine.MEMORY_RATIO


MEASURE = """
import sys
import numpy as np
from tests.support.lanes_cases import catalogue_case
from tests.support.lanes_images import SINES, learners
from zooforge.zoo_jobs.engines.lanes import LanesEngine
def memory(name):
    return int(next(line for line in open("/proc/self/status") if line.startswith(name)).split()[1]) * 1024
chosen = eval(sys.argv[1])
lanes, state = LanesEngine(), chosen.state()
data = sum(s.images.nbytes for s in (chosen.data.train, chosen.data.val, chosen.data.test))
predicted = lanes.peak_bytes(chosen.program, chosen.data, chosen.num_models) - data
open("/proc/self/clear_refs", "w").write("5")  # the high-water mark starts again
before = memory("VmRSS")
with lanes.open(chosen.program, chosen.hyperparameters, state, chosen.data) as session:
    session.train_epoch(1, np.ones(chosen.num_models, bool))
    copy = session.state()
    print(predicted / (memory("VmHWM") - before))
"""


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="peak memory is read from /proc")
@pytest.mark.parametrize(
    "chosen",
    [
        'catalogue_case("cnn-l ch3", "tanh", "adam", "plain", num_models=1024, train=10)',
        "learners(SINES, num_models=4096, steps=1)",
    ],
    ids=["cnn-l", "image regression"],
)
def test_predicted_memory_is_within_a_fifth_of_the_measured_peak(chosen: str) -> None:
    command = [sys.executable, "-c", MEASURE, chosen]
    result = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    assert 0.8 < float(result.stdout) < 1.2


def test_state_goes_in_and_comes_out_unchanged() -> None:
    chosen = catalogue_case("cnn-s ch1", "tanh", "adam", "twin", num_models=21)
    first = run(chosen, epochs=[1]).state
    with LanesEngine().open(chosen.program, chosen.hyperparameters, first, chosen.data) as session:
        again = session.state()
    assert {name: a.tobytes() for name, a in again.items()} == {name: a.tobytes() for name, a in first.items()}


def test_inactive_groups_are_skipped() -> None:
    chosen = catalogue_case("cnn-s ch1", "tanh", "adam", "plain", num_models=32)
    with LanesEngine().open(chosen.program, chosen.hyperparameters, chosen.state(), chosen.data) as session:
        session.train_epoch(1, np.arange(32) < 16)
        weights = session.state()["weights"]
    assert np.array_equal(weights[16:], chosen.weights[16:])
    assert not np.array_equal(weights[:16], chosen.weights[:16])


def test_without_a_compiler_the_build_says_one_sentence_and_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sys, "argv", ["build"])
    monkeypatch.setattr(build, "compiler", lambda: None)
    with caplog.at_level(logging.INFO):
        assert build.main() == 0
    assert caplog.messages == [
        "lanes is not built: no C++ compiler found (Debian: apt-get install g++); other engines serve"
    ]


def test_arrays_that_do_not_fit_are_refused() -> None:
    chosen = catalogue_case("cnn-s ch1", "tanh", "adam", "plain", num_models=2)
    wrong = replace(chosen.data, train=catalogue_case("cnn-s ch3", "tanh", "adam", "plain").data.train)
    with LanesEngine().open(chosen.program, chosen.hyperparameters, chosen.state(), wrong) as session:
        with pytest.raises(ValueError, match="images do not fit"):
            session.train_epoch(1, np.ones(2, np.bool_))
        with pytest.raises(ValueError, match="only twins"):
            session.sparsity()
    state = {**chosen.state(), "weights": chosen.weights[:, :-1]}
    with pytest.raises(ValueError, match="size of a state field"):
        LanesEngine().open(chosen.program, chosen.hyperparameters, state, chosen.data)


if __name__ == "__main__":
    text = json.dumps({"version": VERSION, "sha256": trajectories()}, indent=2)
    GOLDEN.write_text(text + "\n")
    sys.stdout.write(hashlib.sha256(text.encode()).hexdigest() + "\n")
