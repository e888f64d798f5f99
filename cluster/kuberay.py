"""Installing KubeRay's operator with its own chart. Pure but for the lookup of `helm`."""

from .helm import program

REPOSITORY = "https://ray-project.github.io/kuberay-helm"
# A head that is being moved to another node must not cost the run: KubeRay's own limit is 300 s.
SETTINGS = ("env[0].name=RAYJOB_STATUS_CHECK_TIMEOUT_SECONDS", "env[0].value='1800'")


def install_commands(context: str | None, namespace: str, version: str) -> list[list[str]]:
    """The commands, in order. CRDs come with the chart at its first install; `helm upgrade` leaves them as they are."""
    command = [
        program(), "upgrade", "--install", "kuberay-operator", "kuberay-operator", "--repo", REPOSITORY,
        "--version", version, "--namespace", namespace, "--create-namespace",
    ]  # fmt: skip
    for setting in SETTINGS:
        name, _, value = setting.partition("=")
        command += ["--set-string", f"{name}={value.strip(chr(39))}"]
    return [[*command, *(["--kube-context", context] if context else [])]]
