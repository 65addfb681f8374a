"""`kekctl config`, and what contexts select."""

import json
from functools import partial
from pathlib import Path

import pytest
import yaml

import kekd
from tests.fixtures.daemon import Daemon, StartDaemon
from tests.fixtures.kekctl import Kekctl, json_lines
from tests.fixtures.kekctl import kekctl as run_kekctl
from tests.fixtures.tls import TlsDaemon


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "config" / "contexts.json"


@pytest.fixture
def kekctl(file: Path) -> Kekctl:
    return partial(run_kekctl, env={"KEKCTL_CONFIG": str(file)})


def store_of(address: str, index: str) -> str:
    with kekd.Client(address) as client:
        return client.get_index_kms(kekd.StorageConfig.memory(), index).store


@pytest.fixture
def prod(kekctl: Kekctl, memory_daemon: Daemon) -> Daemon:
    """The daemon of the current context."""
    kekctl("config", "set-context", "prod", "--address", memory_daemon.address)
    kekctl("config", "use-context", "prod")
    return memory_daemon


def push(address: str, *names: str) -> None:
    with kekd.Client(address) as client:
        for name in names:
            client.push_index_kms(None, name, kekd.KMSBlob(provider="none"))


def test_current_context_selects_the_daemon(kekctl: Kekctl, prod: Daemon) -> None:
    push(prod.address, "a")
    assert kekctl("list").stdout == "a\n"
    assert kekctl("config", "current-context").stdout == "prod\n"


def test_context_of_the_option_overrides_the_current_one(
    kekctl: Kekctl, prod: Daemon, start_daemon: StartDaemon
) -> None:
    other = start_daemon("--memory", name="other")
    push(other.address, "other")
    kekctl("config", "set-context", "other", "--address", other.address)
    assert kekctl("list").stdout == ""
    assert kekctl("--context", "other", "list").stdout == "other\n"
    assert kekctl("list", "--context", "other").stdout == "other\n"
    assert prod.address


def test_address_replaces_the_current_context_as_a_whole(
    file: Path, kekctl: Kekctl, memory_daemon: Daemon
) -> None:
    ca = file.parent.parent / "ca.pem"
    ca.write_text("of another daemon")
    options = ("--address", "elsewhere.example:7535", "--ca", ca, "--store", "memory")
    kekctl("config", "set-context", "tls", *options)
    kekctl("config", "use-context", "tls")
    assert kekctl("--address", memory_daemon.address, "list").stdout == ""
    env = {"KEKCTL_CONFIG": str(file), "KEKD_ADDRESS": memory_daemon.address}
    assert run_kekctl("list", env=env).stdout == ""
    # But a context that was asked for overrides the variable.
    asked = run_kekctl("--context", "tls", "list", env=env, code=2)
    assert f"cannot use {ca}" in asked.stderr


def test_context_selects_the_store(
    kekctl: Kekctl, start_daemon: StartDaemon, tmp_path: Path
) -> None:
    daemon = start_daemon("--disk", str(tmp_path / "disk"), "--memory")
    document = '{"index_name": "i", "blob": {"provider": "none"}}'
    options = ("--address", daemon.address, "--store", "memory")
    kekctl("config", "set-context", "memory", *options)
    kekctl("--context", "memory", "create", "-f", "-", stdin=document)
    assert store_of(daemon.address, "i") == "memory"
    assert kekctl("--context", "memory", "list").stdout == "i\n"
    disk = ("--store", f"disk:{tmp_path / 'disk'}")
    assert kekctl("--context", "memory", "list", *disk).stdout == ""
    assert kekctl("--context", "memory", *disk, "list").stdout == ""
    undo = kekctl("--context", "memory", "delete", "i").stderr
    assert "kekctl --context memory undelete --store memory i" in undo


def test_context_selects_the_tls_files(kekctl: Kekctl, shared_tls_daemon: TlsDaemon) -> None:
    files = {
        "--ca": shared_tls_daemon.authority.cert,
        "--cert": shared_tls_daemon.client.cert,
        "--key": shared_tls_daemon.client.key,
        "--server-name": "localhost",
    }
    options = [str(word) for option in files.items() for word in option]
    kekctl("config", "set-context", "tls", "--address", shared_tls_daemon.address, *options)
    kekctl("config", "use-context", "tls")
    assert kekctl("list").output == ""
    refused = kekctl("list", "--server-name", "other.example", code=6)
    assert "its certificate is for another name" in refused.stderr


def test_context_of_the_option_overrides_all_variables(
    file: Path, memory_daemon: Daemon, shared_tls_daemon: TlsDaemon
) -> None:
    client = shared_tls_daemon.client
    env = {
        "KEKCTL_CONFIG": str(file),
        "KEKD_ADDRESS": "unix:/nowhere",
        "KEKD_CA": str(shared_tls_daemon.authority.cert),
        "KEKD_CERT": str(client.cert),
        "KEKD_KEY": str(client.key),
        "KEKD_SERVER_NAME": "other.example",
    }
    push(memory_daemon.address, "i")
    run_kekctl("config", "set-context", "local", "--address", memory_daemon.address, env=env)
    assert run_kekctl("--context", "local", "list", env=env).stdout == "i\n"
    options = ("--address", shared_tls_daemon.address, "--ca", shared_tls_daemon.authority.cert)
    run_kekctl("config", "set-context", "tls", *options, env=env)
    refused = run_kekctl("--context", "tls", "list", env=env, code=6)
    assert "other name" not in refused.stderr
    files = ("--cert", client.cert, "--key", client.key)
    assert run_kekctl("--context", "tls", *files, "list", env=env).output == ""


def test_empty_options_omit_the_values_of_variables(memory_daemon: Daemon) -> None:
    push(memory_daemon.address, "i")
    env = {"KEKD_ADDRESS": memory_daemon.address, "KEKD_CA": __file__}
    assert "cannot use TLS with the Unix socket" in run_kekctl("list", env=env, code=2).stderr
    assert run_kekctl("list", "--ca", "", env=env).stdout == "i\n"


def test_context_without_an_address_means_the_default_socket(
    file: Path, memory_daemon: Daemon, tmp_path: Path
) -> None:
    env = {
        "KEKCTL_CONFIG": str(file),
        "KEKD_ADDRESS": memory_daemon.address,
        "XDG_RUNTIME_DIR": str(tmp_path),
    }
    run_kekctl("config", "set-context", "a", "--store", "memory", env=env)
    failed = run_kekctl("--context", "a", "--timeout", "100ms", "list", env=env, code=6)
    assert f"unix:{tmp_path}/kekd/kekd.sock" in failed.stderr


def test_context_with_an_address_is_refused(kekctl: Kekctl, prod: Daemon) -> None:
    """The other daemon would get the certificate of the context."""
    for command in (("list",), ("doctor",)):
        options = ("--context", "prod", "--address", prod.address)
        refused = kekctl(*command, *options, code=2)
        assert "cannot use --context with --address: " in refused.stderr


def test_file_has_the_keys_of_a_kubeconfig_and_is_private(
    kekctl: Kekctl, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(file.parent.parent)
    Path("ca.pem").touch()
    kekctl("config", "set-context", "prod", "--address", "unix:kekd.sock")
    kekctl("config", "set-context", "tls", "--address", "h:1", "--ca", "ca.pem")
    kekctl("config", "set-context", "tls", "--store", "s3:bucket/p")
    kekctl("config", "use-context", "tls")
    assert json.loads(file.read_text()) == {
        "current-context": "tls",
        "contexts": {
            "prod": {"address": f"unix:{Path('kekd.sock').absolute()}"},
            "tls": {"address": "h:1", "ca": str(Path("ca.pem").absolute()), "store": "s3:bucket/p"},
        },
    }
    assert file.stat().st_mode & 0o777 == 0o600


def test_contexts_are_listed_in_each_format(kekctl: Kekctl) -> None:
    kekctl("config", "set-context", "b", "--address", "h:1")
    kekctl("config", "set-context", "a", "--store", "memory")
    kekctl("config", "use-context", "b")
    table = kekctl("config", "get-contexts").stdout.splitlines()
    assert [line.split()[:3] for line in table] == [
        ["current", "name", "address"],
        ["a", "-", "-"],
        ["*", "b", "h:1"],
    ]
    assert kekctl("config", "get-contexts", "-o", "name").stdout == "a\nb\n"
    assert json_lines(kekctl("config", "get-contexts", "-o", "json")) == [
        {"name": "a", "current": False, "store": "memory"},
        {"name": "b", "current": True, "address": "h:1"},
    ]


def test_view_shows_the_contexts_and_the_connection_of_a_command(
    kekctl: Kekctl, file: Path
) -> None:
    kekctl("config", "set-context", "b", "--address", "h:1", "--ca", __file__)
    kekctl("config", "set-context", "a", "--store", "memory")
    kekctl("config", "use-context", "b")
    shown = kekctl("config", "view", "--server-name", "other", "-o", "json").stdout
    assert json.loads(shown) == {
        "file": str(file),
        "current-context": "b",
        "contexts": [
            {"name": "a", "current": False, "store": "memory"},
            {"name": "b", "current": True, "address": "h:1", "ca": __file__},
        ],
        "connection": {
            "address": {"value": "h:1", "from": "context b"},
            "ca": {"value": __file__, "from": "context b"},
            "server-name": {"value": "other", "from": "option"},
        },
    }
    assert yaml.safe_load(kekctl("config", "view").stdout)["current-context"] == "b"
    assert kekctl("config", "view", "-o", "name").stdout == "b\n"
    hidden = yaml.safe_load(kekctl("config", "view", "--ca", "").stdout)
    assert "ca" not in hidden["connection"]


def test_view_says_which_variables_replace_the_context(file: Path, tmp_path: Path) -> None:
    env = {"KEKCTL_CONFIG": str(file), "XDG_RUNTIME_DIR": str(tmp_path)}
    view = ("config", "view", "-o", "json")
    default = {"value": f"unix:{tmp_path}/kekd/kekd.sock", "from": "default"}
    assert json.loads(run_kekctl(*view, env=env).stdout)["connection"] == {"address": default}
    run_kekctl("config", "set-context", "a", "--address", "h:1", "--store", "memory", env=env)
    run_kekctl("config", "use-context", "a", env=env)
    env["KEKD_ADDRESS"] = "unix:/x"
    shown = json.loads(run_kekctl(*view, env=env).stdout)
    assert shown["connection"] == {"address": {"value": "unix:/x", "from": "variable"}}
    asked = json.loads(run_kekctl(*view, "--context", "a", env=env).stdout)["connection"]
    assert asked == {
        "address": {"value": "h:1", "from": "context a"},
        "store": {"value": "memory", "from": "context a"},
    }


def test_view_shows_no_value_of_an_invalid_context(kekctl: Kekctl, file: Path) -> None:
    file.parent.mkdir()
    contexts = {"bad": {"token": "canary"}, "good": {"store": "memory"}}
    file.write_text(json.dumps({"current-context": "bad", "contexts": contexts}))
    shown = kekctl("config", "view", code=1)
    assert shown.stderr.count("has the unknown key 'token'") == 1
    assert "canary" not in shown.output
    assert [one["name"] for one in yaml.safe_load(shown.stdout)["contexts"]] == ["good"]


def test_renamed_context_keeps_its_values_and_stays_current(kekctl: Kekctl, prod: Daemon) -> None:
    push(prod.address, "a")
    kekctl("config", "rename-context", "prod", "live", "--dry-run")
    assert kekctl("config", "current-context").stdout == "prod\n"
    renamed = kekctl("config", "rename-context", "prod", "live")
    assert renamed.output == "context 'prod' renamed to 'live'\n"
    assert kekctl("config", "get-contexts", "-o", "name").stdout == "live\n"
    assert kekctl("config", "current-context").stdout == "live\n"
    assert kekctl("list").stdout == "a\n"


def test_context_is_not_renamed_to_another_one(kekctl: Kekctl, file: Path, prod: Daemon) -> None:
    assert prod.address
    kekctl("config", "set-context", "other", "--address", "h:1")
    before = file.read_text()
    refused = kekctl("config", "rename-context", "other", "prod", code=2)
    assert "cannot rename context 'other': context 'prod' exists; " in refused.stderr
    assert "no context 'gone'" in kekctl("config", "rename-context", "gone", "new", code=2).stderr
    assert file.read_text() == before


def test_empty_name_of_a_context_is_refused(kekctl: Kekctl, prod: Daemon) -> None:
    """It could be a shell variable that isn't set."""
    assert prod.address
    says = "Invalid value for '--context': empty value"
    assert says in kekctl("--context", "", "list", code=2).stderr
    assert says in kekctl("list", "--context=", code=2).stderr


def test_deleted_context_is_gone_and_no_longer_current(kekctl: Kekctl, prod: Daemon) -> None:
    assert prod.address
    kekctl("config", "delete-context", "prod", "--dry-run")
    assert kekctl("config", "current-context").stdout == "prod\n"
    kekctl("config", "delete-context", "prod")
    assert "no current context" in kekctl("config", "current-context", code=2).stderr
    assert kekctl("config", "get-contexts").stdout == ""


def test_unset_current_context_stays_in_the_file(kekctl: Kekctl, prod: Daemon) -> None:
    assert prod.address
    kekctl("config", "unset", "current-context", "--dry-run")
    assert kekctl("config", "current-context").stdout == "prod\n"
    kekctl("config", "unset", "current-context")
    assert "no current context" in kekctl("config", "current-context", code=2).stderr
    assert kekctl("config", "get-contexts", "-o", "name").stdout == "prod\n"
    kekctl("config", "unset", "current-context")


def test_unknown_context_is_refused_with_the_known_ones(kekctl: Kekctl, prod: Daemon) -> None:
    assert prod.address
    for command in (
        ("--context", "prd", "list"),
        ("config", "use-context", "prd"),
        ("config", "delete-context", "prd"),
    ):
        refused = kekctl(*command, code=2)
        assert "no context 'prd' in" in refused.stderr
        assert "use prod" in refused.stderr


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ((), "nothing to set; give one of --address"),
        (("--address", "nonsense"), "invalid address 'nonsense'"),
        (("--store", "memory", "--timeout", "5s"), "a context has no timeout; omit --timeout"),
        (("--cert", __file__), "ca is missing"),
        (
            ("--address", "unix:/s", "--ca", __file__),
            "Unix socket unix:/s; set --address to HOST:PORT, or omit --ca",
        ),
        (("--store", "elsewhere"), "use memory, disk:PATH or s3:BUCKET"),
    ],
)
def test_context_that_no_command_could_use_is_refused(
    kekctl: Kekctl, file: Path, options: tuple[str, ...], says: str
) -> None:
    assert says in kekctl("config", "set-context", "x", *options, code=2).stderr
    assert not file.exists()


def test_variables_are_not_stored_in_a_context(file: Path) -> None:
    env = {"KEKCTL_CONFIG": str(file), "KEKD_ADDRESS": "h:1", "KEKD_CA": __file__}
    run_kekctl("config", "set-context", "x", "--store", "memory", env=env)
    assert json.loads(file.read_text())["contexts"] == {"x": {"store": "memory"}}


def test_variable_that_replaces_the_current_context_is_reported(file: Path) -> None:
    env = {"KEKCTL_CONFIG": str(file), "KEKD_ADDRESS": "h:1"}
    run_kekctl("config", "set-context", "x", "--store", "memory", env=env)
    used = run_kekctl("config", "use-context", "x", env=env)
    assert "warning: KEKD_ADDRESS is set" in used.stderr
    del env["KEKD_ADDRESS"]
    assert run_kekctl("config", "use-context", "x", env=env).stderr == ""


@pytest.mark.parametrize("folder", ["", "relative"])
def test_context_of_a_relative_folder_is_never_used(
    memory_daemon: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    """Such a folder could be another user's. Without a home, `~` would be relative, too."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    for place in ("~/.config", "relative"):
        file = Path(place, "kekd", "contexts.json")
        file.parent.mkdir(parents=True)
        file.write_text("not read")
    env = {"KEKCTL_CONFIG": "", "XDG_CONFIG_HOME": folder, "XDG_RUNTIME_DIR": str(tmp_path)}
    failed = run_kekctl("--timeout", "100ms", "list", env=env, code=6)
    assert f"unix:{tmp_path}/kekd/kekd.sock" in failed.stderr
    refused = run_kekctl("config", "use-context", "x", env=env, code=2)
    assert "no home folder; set KEKCTL_CONFIG" in refused.stderr
    run_kekctl("list", env=env | {"KEKD_ADDRESS": memory_daemon.address})


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "not JSON; correct or remove it"),
        ("[" * 9999, "not JSON; correct or remove it"),
        ("[]", "the file is not an object; correct or remove it"),
        ('{"context": {}}', "the file has the unknown key 'context'; use contexts"),
        ('{"contexts": []}', "the file: 'contexts' is not an object; correct or remove it"),
        ('{"current-context": 1}', "the file: 'current-context' is not a text; correct or"),
    ],
)
def test_invalid_file_is_reported(kekctl: Kekctl, file: Path, content: str, says: str) -> None:
    file.parent.mkdir()
    file.write_text(content)
    for command in (("list",), ("config", "get-contexts")):
        (line,) = kekctl(*command, code=1).stderr.splitlines()
        assert line.startswith(f"Error: cannot use {file}: {says}")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("[]", "is not an object; correct or remove it"),
        ('{"adress": "h:1"}', "has the unknown key 'adress'; use address"),
        (
            '{"zzz": ""}',
            "has the unknown key 'zzz'; use address, ca, cert, key, server-name, store",
        ),
        ('{"ca": 1}', ": 'ca' is not a text; correct or remove it"),
        ('{"store": "bogus"}', ": invalid store name 'bogus'; use memory, disk:PATH or s3:BUCKET"),
    ],
)
def test_invalid_context_is_reported_only_where_it_is_used(
    kekctl: Kekctl, file: Path, memory_daemon: Daemon, content: str, says: str
) -> None:
    says = f"cannot use {file}: context 'bad'{'' if says.startswith(':') else ' '}{says}"
    file.parent.mkdir()
    good = f'{{"address": "{memory_daemon.address}"}}'
    file.write_text(
        f'{{"current-context": "good", "contexts": {{"bad": {content}, "good": {good}}}}}'
    )
    assert kekctl("list").output == ""
    for command in (("--context", "bad", "list"), ("config", "use-context", "bad")):
        assert kekctl(*command, code=1).stderr.startswith(f"Error: {says}")
    listed = kekctl("config", "get-contexts", "-o", "name", code=1)
    assert (listed.stdout, listed.stderr.startswith(f"kekctl: {says}")) == ("good\n", True)
    refused = kekctl("config", "set-context", "bad", "--store", "memory", code=1)
    assert refused.stderr.startswith(f"Error: {says}")
    kekctl("config", "set-context", "other", "--store", "memory")
    kekctl("config", "use-context", "other")
    assert json.loads(file.read_text())["contexts"]["bad"] == json.loads(content)
    kekctl("config", "delete-context", "bad")
    assert kekctl("config", "get-contexts", "-o", "name").output == "good\nother\n"


def test_empty_option_removes_the_value_of_the_context_for_one_call(
    kekctl: Kekctl, file: Path, memory_daemon: Daemon
) -> None:
    file.parent.mkdir()
    context = {"address": memory_daemon.address, "ca": "/gone", "server-name": "other.example"}
    file.write_text(json.dumps({"current-context": "a", "contexts": {"a": context}}))
    assert "cannot use TLS" in kekctl("list", code=2).stderr
    assert kekctl("list", "--ca", "", "--server-name=").output == ""
    assert kekctl("--ca", "", "--server-name", "", "doctor", code=0).stderr == ""
    assert "ca is missing" in kekctl("list", "--ca", "", code=2).stderr


def test_empty_option_removes_a_value_from_a_context(kekctl: Kekctl, file: Path) -> None:
    ca = file.parent.parent / "ca.pem"
    ca.touch()
    options = ("--address", "h:1", "--ca", ca, "--server-name", "h", "--store", "memory")
    kekctl("config", "set-context", "a", *options)
    kekctl("config", "set-context", "a", "--ca", "", "--server-name", "", "--store", "")
    assert json.loads(file.read_text())["contexts"]["a"] == {"address": "h:1"}
    kekctl("config", "set-context", "a", "--address", "", "--store", "memory")
    assert json.loads(file.read_text())["contexts"]["a"] == {"store": "memory"}


def test_empty_store_is_refused_in_a_call(kekctl: Kekctl, prod: Daemon) -> None:
    """It could be a shell variable that isn't set, and the default store is another one."""
    assert prod.address
    for command in (("--store", "", "delete", "a"), ("delete", "a", "--store", "")):
        assert "invalid store name ''" in kekctl(*command, code=2).stderr


@pytest.mark.parametrize("content", ["", "{}"])
def test_empty_file_has_no_contexts(kekctl: Kekctl, file: Path, content: str) -> None:
    file.parent.mkdir()
    file.write_text(content)
    assert kekctl("config", "get-contexts").output == ""
    kekctl("config", "set-context", "a", "--store", "memory")


def test_file_that_cannot_be_read_is_reported(kekctl: Kekctl, file: Path) -> None:
    advice = "correct it, or set KEKCTL_CONFIG to another file"
    file.mkdir(parents=True)
    failed = kekctl("list", code=1)
    assert failed.stderr == f"Error: cannot read {file}: Is a directory; {advice}\n"
    file.rmdir()
    file.parent.rmdir()
    file.parent.touch()
    failed = kekctl("list", code=1)
    assert failed.stderr == f"Error: cannot read {file}: Not a directory; {advice}\n"


def test_folder_that_cannot_be_created_is_reported() -> None:
    file = "/proc/kekd/contexts.json"
    options = ("config", "set-context", "a", "--store", "memory")
    failed = run_kekctl(*options, env={"KEKCTL_CONFIG": file}, code=1)
    assert failed.stderr.startswith("Error: cannot create /proc/kekd: No such file or directory;")


def test_current_context_that_does_not_exist_is_reported(kekctl: Kekctl, file: Path) -> None:
    file.parent.mkdir()
    file.write_text('{"current-context": "prd", "contexts": {"prod": {}}}')
    listed = kekctl("config", "get-contexts", "-o", "name")
    assert listed.stdout == "prod\n"
    assert "warning: the current context 'prd' doesn't exist; choose one" in listed.stderr
