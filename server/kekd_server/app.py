"""The composition root: makes a daemon from its settings and runs it."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from kekd_common.policy import PolicyError
from kekd_server.access.access_policy import AccessPolicy
from kekd_server.access.audit.audit_log import AuditLog
from kekd_server.access.audit.auditor import Auditor
from kekd_server.access.authorizer import Authorizer
from kekd_server.access.call_limits import CallLimits
from kekd_server.access.policy_reloader import PolicyReloader
from kekd_server.config.errors import SettingsError
from kekd_server.config.exposed_files import exposures
from kekd_server.config.metrics import load_metrics_tls
from kekd_server.config.settings import Settings
from kekd_server.daemon import Daemon
from kekd_server.daemon_status import CertificateStatus, DaemonStatus
from kekd_server.listeners.listener import Listener, acquire
from kekd_server.listeners.tcp import TcpListener, TlsFiles
from kekd_server.model.file_trust import Exposure
from kekd_server.observability.metrics import Metrics
from kekd_server.observability.metrics_server import serve as serve_metrics
from kekd_server.observability.probes import Probes
from kekd_server.observability.tracing import Tracing
from kekd_server.process import heartbeat, predecessor, systemd
from kekd_server.process.reloader import Reloader
from kekd_server.process.signals import on_hangup, stop_signal
from kekd_server.rpc.engines import ConnectionLimits
from kekd_server.rpc.ready_answers import ReadyAnswers
from kekd_server.rpc.server import Server
from kekd_server.service import EnvelopeService
from kekd_server.storage.health import Health, Warn
from kekd_server.stores import find_exposures, open_stores

if TYPE_CHECKING:
    from kekd_server.listeners.certificates import Certificates

_log = logging.getLogger(__name__)


async def run(
    settings: Settings, config_file: Path | None, *, on_serving: Callable[[], None]
) -> None:
    """Serves until SIGTERM or SIGINT, then drains. A second signal ends the process immediately.

    Calls `on_serving` when clients can connect. Raises `SettingsError` and `ListenError`.
    """
    signalled, metrics, probes = stop_signal(), Metrics(), Probes()
    metrics_tls = load_metrics_tls(settings.metrics_listener)
    with ExitStack() as acquired:

        def acquire_addresses() -> None:
            acquired.enter_context(acquire(settings.listeners))
            if settings.metrics_listener:
                serve_metrics(settings.metrics_listener, metrics.registry, probes, metrics_tls)

        if not settings.take_over:
            acquire_addresses()
        beating = asyncio.create_task(heartbeat.run(probes.beat))
        daemon = await build(settings, config_file, settings.listeners, metrics)
        if metrics_tls:
            metrics.files.bind_certificates(metrics_tls.certificates)
            daemon.reloader.add(metrics_tls.certificates)
        if settings.take_over:
            await predecessor.replace(settings.listeners, shutdown_grace=settings.shutdown_grace)
            acquire_addresses()
        await _serve(daemon, signalled, on_serving, probes)
        beating.cancel()
    _log.info("stopped")


async def run_worker(
    settings: Settings, config_file: Path | None, number: int, *, on_serving: Callable[[], None]
) -> None:
    """Like `run`, for one of several processes, whose supervisor has acquired the addresses.

    All workers serve the TCP listeners. Only the first serves the Unix sockets, which have no
    SO_REUSEPORT. Only the first logs the warnings of the start, which are the same for all.
    """
    signalled = stop_signal(ignore_repeats=True)
    metrics = Metrics(worker=number if settings.metrics else None)
    listeners = [
        listener
        for listener in settings.listeners
        if number == 1 or isinstance(listener, TcpListener)
    ]
    warn = _log.warning if number == 1 else _ignore
    daemon = await build(settings, config_file, listeners, metrics, warn=warn)
    await _serve(daemon, signalled, on_serving, Probes())
    _log.info("stopped")


async def build(
    settings: Settings,
    config_file: Path | None,
    listeners: Sequence[Listener],
    metrics: Metrics,
    *,
    warn: Warn = _log.warning,
) -> Daemon:
    """Makes a daemon that is ready to start. Logs with `warn` what the operator should change.
    Raises `SettingsError`.
    """
    warnings = _check_files(settings, config_file, warn)
    audit = _open_audit(settings, metrics)
    reloader = Reloader()
    on_hangup(reloader.request, *([audit.reopen] if audit else []))
    certificates = _read_certificates(listeners)
    tracing = Tracing.from_environment()
    stores = await open_stores(settings, metrics, tracing)
    warnings += _log_warnings(await find_exposures(stores), warn)
    auditor = Auditor(audit, settings.audit.on_failure if settings.audit else None)
    policy = AccessPolicy(settings.policy, metrics)
    policy_reloader = _make_policy_reloader(config_file, settings, policy)
    health = Health(stores, metrics, warn=warn)
    status = DaemonStatus(
        started_at=datetime.now(UTC),
        workers=settings.workers,
        stores=lambda principal: [
            store for store in health.stores() if policy.can_access_store(principal, store.name)
        ],
        certificates=lambda: _certificate_statuses(certificates),
        warnings=warnings,
        policy_error=lambda: policy_reloader.load_error if policy_reloader else "",
        audit_error=lambda: audit.error if audit else "",
    )
    server = Server(
        EnvelopeService(Authorizer(stores, policy, auditor)),
        status,
        certificates,
        health=health,
        limits=_make_limits(settings, metrics),
        connection_limits=ConnectionLimits(settings.max_connection_age, settings.keepalive),
        metrics=metrics,
        tracing=tracing,
        ready_answers=ReadyAnswers() if settings.ready_answers else None,
        end_watches=stores.end_watches,
    )
    _bind_metrics(metrics, server, certificates.values(), policy_reloader)
    reloader.add(*certificates.values(), *([policy_reloader] if policy_reloader else []))
    _warn_of_inaccessible(settings, listeners, warn)
    return Daemon(
        server=server,
        listeners=listeners,
        stores=stores,
        auditor=auditor,
        audit=audit,
        tracing=tracing,
        metrics=metrics,
        reloader=reloader,
        shutdown_grace=settings.shutdown_grace,
    )


async def _serve(
    daemon: Daemon, signalled: asyncio.Event, on_serving: Callable[[], None], probes: Probes
) -> None:
    await daemon.start()
    on_serving()
    probes.report_serving()
    systemd.ready()
    await signalled.wait()
    probes.report_draining()
    systemd.stopping()
    await daemon.stop()


def _check_files(settings: Settings, config_file: Path | None, warn: Warn) -> list[str]:
    """Returns warnings about files that other users can change. Raises `SettingsError` for files
    that must not be used.
    """
    found = exposures(settings, config_file)
    if refused := [str(exposure) for exposure in found if exposure.is_refused]:
        raise SettingsError(refused)
    return _log_warnings(found, warn)


def _log_warnings(found: Iterable[Exposure], warn: Warn) -> list[str]:
    warnings = [str(exposure) for exposure in found]
    for warning in warnings:
        warn("%s", warning)
    return warnings


def _open_audit(settings: Settings, metrics: Metrics) -> AuditLog | None:
    if not settings.audit:
        return None
    try:
        return AuditLog(settings.audit.path, metrics)
    except OSError as error:
        raise SettingsError(
            [f"audit {settings.audit.file}: cannot be written: {error.strerror}"]
        ) from error


def _make_policy_reloader(
    config_file: Path | None, settings: Settings, policy: AccessPolicy
) -> PolicyReloader | None:
    if not config_file:
        return None
    try:
        return PolicyReloader(config_file, settings.policy, policy)
    except PolicyError as error:
        raise SettingsError(error.problems) from error


def _make_limits(settings: Settings, metrics: Metrics) -> CallLimits:
    return CallLimits(
        calls=settings.max_calls,
        rate=settings.max_rate,
        burst=settings.max_burst,
        metrics=metrics,
    )


def _bind_metrics(
    metrics: Metrics,
    server: Server,
    certificates: "Iterable[Certificates]",
    policy_reloader: PolicyReloader | None,
) -> None:
    metrics.calls.bind_running(lambda: server.running)
    for certificate in certificates:
        metrics.files.bind_certificates(certificate)
    if policy_reloader:
        metrics.files.bind_policy(lambda: policy_reloader.failed_reloads)


def _read_certificates(listeners: Sequence[Listener]) -> "dict[TlsFiles, Certificates]":
    """Reads each set of files once. Several listeners may share one."""
    every = {
        listener.tls: None
        for listener in listeners
        if isinstance(listener, TcpListener) and listener.tls
    }
    if not every:
        return {}
    # Imported here, because cryptography is slow to import.
    from kekd_server.listeners.certificates import Certificates, TlsError  # noqa: PLC0415
    from kekd_server.rpc.handshake import try_handshake  # noqa: PLC0415

    certificates, problems = {}, []
    for files in every:
        try:
            certificates[files] = Certificates(files, try_handshake)
        except TlsError as error:
            problems.append(str(error))
    if problems:
        raise SettingsError(problems)
    return certificates


def _certificate_statuses(
    certificates: "Mapping[TlsFiles, Certificates]",
) -> list[CertificateStatus]:
    """Returns one status for each file, sorted. Listeners may share a file, and differ in the
    client CA.
    """
    by_file = {str(files.cert): certificate for files, certificate in certificates.items()}
    return [
        CertificateStatus(file, certificate.current.not_after, certificate.load_error)
        for file, certificate in sorted(by_file.items())
    ]


def _ignore(_: str, *__: object) -> None:
    """Logs nothing."""


def _warn_of_inaccessible(settings: Settings, listeners: Iterable[Listener], warn: Warn) -> None:
    if settings.policy is None:
        for listener in listeners:
            if not listener.is_local:
                warn(
                    "%s: every call is denied, because there is no policy; add one to the --config"
                    " file",
                    listener,
                )
