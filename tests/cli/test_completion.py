"""`kekctl completion`, in each shell that it has a script for."""

import os
import pty
import select
import subprocess
from pathlib import Path

import pytest

from tests.fixtures.daemon import BIN, clean_environment
from tests.fixtures.debian import debian
from tests.fixtures.kekctl import kekctl
from tests.patience import PATIENCE

COMPLETED = [
    ("config use", "use-context"),
    ("config use-context pr", "prod"),
    ("config delete-context pr", "prod"),
    ("--context pr", "prod"),
    ("help config use", "use-context"),
    ("help undel", "undelete"),
    ("get --ad", "--address"),
    ("list --context pr", "prod"),
    ("audit tail --server", "--server-name"),
    ("config set-context x --ad", "--address"),
]
ZSHRC = """
autoload -Uz compinit && compinit -u
source <(kekctl completion zsh)
bindkey -e
PS1='ready> '
"""
START_OF_LINE = "\x01"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    contexts = tmp_path / "contexts.json"
    contexts.write_text('{"contexts": {"prod": {}}}')
    found = clean_environment() | {"KEKCTL_CONFIG": str(contexts), "HOME": str(tmp_path)}
    return found | {"PATH": f"{BIN}:{found['PATH']}", "TERM": "dumb"}


def run(command: list[str], environment: dict[str, str]) -> str:
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True, timeout=PATIENCE
    )
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize(("words", "completed"), COMPLETED)
def test_script_completes_in_bash(words: str, completed: str, environment: dict[str, str]) -> None:
    script = f"""
source <(kekctl completion bash)
COMP_WORDS=(kekctl {words}) COMP_CWORD={len(words.split())}
_kekctl_completion kekctl
echo "${{COMPREPLY[@]}}"
"""
    assert run(["bash", "-c", script], environment) == f"{completed}\n"


def test_script_completes_in_fish(environment: dict[str, str]) -> None:
    lines = "\n".join(f"complete -C 'kekctl {words}'" for words, _ in COMPLETED)
    script = f"kekctl completion fish | source\n{lines}"
    printed = run([debian("fish", "fish"), "-c", script], environment).splitlines()
    assert [line.split("\t")[0] for line in printed] == [completed for _, completed in COMPLETED]


def test_description_in_fish_is_whole(environment: dict[str, str]) -> None:
    script = "kekctl completion fish | source; complete -C 'kekctl --store'"
    (line,) = run([debian("fish", "fish"), "-c", script], environment).splitlines()
    assert line.startswith("--store\tStore, as named in the daemon's log")


def test_script_completes_in_zsh(tmp_path: Path, environment: dict[str, str]) -> None:
    """Presses the keys in a terminal: zsh completes only there."""
    (tmp_path / ".zshrc").write_text(ZSHRC)
    parent, child = pty.openpty()
    process = subprocess.Popen(
        [debian("zsh", "zsh"), "-i"],
        stdin=child,
        stdout=child,
        stderr=child,
        env=environment | {"ZDOTDIR": str(tmp_path)},
        start_new_session=True,
    )
    os.close(child)
    for words, completed in COMPLETED:
        read_until(parent, "ready> ")
        os.write(parent, f"kekctl {words}\t{START_OF_LINE}print \n".encode())
        started = words.rpartition(" ")[0]
        read_until(parent, " ".join(["\nkekctl", *started.split(), completed]))
    os.close(parent)
    process.wait(timeout=PATIENCE)


def read_until(terminal: int, text: str) -> None:
    output = ""
    while text not in output.replace("\r", ""):
        assert select.select([terminal], [], [], PATIENCE)[0], output
        output += os.read(terminal, 1).decode(errors="replace")


def test_shell_without_a_script_is_refused() -> None:
    assert "'tcsh' is not one of" in kekctl("completion", "tcsh", code=2).stderr
