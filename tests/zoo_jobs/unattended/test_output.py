"""A driver that prints endlessly does not fill the disk."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from zooforge.zoo_jobs.unattended.output import CopyingStream, output_copied, rotate

PRINTS = """
import sys
from zooforge.zoo_jobs.unattended import output
with output.output_copied({}) as stderr:
    stderr._most_bytes = sys.stdout._most_bytes = 100_000
    for number in range(20_000):
        print(f"line {number:06d} " + 50 * "x")
        print(f"error {number:06d} " + 50 * "y", file=sys.stderr)
"""


def test_the_output_of_a_job_stays_within_two_files_and_its_end_is_there(tmp_path: Path) -> None:
    """Start a job as Ray does: stdout and stderr go to one file that is opened for appending."""
    log = tmp_path / "job-driver-zoo-1.log"
    with log.open("a") as file:
        subprocess.run([sys.executable, "-c", PRINTS], stdout=file, stderr=subprocess.STDOUT, check=True)
    sizes = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert set(sizes) == {log.name, f"{log.name}.1"}
    assert max(sizes.values()) < 100_000 + 200
    assert "error 019999" in log.read_text().splitlines()[-1]
    assert "\0" not in log.read_text()
    kept = (tmp_path / f"{log.name}.1").read_text() + log.read_text()
    numbers = [int(line.split()[1]) for line in kept.splitlines()]
    assert numbers == sorted(numbers)
    assert set(numbers) == set(range(numbers[0], 20_000))


def test_an_output_that_is_not_a_file_is_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    with output_copied({}) as stderr:
        sys.stderr.write("one\n\n")
        print("two")
    assert isinstance(stderr, CopyingStream)
    assert stderr.last_line == "one"
    assert capsys.readouterr() == ("two\n", "one\n\n")
    reader, writer = os.pipe()
    assert not rotate(writer, -1)
    os.close(reader)
    os.close(writer)
