"""`zoo completion`: the script that makes a shell complete the verbs, options and names of `zoo`."""

import click
from click.shell_completion import get_completion_class

SHELLS = {
    "bash": 'eval "$(zoo completion bash)" in ~/.bashrc',
    "zsh": 'eval "$(zoo completion zsh)" in ~/.zshrc, behind compinit',
    "fish": "zoo completion fish > ~/.config/fish/completions/zoo.fish",
}
"""Each shell, and how its users switch completion on."""


@click.command(
    "completion", help="Print the script that makes SHELL complete `zoo`.\n\n\b\n" + "\n".join(SHELLS.values())
)
@click.argument("shell", type=click.Choice(list(SHELLS)))
@click.pass_context
def command(context: click.Context, shell: str) -> None:
    made_by = get_completion_class(shell)
    assert made_by is not None  # click has these three
    click.echo(made_by(context.find_root().command, {}, "zoo", "_ZOO_COMPLETE").source())
