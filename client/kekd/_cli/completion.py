"""`kekctl completion`: prints a script that completes commands and options in a shell."""

import click
from click.shell_completion import get_completion_class

from kekd._cli.common import main
from kekd._cli.output.terminal import say


@main.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print a completion script for SHELL.

    \b
    bash: add to ~/.bashrc:  source <(kekctl completion bash)
    zsh:  add to ~/.zshrc, after compinit:  source <(kekctl completion zsh)
    fish: kekctl completion fish > ~/.config/fish/completions/kekctl.fish
    """  # noqa: D301  (click ends a paragraph's wrapping at the backslash)
    make_script = get_completion_class(shell)
    if make_script is not None:
        script = make_script(main, {}, "kekctl", "_KEKCTL_COMPLETE").source()
        # Click's script for fish would end each description at its first comma.
        script = script.replace('string split ","', 'string split --max 1 ","')
        say(*script.split("\n"))
