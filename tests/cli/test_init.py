"""`kekd init` and the settings create keystores. A missing keystore is never replaced."""

import subprocess
from pathlib import Path

import pytest

import kekd
from tests.fixtures.calls import BLOB
from tests.fixtures.daemon import BIN, Daemon, StartDaemon, clean_environment, refusal
from tests.fixtures.s3 import CREDENTIALS, Bucket
from tests.patience import PATIENCE

STRICT = {"KEKD_CREATE_STORES": "false"}


def init(*flags: str, env: dict[str, str] | None = None, code: int = 0) -> str:
    """Returns the output."""
    done = subprocess.run(
        [BIN / "kekd", "init", *flags],
        env=clean_environment() | (env or {}),
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert done.returncode == code, done.stderr
    return done.stdout if code == 0 else done.stderr


@pytest.fixture
def keystore(tmp_path: Path) -> Path:
    return tmp_path / "keystore"


def test_keystore_made_by_init_is_served(start_daemon: StartDaemon, keystore: Path) -> None:
    assert init("--disk", str(keystore)) == f"disk:{keystore}: created a keystore\n"
    daemon = start_daemon("--disk", str(keystore), env=STRICT)
    with kekd.Client(daemon.address) as client:
        client.create_index_kms(None, "i", BLOB)
    assert init("--disk", str(keystore)) == f"disk:{keystore}: already exists\n"
    with kekd.Client(daemon.address) as client:
        assert client.get_index_kms(None, "i") == BLOB


def test_init_takes_the_daemons_settings(tmp_path: Path) -> None:
    file = tmp_path / "kekd.yaml"
    file.write_text(f"disk: [{tmp_path}/one, {tmp_path}/two]\nmemory: true\n")
    made = [f"disk:{tmp_path}/{folder}: created a keystore" for folder in ("one", "two")]
    assert init("--config", str(file)).splitlines() == made
    again = init(env={"KEKD_CONFIG": str(file), "KEKD_DISK": f"{tmp_path}/three"})
    assert again == f"disk:{tmp_path}/three: created a keystore\n"


def test_init_creates_possible_keystores_and_reports_the_others(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    flags = ("--disk", f"{tmp_path}/file", "--disk", f"{tmp_path}/keystore")
    assert init(*flags, code=2).startswith(f"kekd: the store at {tmp_path}/file failed: ")
    assert (tmp_path / "keystore" / "_catalog" / "config").is_dir()


@pytest.mark.parametrize("mount_point", [False, True], ids=["nothing", "empty mount point"])
def test_daemon_without_create_stores_creates_no_keystore(
    tmp_path: Path, keystore: Path, mount_point: bool
) -> None:
    if mount_point:
        (keystore / "lost+found").mkdir(parents=True)
    said = refusal(BIN / "kekd", "--listen", f"unix:{tmp_path}/s", "--disk", keystore)
    assert said == (
        f"kekd: no keystore in {keystore}: its volume may not be mounted; to create one, run"
        " 'kekd init' or start kekd with --create-stores\n"
    )
    assert [path.name for path in keystore.rglob("*")] == (["lost+found"] if mount_point else [])


@pytest.mark.parametrize("mark", ["_catalog/config", "_kekd"])
def test_folder_with_the_marks_of_a_keystore_is_served(
    start_daemon: StartDaemon, keystore: Path, mark: str
) -> None:
    (keystore / mark).mkdir(parents=True)
    daemon = start_daemon("--disk", str(keystore), env=STRICT)
    with kekd.Client(daemon.address) as client:
        client.create_index_kms(None, "i", BLOB)


def test_daemon_makes_keystores_if_its_settings_say_so(
    start_daemon: StartDaemon, keystore: Path
) -> None:
    daemon = start_daemon("--disk", str(keystore), "--create-stores", env=STRICT)
    assert f"disk:{keystore}: created a keystore" in daemon.read_log()


def test_prefix_made_by_init_is_served(start_daemon: StartDaemon, bucket: Bucket) -> None:
    assert init(*bucket.flags, env=CREDENTIALS) == f"s3:{bucket.name}: created a keystore\n"
    daemon = start_daemon(*bucket.flags, env=CREDENTIALS | STRICT)
    with kekd.Client(daemon.address) as client:
        client.create_index_kms(None, "i", BLOB)
        assert client.delete_index_kms(None, "i")
    assert init(*bucket.flags, env=CREDENTIALS) == f"s3:{bucket.name}: already exists\n"


def test_empty_prefix_is_no_keystore(tmp_path: Path, bucket: Bucket) -> None:
    daemon = Daemon(tmp_path / "daemon", *bucket.flags, env=CREDENTIALS | STRICT)
    assert daemon.process.wait(timeout=PATIENCE) == 2
    said = f"no keystore in s3://{bucket.name}: the bucket or the prefix may be wrong; "
    assert said in daemon.read_log()
    assert "Contents" not in bucket.s3.list_objects_v2(Bucket=bucket.name)
