"""The shell completes verbs without importing them, options, and names of the catalogue."""

import os
import subprocess
import sys

import pytest

from zooforge.zoo_jobs.cli import VERBS, main


def completed(line: str) -> tuple[list[str], str]:
    """Return bash's offers for the last word of ``line``; and standard error followed by 1 if NumPy was imported."""
    words = line.split(" ")
    asked = {"COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1), "_ZOO_COMPLETE": "bash_complete"}
    code = "import sys, zooforge, atexit; atexit.register(lambda: print(int('numpy' in sys.modules))); zooforge.main()"
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, **asked}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    *offers, numpy = done.stdout.splitlines()
    return [offer.removeprefix("plain,") for offer in offers if offer], f"{done.stderr}{numpy}"


def test_verbs_are_offered_without_importing_them() -> None:
    assert completed("zoo pu") == (["publish"], "0")
    assert completed("zoo ") == (list(VERBS), "0")


def test_names_and_options_are_offered() -> None:
    assert completed("zoo run mnist5k-c") == (["mnist5k-cnn-s"], "1")
    assert "--epochs" in completed("zoo train mnist5k-cnn-s --e")[0]


def test_a_line_that_makes_no_sense_is_met_with_silence() -> None:
    assert completed("zoo publsh mnist5") == ([], "0")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_asks_zoo(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert f"_ZOO_COMPLETE={shell}_complete" in script and "zoo" in script


def test_another_shell_is_refused_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "tcsh"]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and "'bash', 'zsh', 'fish'" in message
