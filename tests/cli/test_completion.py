"""`kekctl completion`, in each shell that it has a script for."""

import json
import os
import pty
import select
import subprocess
from pathlib import Path

import pytest

import kekd
from tests.fixtures.daemon import BIN, StartDaemon, clean_environment
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


def complete_in_bash(words: str, environment: dict[str, str]) -> str:
    script = f"""
source <(kekctl completion bash)
COMP_WORDS=(kekctl {words}) COMP_CWORD={len(words.split())}
_kekctl_completion kekctl
echo "${{COMPREPLY[@]}}"
"""
    return run(["bash", "-c", script], environment).strip()


@pytest.mark.parametrize(("words", "completed"), COMPLETED)
def test_script_completes_in_bash(words: str, completed: str, environment: dict[str, str]) -> None:
    assert complete_in_bash(words, environment) == completed


@pytest.mark.parametrize("command", ["get", "get b", "push", "history", "rotate --slot s", "hold"])
def test_names_of_indexes_are_completed_in_bash(
    command: str, environment: dict[str, str], client: kekd.Client
) -> None:
    for name in ("tenant-a/1", "tenant-a/2", "tenant-b"):
        client.create_index_kms(None, name, kekd.KMSBlob(provider="none"))
    environment["KEKD_ADDRESS"] = client.address
    assert complete_in_bash(f"{command} tenant-a", environment) == "tenant-a/1 tenant-a/2"
    assert complete_in_bash(f"{command} other", environment) == ""


def test_name_for_a_new_index_is_not_completed(
    environment: dict[str, str], client: kekd.Client
) -> None:
    client.create_index_kms(None, "index", kekd.KMSBlob(provider="none"))
    environment["KEKD_ADDRESS"] = client.address
    assert complete_in_bash("create ind", environment) == ""


def test_names_are_those_of_the_context_and_the_store(
    environment: dict[str, str], start_daemon: StartDaemon, tmp_path: Path
) -> None:
    daemon = start_daemon("--memory", "--disk", str(tmp_path / "keystore"))
    stores = {"memory": "memory", "disk": f"disk:{tmp_path}/keystore"}
    contexts = {"address": daemon.address}
    Path(environment["KEKCTL_CONFIG"]).write_text(json.dumps({"contexts": {"prod": contexts}}))
    with kekd.Client(daemon.address) as client:
        for name, store in stores.items():
            location = kekd.StorageConfig.named(store)
            client.create_index_kms(location, f"in-{name}", kekd.KMSBlob(provider="none"))
    for name, store in stores.items():
        words = f"--context prod get --store {store} in"
        assert complete_in_bash(words, environment) == f"in-{name}"
        assert (
            complete_in_bash(f"--store {store} --context prod get in", environment) == f"in-{name}"
        )


def test_names_that_a_shell_would_interpret_are_not_completed(
    environment: dict[str, str], client: kekd.Client
) -> None:
    for name in (
        "a$(touch x)",
        "a b",
        "a;b",
        "a'b",
        "a\nb",
        "a*",
        "a\x1b[31m",
        "a-\u20ac",
        "a-\xe9",
    ):
        client.create_index_kms(None, name, kekd.KMSBlob(provider="none"))
    environment["KEKD_ADDRESS"] = client.address
    assert complete_in_bash("get a", environment) == "a-\xe9"


def test_at_most_100_names_are_completed(environment: dict[str, str], client: kekd.Client) -> None:
    for number in range(101):
        client.create_index_kms(None, f"i{number}", kekd.KMSBlob(provider="none"))
    environment["KEKD_ADDRESS"] = client.address
    assert len(complete_in_bash("get i", environment).split()) == 100


@pytest.mark.parametrize(
    "variables",
    [
        {"KEKD_ADDRESS": "unix:/nowhere/kekd.sock"},
        {"KEKD_ADDRESS": "kekd.invalid:7535"},
        {"KEKD_ADDRESS": "no address"},
        {"KEKD_ADDRESS": "kekd.example:7535", "KEKD_CA": __file__},
        {"KEKCTL_CONFIG": "/dev/tty"},
    ],
)
def test_completion_of_names_is_silent_if_it_fails(
    environment: dict[str, str], variables: dict[str, str]
) -> None:
    assert complete_in_bash("get a", environment | variables) == ""


def test_caller_without_the_right_to_list_gets_no_names(
    environment: dict[str, str], start_daemon: StartDaemon
) -> None:
    rule = {"name": "r", "identities": "*", "indexes": "a", "methods": ["create", "read"]}
    daemon = start_daemon("--memory", config={"policy": [rule]})
    with kekd.Client(daemon.address) as client:
        client.create_index_kms(None, "a", kekd.KMSBlob(provider="none"))
    assert complete_in_bash("get a", environment | {"KEKD_ADDRESS": daemon.address}) == ""


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
