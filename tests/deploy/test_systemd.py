"""The unit and its files, checked by systemd's tools and run by systemd."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from kekd_server.config.loader import load
from tests.deploy.machine import ROOT, Machine
from tests.fixtures.debian import debian
from tests.fixtures.tls import Authority
from tests.patience import eventually

pytestmark = pytest.mark.systemd

SYSTEMD = ROOT / "deploy" / "systemd"
BLOCK = (ROOT / "deploy" / "README.md").read_text().partition("```sh\n")[2].partition("```")[0]
UNIT = SYSTEMD / "kekd.service"
ENVELOPE = '{"index_name": "i", "blob": {"provider": "none"}}'
KEKCTL = ("/opt/kekd/bin/kekctl", "--address", "unix:/run/kekd/kekd.sock")
A_CALLER = ("setpriv", "--reuid=65534", "--regid=65534")


def test_unit_is_hardened() -> None:
    analyze = debian("systemd-analyze", "systemd")
    # In tenths: at most 2.0.
    command = [analyze, "security", "--no-pager", "--offline=true", "--threshold=20", str(UNIT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_memory_and_tasks_of_the_unit_are_bounded() -> None:
    lines = UNIT.read_text().splitlines()
    assert {"MemoryMax=1G", "MemorySwapMax=0", "TasksMax=512", "LimitCORE=0"} <= set(lines)


def test_example_settings_are_valid() -> None:
    settings = load({}, SYSTEMD / "kekd.yaml").settings
    assert [str(listener) for listener in settings.listeners] == [
        "unix:/run/kekd/kekd.sock",
        "0.0.0.0:7535",
    ]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def installed(
    machine: Machine, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Machine:
    """Installs by the commands of deploy/README.md. kekd is already there."""
    machine.run("ln", "-s", "/opt/src/deploy", "/root/deploy")
    issued = authority.issue(tmp_path_factory.mktemp("issued"))
    machine.copy(issued.cert, "/root/tls.crt")
    machine.copy(issued.key, "/root/tls.key")
    machine.copy(authority.cert, "/root/clients.crt")
    python, *commands = BLOCK.splitlines()
    assert python.startswith("python3.11 -m venv /opt/kekd && ")
    machine.run("sh", "-ec", "\n".join(["cd /root", *commands]))
    machine.run("systemctl", "stop", "kekd")
    return machine


@pytest.fixture
def stopped(installed: Machine) -> Iterator[Machine]:
    """Stops the unit and resets its count of starts: systemd rejects the sixth in 10 s."""
    yield installed
    installed.run("systemctl", "stop", "kekd")
    installed.run("systemctl", "reset-failed")


@pytest.fixture
def running(stopped: Machine) -> Machine:
    stopped.run("systemctl", "start", "kekd")
    return stopped


def shown(machine: Machine, *properties: str) -> list[str]:
    said = machine.run(
        "systemctl", "show", "--value", *(f"-p{name}" for name in properties), "kekd"
    )
    return said.splitlines()


def test_installation_takes_ten_commands(installed: Machine) -> None:
    assert len(BLOCK.splitlines()) == 10
    assert installed.run("stat", "-c", "%a", "/var/backups/kekd.jsonl") == "600\n"
    dashboard = installed.run("cat", "/var/lib/grafana/dashboards/kekd.json")
    assert dashboard == (ROOT / "deploy" / "grafana" / "dashboard.json").read_text()


def test_policy_limits_the_calls_of_a_certificate(
    running: Machine, authority: Authority, tmp_path: Path
) -> None:
    reader = authority.issue(tmp_path, "spiffe://example.org/ns/prod/sa/cyborgdb")
    tls = []
    for flag, file in (("ca", authority.cert), ("cert", reader.cert), ("key", reader.key)):
        running.copy(file, f"/root/reader.{flag}")
        tls += [f"--{flag}", f"/root/reader.{flag}"]
    kekctl = (KEKCTL[0], "--address", "127.0.0.1:7535", *tls)
    running.run(*kekctl, "get", "never", code=3)
    said = running.run(*kekctl, "create", "-f", "-", stdin=ENVELOPE, code=7)
    assert "spiffe://example.org/ns/prod/sa/cyborgdb cannot create index 'i'" in said
    denied = running.run(KEKCTL[0], "audit", "search", "/var/log/kekd/audit.jsonl", "--denied")
    assert "spiffe://example.org/ns/prod/sa/cyborgdb" in denied


def test_metrics_are_served_on_loopback(running: Machine) -> None:
    ask = r'printf "GET /metrics HTTP/1.0\r\n\r\n" >&3; cat <&3'
    said = running.run("bash", "-c", f"exec 3<>/dev/tcp/127.0.0.1/9535; {ask}")
    assert "kekd_build_info{" in said


def test_probes_are_served_beside_the_metrics(running: Machine) -> None:
    ask = r'printf "GET /readyz HTTP/1.0\r\n\r\n" >&3; cat <&3'
    command = f"exec 3<>/dev/tcp/127.0.0.1/9535; {ask}"
    eventually(lambda: running.run("bash", "-c", command).endswith("\n\nok\n"))


def test_hung_daemon_is_restarted_by_the_watchdog(running: Machine) -> None:
    running.write("/run/systemd/system/kekd.service.d/fast.conf", "[Service]\nWatchdogSec=2\n")
    running.run("systemctl", "daemon-reload")
    try:
        running.run("systemctl", "restart", "kekd")
        (pid,) = shown(running, "MainPID")
        running.run("kill", "-STOP", pid)
        eventually(lambda: shown(running, "NRestarts") == ["1"])
        running.run(*KEKCTL, "wait", "--for", "60")
        assert shown(running, "MainPID") != [pid]
    finally:
        running.run("rm", "-r", "/run/systemd/system/kekd.service.d")
        running.run("systemctl", "daemon-reload")


def test_unit_passes_systemd_analyze(installed: Machine) -> None:
    assert installed.run("systemd-analyze", "verify", "--man=no", "kekd.service") == ""


def test_settings_and_key_are_readable_by_the_daemon_only(installed: Machine) -> None:
    paths = [f"/etc/kekd/{name}" for name in ("kekd.yaml", "tls/tls.key", "tls/tls.crt", "")]
    modes = installed.run("stat", "-c", "%a %U %G", *paths).splitlines()
    assert modes == [*["640 root kekd"] * 3, "750 root kekd"]


def test_daemon_serves_as_soon_as_the_unit_has_started(running: Machine) -> None:
    running.run(*KEKCTL, "wait", "--for", "0")
    assert shown(running, "StatusText", "ActiveState") == ["serving", "active"]
    assert shown(running, "MemoryMax", "TasksMax", "LimitCORE") == [str(2**30), "512", "0"]


def test_only_group_members_can_call(running: Machine) -> None:
    outsider = (*A_CALLER, "--clear-groups")
    assert "Permission denied" in running.run(*outsider, "stat", "/run/kekd/kekd.sock", code=1)
    member = (*A_CALLER, "--groups=kekd", *KEKCTL)
    running.run(*member, "create", "-f", "-", stdin=ENVELOPE)
    assert running.run(*member, "list") == "i\n"


def test_reload_rereads_files_and_keeps_serving(running: Machine) -> None:
    pid = shown(running, "MainPID")
    running.run("systemctl", "reload", "kekd")
    running.run(*KEKCTL, "wait", "--for", "0")
    assert shown(running, "MainPID", "StatusText") == [*pid, "serving"]
    eventually(lambda: "unchanged: certificate" in running.run("journalctl", "--unit=kekd"))


def test_stop_succeeds_with_exit_code_0(running: Machine) -> None:
    running.run("systemctl", "stop", "kekd")
    assert shown(running, "Result", "ExecMainStatus") == ["success", "0"]


def test_killed_daemon_is_restarted(running: Machine) -> None:
    running.run("systemctl", "kill", "--signal=SIGKILL", "kekd")
    running.run(*KEKCTL, "wait", "--for", "30")
    assert shown(running, "NRestarts") == ["1"]


def test_settings_that_cannot_be_used_fail_the_start(stopped: Machine) -> None:
    stopped.write("/etc/kekd/kekd.yaml", "lisen: []\n")
    try:
        stopped.run("systemctl", "start", "kekd", code=1)
        eventually(lambda: "unknown key" in stopped.run("journalctl", "--unit=kekd"))
    finally:
        stopped.copy(SYSTEMD / "kekd.yaml", "/etc/kekd/kekd.yaml")
