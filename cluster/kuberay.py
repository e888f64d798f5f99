"""The commands that install KubeRay's operator with its own chart."""

from .helm import program

REPOSITORY = "https://ray-project.github.io/kuberay-helm"
# By default KubeRay fails a run whose head does not answer for 300 s, which is less than moving a head to another node.
SETTINGS = ("env[0].name=RAYJOB_STATUS_CHECK_TIMEOUT_SECONDS", "env[0].value='1800'")


def install_commands(context: str | None, namespace: str, version: str) -> list[list[str]]:
    """The commands, in order. The chart installs the CRDs the first time; `helm upgrade` never changes CRDs."""
    command = [
        program(), "upgrade", "--install", "kuberay-operator", "kuberay-operator", "--repo", REPOSITORY,
        "--version", version, "--namespace", namespace, "--create-namespace",
    ]  # fmt: skip
    for setting in SETTINGS:
        name, _, value = setting.partition("=")
        command += ["--set-string", f"{name}={value.strip(chr(39))}"]
    return [[*command, *(["--kube-context", context] if context else [])]]
