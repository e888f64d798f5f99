"""Writes the software bill of materials of this environment (CycloneDX): ``python -m zooforge.cluster.sbom``.

It runs in the image or in a clone. It is written by hand because it lists Debian packages too, and because the
package cyclonedx-bom would bring about twenty more packages into the image that it describes.
"""

import json
import shutil
import subprocess
import sys
from importlib import metadata
from typing import Any


def components() -> list[dict[str, Any]]:
    """Python distributions and, where there is dpkg, Debian packages; sorted by their package URL."""
    packages = [
        _component(f"pkg:pypi/{dist.name.lower()}@{dist.version}", dist.name, dist.version)
        for dist in metadata.distributions()
    ]
    if dpkg := shutil.which("dpkg-query"):
        text = subprocess.run(
            [dpkg, "-W", "-f=${Package} ${Version}\n"], capture_output=True, text=True, check=True
        ).stdout
        for line in text.splitlines():
            name, version = line.split()
            packages.append(_component(f"pkg:deb/debian/{name}@{version}", name, version))
    return sorted({one["purl"]: one for one in packages}.values(), key=lambda one: one["purl"])


def _component(purl: str, name: str, version: str) -> dict[str, Any]:
    return {"type": "library", "name": name, "version": version, "purl": purl}


if __name__ == "__main__":
    bom = {"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1, "components": components()}
    sys.stdout.write(json.dumps(bom, indent=1) + "\n")
