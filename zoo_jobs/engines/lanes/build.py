"""Builds the extension next to this file: ``python -m zooforge.zoo_jobs.engines.lanes.build``.

If no C++ compiler is installed, it prints one sentence that says so and exits with status 0, because other engines can
be used.
"""

import argparse
import importlib.util
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
logger = logging.getLogger(__name__)


def compiler() -> str | None:
    """The C++ compiler that would be used: ``$CXX``, else the first of the usual names."""
    names = [os.environ["CXX"]] if os.environ.get("CXX") else ["g++", "c++", "clang++"]
    return next((found for name in names if (found := shutil.which(name))), None)


def build(build_dir: Path, target_dir: Path, sanitize: str = "", jobs: int | None = None) -> Path:
    """Configure and compile in ``build_dir``; put the module into ``target_dir``. Returns its path.

    Raises:
        subprocess.CalledProcessError: cmake or the compiler failed.
    """
    scripts = Path(sys.executable).parent
    path = os.pathsep.join([str(scripts), os.environ.get("PATH", "")])
    environment = {**os.environ, "PATH": path}
    cmake = shutil.which("cmake", path=path) or "cmake"
    configure = [cmake, "-S", str(HERE), "-B", str(build_dir), f"-DPython_EXECUTABLE={sys.executable}"]
    configure += [f"-DLANES_SANITIZE={sanitize}"]
    if shutil.which("ninja", path=path) and not (build_dir / "CMakeCache.txt").exists():
        configure += ["-G", "Ninja"]
    subprocess.run(configure, check=True, env=environment, stdout=subprocess.DEVNULL)
    compile_command = [cmake, "--build", str(build_dir), "--parallel", str(jobs or os.cpu_count() or 1)]
    subprocess.run(compile_command, check=True, env=environment, stdout=sys.stderr)
    built = sorted(build_dir.glob("_lanes*.so"), key=lambda p: p.stat().st_mtime)[-1]
    target_dir.mkdir(parents=True, exist_ok=True)
    target = target_dir / built.name
    staging = target.with_suffix(".new")
    shutil.copy2(built, staging)
    staging.replace(target)  # a running process keeps the file that it has open
    return target


def main() -> int:
    parser = argparse.ArgumentParser(description="build the lanes engine's extension")
    parser.add_argument("--build-dir", type=Path, default=HERE.parents[2] / "build" / "engines" / "lanes")
    parser.add_argument("--target-dir", type=Path, default=HERE)
    parser.add_argument("--sanitize", default="", help="'address;undefined' or 'thread'")
    parser.add_argument("--jobs", type=int)
    options = parser.parse_args()
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    if compiler() is None:
        logger.info("lanes is not built: no C++ compiler found (Debian: apt-get install g++); other engines serve")
        return 0
    if importlib.util.find_spec("nanobind") is None or (
        shutil.which("cmake") is None and not (Path(sys.executable).parent / "cmake").exists()
    ):
        logger.info("lanes is not built: nanobind and cmake are missing (the `native` extra); other engines serve")
        return 0
    try:
        target = build(options.build_dir, options.target_dir, options.sanitize, options.jobs)
    except subprocess.CalledProcessError as error:
        logger.info("lanes is not built: %s failed with status %d", error.cmd[0], error.returncode)
        return 1
    logger.info("lanes is built: %s", target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
