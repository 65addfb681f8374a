"""The composition root: settings in, a running daemon out."""

import asyncio
import gc
import logging
import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from kekd_common.policy import PolicyError
from kekd_schema import prepare_to_encode
from kekd_server.access.audit_log import AuditLog
from kekd_server.access.authorizer import Authorizer
from kekd_server.access.policy_reloader import PolicyFile
from kekd_server.access.rate_limits import Limits
from kekd_server.config.exposed_files import exposures, store_exposures
from kekd_server.config.settings import Settings, SettingsError
from kekd_server.daemon_status import CertificateStatus, DaemonStatus
from kekd_server.listeners.listener import Listener, acquire
from kekd_server.listeners.tcp import TcpListener, TlsFiles
from kekd_server.model.errors import KekdError, StoreMisconfiguredError
from kekd_server.model.file_trust import Exposure
from kekd_server.model.reloading_file import ReloadingFile
from kekd_server.observability.metrics import Metrics
from kekd_server.observability.metrics_server import serve as serve_metrics
from kekd_server.observability.tracing import Tracing
from kekd_server.process import predecessor, systemd
from kekd_server.process.signals import on_hangup, patient_stop_signal, stop_signal
from kekd_server.rpc.engines import ConnectionLimits
from kekd_server.rpc.server import Server
from kekd_server.service import EnvelopeService
from kekd_server.storage.disk.driver import DiskDriver
from kekd_server.storage.disk.watcher import DiskSource
from kekd_server.storage.driver import Driver
from kekd_server.storage.health import Health
from kekd_server.storage.instrumented import InstrumentedDriver
from kekd_server.storage.location import DiskLocation, Location, MemoryLocation, S3Location
from kekd_server.storage.memory import MemoryDriver
from kekd_server.storage.registry import Stores
from kekd_server.storage.store import Store

if TYPE_CHECKING:
    from kekd_server.listeners.certificates import Certificates

_log = logging.getLogger(__name__)


_DISK_THREADS: Final = 16
_PUSHING_THREADS: Final = 4
"""For a batch: so that it waits for several fsyncs at once, and leaves threads for other calls."""
_LOOK_SECONDS: Final = 1.0
"""How often the files of certificates are looked at, and what is measured by looking."""
_OPENING_SECONDS: Final = 5.0
"""A store that takes longer may come later: it is asked again and again whether it answers."""
_PAGE_OBJECTS: Final = 50_000
_LAST_SECONDS: Final = 2.0
"""For the traces that weren't sent yet."""


async def run(settings: Settings, policy_file: Path | None, *, serving: Callable[[], None]) -> None:
    """Serves until SIGTERM or SIGINT, then drains; a second signal ends the process at once.

    Calls `serving` when callers can connect. On SIGHUP, and when their files change, certificates
    and the policy are read anew. Raises `SettingsError` and `ListenError`.
    """
    signalled, metrics = stop_signal(), Metrics()
    with ExitStack() as claims:

        def claim() -> None:
            claims.enter_context(acquire(settings.listeners))
            if settings.metrics_listener:
                serve_metrics(settings.metrics_listener, metrics.registry)

        async def take_over() -> None:
            await predecessor.replace(settings.listeners, shutdown_grace=settings.shutdown_grace)
            claim()

        if not settings.take_over:
            claim()
        await _serve(
            settings,
            policy_file,
            settings.listeners,
            metrics,
            take_over=take_over if settings.take_over else None,
            serving=serving,
            signalled=signalled,
        )
    _log.info("stopped")


async def run_worker(
    settings: Settings, policy_file: Path | None, number: int, *, serving: Callable[[], None]
) -> None:
    """As `run`, for one of several processes, whose supervisor holds the claims. All serve the TCP
    listeners, and the first alone the Unix sockets, which have no SO_REUSEPORT.
    """
    signalled = patient_stop_signal()
    metrics = Metrics(worker=number if settings.metrics else None)
    listeners = [it for it in settings.listeners if number == 1 or isinstance(it, TcpListener)]
    await _serve(settings, policy_file, listeners, metrics, serving=serving, signalled=signalled)
    _log.info("stopped")


async def _serve(  # noqa: PLR0913
    settings: Settings,
    policy_file: Path | None,
    listeners: list[Listener],
    metrics: Metrics,
    *,
    take_over: Callable[[], Awaitable[None]] | None = None,
    serving: Callable[[], None],
    signalled: asyncio.Event,
) -> None:
    """`take_over` is called when nothing but the addresses is missing, and claims them."""
    asked = asyncio.Event()
    warnings = _check_files(settings, policy_file)
    audit = _open_audit(settings, metrics)
    on_hangup(asked.set, *([audit.reopen] if audit else []))
    certificates = _read_certificates(listeners)
    tracing = Tracing.from_environment()
    stores = await _open_stores(settings, metrics, tracing)
    warnings += await _check_folders(stores)
    health = Health(stores, metrics)
    guard = Authorizer(
        settings.policy,
        metrics,
        audit,
        settings.audit.on_failure if settings.audit else None,
    )
    reloaded: list[ReloadingFile[Any]] = [*certificates.values()]
    policy = _follow_policy(policy_file, settings, guard) if policy_file else None
    if policy:
        metrics.follow(lambda: policy.refusals, metrics.reload_failures.labels("policy"))
        reloaded.append(policy)
    server = Server(
        EnvelopeService(stores, guard),
        DaemonStatus(
            started_at=datetime.now(UTC),
            workers=settings.workers,
            stores=lambda caller: [it for it in health.stores() if guard.knows(caller, it.name)],
            certificates=lambda: _expiries(certificates),
            warnings=warnings,
            policy_error=lambda: policy.load_error if policy else "",
            audit_error=lambda: audit.error if audit else "",
        ),
        certificates,
        health=health,
        limits=Limits(
            calls=settings.max_calls,
            rate=settings.max_rate,
            burst=settings.max_burst,
            metrics=metrics,
        ),
        lasting=ConnectionLimits(settings.max_connection_age, settings.keepalive),
        metrics=metrics,
        tracing=tracing,
    )
    if take_over:
        await take_over()
    await server.start(listeners)
    # What is there now stays: there is no use in looking through it again and again. Nor through
    # what a page of a listing is made of, which is gone before long.
    gc.freeze()
    gc.set_threshold(_PAGE_OBJECTS)
    gc.enable()
    _warn_of_closed(settings, listeners)
    _log.info("serving %s on %s", _listed(settings.locations), _listed(listeners))
    serving()
    systemd.ready()
    threading.Thread(target=_finish_start, name="start", daemon=True).start()
    keepers = [
        asyncio.create_task(_renew(reloaded, asked)),
        asyncio.create_task(_sample(metrics, certificates.values(), server)),
    ]
    await signalled.wait()
    systemd.stopping()
    for keeper in keepers:
        keeper.cancel()
    _log.info("draining: calls in flight have %g s", settings.shutdown_grace)
    await server.stop(settings.shutdown_grace)
    stores.close()
    guard.flush()
    if audit:
        audit.close()
    if tracing:
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.to_thread(tracing.close), _LAST_SECONDS)


def _finish_start() -> None:
    """What nobody who reads has to wait for."""
    prepare_to_encode()
    gc.freeze()


def _check_files(settings: Settings, policy_file: Path | None) -> list[str]:
    """Warns of what other users could change. Raises `SettingsError` for what is refused."""
    found = exposures(settings, policy_file)
    if refused := [str(it) for it in found if it.is_refused]:
        raise SettingsError(refused)
    return _logged_warnings(found)


async def _check_folders(stores: Stores) -> list[str]:
    """As `_check_files`, for the stores that answer."""
    found: list[Exposure] = []
    for store in stores:
        with suppress(TimeoutError):
            async with asyncio.timeout(_OPENING_SECONDS):
                found += await store.inspect(store_exposures)
    return _logged_warnings(found)


def _logged_warnings(found: Iterable[Exposure]) -> list[str]:
    warnings = [str(exposure) for exposure in found]
    for warning in warnings:
        _log.warning("%s", warning)
    return warnings


def _read_certificates(listeners: list[Listener]) -> "dict[TlsFiles, Certificates]":
    """Those of each listener, which several may share."""
    every = {it.tls for it in listeners if isinstance(it, TcpListener) and it.tls}
    if not every:
        return {}
    # Imported here, as it needs cryptography, which is slow to import.
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


def _expiries(certificates: "Mapping[TlsFiles, Certificates]") -> list[CertificateStatus]:
    """By their files, which listeners may share with different client CAs."""
    found = {str(files.cert): it for files, it in certificates.items()}
    return [
        CertificateStatus(file, it.current.not_after, it.load_error)
        for file, it in sorted(found.items())
    ]


async def _renew(reloaded: Iterable[ReloadingFile[Any]], asked: asyncio.Event) -> None:
    """Looks after the files for as long as it is let, at once when `asked`."""
    while True:
        with suppress(TimeoutError):
            await asyncio.wait_for(asked.wait(), _LOOK_SECONDS)
        aloud = asked.is_set()
        asked.clear()
        if aloud:
            systemd.reloading()
        for it in reloaded:
            # In a thread, as a volume may hang.
            try:
                await asyncio.to_thread(it.look, asked=aloud)
            except Exception:  # noqa: BLE001  (whatever it was, nothing else may end of it)
                _log.exception("internal error")
        if aloud:
            systemd.ready()


def _open_audit(settings: Settings, metrics: Metrics) -> AuditLog | None:
    if not settings.audit:
        return None
    try:
        return AuditLog(settings.audit.path, metrics)
    except OSError as error:
        raise SettingsError(
            [f"audit {settings.audit.file}: can't be written: {error.strerror}"]
        ) from error


def _follow_policy(file: Path, settings: Settings, guard: Authorizer) -> PolicyFile:
    try:
        return PolicyFile(file, settings.policy, guard)
    except PolicyError as error:
        raise SettingsError(error.problems) from error


def _warn_of_closed(settings: Settings, listeners: Iterable[Listener]) -> None:
    if settings.policy is None:
        for listener in listeners:
            if not listener.is_local:
                _log.warning(
                    "%s: nobody may do anything there without a policy: write one into --config",
                    listener,
                )


async def _sample(metrics: Metrics, certificates: "Iterable[Certificates]", server: Server) -> None:
    """Keeps up those that nobody reports, for as long as it is let."""
    metrics.sampled(lambda: metrics.calls_running.set(server.running))
    for it in certificates:
        metrics.follow_certificates(it)
    while True:
        metrics.sample()
        await asyncio.sleep(_LOOK_SECONDS)


async def _open_stores(settings: Settings, metrics: Metrics, tracing: Tracing | None) -> Stores:
    """Raises `SettingsError` for what can't be used as it is. A store that is down is no reason to
    stay down as well.
    """
    stores = _make_stores(settings, metrics, tracing)
    opening = (_opened(it, create=settings.create_stores) for it in stores)
    if problems := list(filter(None, await asyncio.gather(*opening))):
        raise SettingsError(problems)
    return Stores(stores)


async def make_keystores(settings: Settings, report: Callable[[str], None]) -> None:
    """Makes a keystore for each store on disk or S3 that has none, and reports a line about each.
    Raises `SettingsError`.
    """
    problems = []
    for store in _make_stores(settings, Metrics(), None):
        if isinstance(store.location, MemoryLocation):
            continue
        try:
            is_new = await store.open(create=True)
        except KekdError as error:
            problems.append(str(error))
        else:
            outcome = "made a keystore" if is_new else "there is one already"
            report(f"{store.name}: {outcome}")
    if problems:
        raise SettingsError(problems)


def _make_stores(settings: Settings, metrics: Metrics, tracing: Tracing | None) -> list[Store]:
    stores, problems = [], []
    for location in settings.locations:
        try:
            stores.append(_make_store(location, settings.s3_poll, metrics, tracing))
        except KekdError as error:
            problems.append(str(error))
    if problems:
        raise SettingsError(problems)
    return stores


async def _opened(store: Store, *, create: bool) -> str:
    """What is wrong with it, if that needs the operator."""
    try:
        async with asyncio.timeout(_OPENING_SECONDS):
            if await store.open(create=create):
                _log.info("%s: made a keystore", store.name)
    except StoreMisconfiguredError as error:
        return str(error)
    except (KekdError, TimeoutError):
        pass  # `Health` tells of it
    return ""


def _make_store(
    location: Location, s3_poll: float, metrics: Metrics, tracing: Tracing | None
) -> Store:
    name = str(location)
    measures = metrics.store(name)

    def measured(driver: Driver) -> Driver:
        return InstrumentedDriver(driver, name, measures, tracing)

    match location:
        case MemoryLocation():
            store = Store(location, measured(MemoryDriver()), threads=1)
        case DiskLocation(path=path):
            disk = DiskDriver(Path(path))
            measures.follow_lookups(lambda: disk.cache.hits, lambda: disk.cache.misses)
            store = Store(
                location,
                measured(disk),
                threads=_DISK_THREADS,
                write_concurrency=_PUSHING_THREADS,
                source=DiskSource(disk),
            )
        case S3Location():
            # Imported here, as most daemons have no S3 store and boto3 is slow to import.
            from kekd_server.storage.s3 import driver, watcher  # noqa: PLC0415

            client = driver.connect(location)
            s3_driver = driver.S3Driver(client, location, retried=measures.retried)
            store = Store(
                # With the region of AWS's chain, which callers may name.
                replace(location, region=client.meta.region_name),
                measured(s3_driver),
                threads=driver.CONNECTIONS,
                gets_per_task=1,
                write_concurrency=driver.CONNECTIONS // 2,  # which leaves some for everybody else
                source=watcher.S3Source(s3_driver, s3_poll),
            )
    measures.follow_corrupt(lambda: store.corrupt)
    measures.follow_watches(lambda: store.watchers, lambda: store.watches_dropped)
    return store


def _listed(items: list[Location] | list[Listener]) -> str:
    return ", ".join(str(item) for item in items)


def event_loop(settings: Settings) -> Callable[[], asyncio.AbstractEventLoop] | None:
    """That of uvloop for a daemon with a native listener, which comes with it; None for asyncio's
    own, so that an extra which is merely installed changes nothing.
    """
    if not any(listener.engine == "native" for listener in settings.listeners):
        return None
    if find_spec("uvloop") is None:
        return None
    import uvloop  # noqa: PLC0415  (an extra)

    return uvloop.new_event_loop
