"""`make release` signs only checked files, and the CPU engine's source archive is complete."""

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.support.paths import ROOT

SIGN = ROOT / "requirements" / "sign"


@pytest.fixture
def dist(tmp_path: Path) -> Path:
    folder = tmp_path / "dist"
    folder.mkdir()
    (folder / "one.whl").write_bytes(b"wheel")
    sums = subprocess.run(["sha256sum", "one.whl"], cwd=folder, capture_output=True, check=True).stdout
    (folder / "SHA256SUMS").write_bytes(sums)
    return folder


def sign(dist: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", str(SIGN), str(dist)], env={"PATH": os.environ["PATH"], **environment}, capture_output=True, text=True
    )


def cosign(folder: Path) -> str:
    """A PATH with a cosign that writes down how it was called."""
    (folder / "bin").mkdir()
    program = folder / "bin" / "cosign"
    program.write_text('#!/bin/sh\necho "$@" > "$(dirname "$0")/called"\n')
    program.chmod(0o755)
    return f"{program.parent}:{os.environ['PATH']}"


def test_without_cosign_or_a_key_it_says_that_nothing_is_signed(dist: Path, tmp_path: Path) -> None:
    without = sign(dist, PATH="/usr/bin:/bin")
    assert (without.returncode, without.stdout) == (0, "sign: not signed: the command cosign is not in PATH\n")
    keyless = sign(dist, PATH=cosign(tmp_path))
    assert (keyless.returncode, keyless.stdout) == (0, "sign: not signed: COSIGN_KEY names no key\n")
    assert not (tmp_path / "bin" / "called").exists()


def test_the_key_signs_the_checksums_of_files_that_are_right(dist: Path, tmp_path: Path) -> None:
    path = cosign(tmp_path)
    assert sign(dist, PATH=path, COSIGN_KEY="cosign.key").returncode == 0
    called = (tmp_path / "bin" / "called").read_text().split()
    assert called == [
        *("sign-blob", "--yes", "--key", "cosign.key"),
        *("--bundle", f"{dist}/SHA256SUMS.bundle", f"{dist}/SHA256SUMS"),
    ]


def test_a_file_that_changed_is_not_signed(dist: Path, tmp_path: Path) -> None:
    (dist / "one.whl").write_bytes(b"other")
    done = sign(dist, PATH=cosign(tmp_path), COSIGN_KEY="cosign.key")
    assert done.returncode == 1 and "is not the one of SHA256SUMS" in done.stderr
    assert not (tmp_path / "bin" / "called").exists()
    (dist / "SHA256SUMS").unlink()
    assert sign(dist).returncode == 2


@pytest.mark.parametrize("script", ["packages", "release", "sign"])
def test_the_scripts_are_plain_shell(script: str) -> None:
    subprocess.run(["sh", "-n", str(ROOT / "requirements" / script)], check=True)


def test_the_source_archive_of_the_engine_has_all_that_its_build_needs(tmp_path: Path) -> None:
    lanes, tree = ROOT / "zoo_jobs" / "engines" / "lanes", tmp_path / "lanes"
    shutil.copytree(lanes / "native", tree / "native")
    for path in (lanes / "CMakeLists.txt", lanes / "pyproject.toml", ROOT / "LICENSE"):
        shutil.copy(path, tree)
    code = "from scikit_build_core.build import build_sdist; build_sdist('dist')"
    subprocess.run([sys.executable, "-c", code], cwd=tree, check=True, capture_output=True)
    (archive,) = (tree / "dist").glob("zooforge_lanes-*.tar.gz")
    with tarfile.open(archive) as opened:
        held = {name.partition("/")[2] for name in opened.getnames()}
    sources = {f"native/{path.name}" for path in (lanes / "native").iterdir()}
    assert held == {*sources, "CMakeLists.txt", "pyproject.toml", "LICENSE", "PKG-INFO"}
