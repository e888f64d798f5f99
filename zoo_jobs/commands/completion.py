"""`zoo completion`: the script that makes a shell complete the verbs, options and names of `zoo`."""

import click
from click.shell_completion import get_completion_class

SHELLS = {
    "bash": 'put eval "$(zoo completion bash)" into ~/.bashrc.',
    "zsh": 'put eval "$(zoo completion zsh)" into ~/.zshrc, after compinit.',
    "fish": "zoo completion fish > ~/.config/fish/completions/zoo.fish",
}
"""Each shell, and how its users switch completion on."""
_HOW = "\n\n".join(f"{shell}: {how}" for shell, how in SHELLS.items())


@click.command("completion", help=f"Print the script that makes SHELL complete `zoo`.\n\n{_HOW}")
@click.argument("shell", metavar="SHELL", type=click.Choice(list(SHELLS)))
@click.pass_context
def command(context: click.Context, shell: str) -> None:
    made_by = get_completion_class(shell)
    assert made_by is not None  # click has these three
    click.echo(made_by(context.find_root().command, {}, "zoo", "_ZOO_COMPLETE").source())
