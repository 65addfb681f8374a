"""Measures five ratios in two minutes, for use before and after a change."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import kekd
from bench import bulk, contender, creates, daemon, empty, etcd, h2load, keystore, load, startup
from bench.contender import Contender
from bench.tables import Goal, Table, paired
from kekd_schema import encode

_NUMBER = 7
"""Of the envelope that is read."""
_SHAPE = (8, 8, 6_000)
"""Connections, streams per connection, and requests in a round."""
_ENVELOPES = 10_000
_ROUNDS = 5
_MAX_CPU_RATIO = 1.45
_MIN_ETCD_RATIO = 0.7


def tables(folder: Path) -> Iterator[Table]:
    root = keystore.fill(folder / "keystore", _ENVELOPES)
    yield _get_table(root, folder)
    with daemon.on_socket(root, "native") as server, kekd.Client(server.address) as client:
        server.wait_until_idle()
        yield bulk.batch_table({"native": client}, _ENVELOPES, _ROUNDS)
    yield creates.table(folder, ["native"], [32], _ROUNDS)
    yield startup.command_table(folder, _ROUNDS)


def _get_table(root: Path, folder: Path) -> Table:
    get = load.request_of(_NUMBER).SerializeToString()
    name, record = keystore.name_of(_NUMBER), encode(keystore.envelope_of(_NUMBER))
    with ExitStack() as stack:
        native = stack.enter_context(daemon.on_loopback(root, "native"))
        native.wait_until_idle()
        baseline = stack.enter_context(empty.on_loopback(folder, "native"))
        etcd_server = stack.enter_context(etcd.on_loopback(folder))
        etcd.put(etcd_server.address, name, record)
        contenders = []
        for title, server, method, request in (
            ("kekd", native, load.METHOD, get),
            ("empty handler", baseline, load.METHOD, get),
            ("etcd, linearizable", etcd_server, etcd.METHOD, etcd.request_of(name)),
        ):
            answer = load.ask(server.address, method, request)
            contenders.append(
                Contender(title, server, h2load.Load(method, request, answer, *_SHAPE))
            )
        contender.measure(contenders, _ROUNDS, folder)
    own, handler, rival = contenders
    return Table(
        "GetEnvelope of one name, engine native, 64 in flight",
        contender.HEADER,
        (
            *(each.row() for each in contenders),
            own.ratios(handler, "kekd ÷ empty handler"),
            own.ratios(rival, "kekd ÷ etcd, linearizable"),
        ),
        [
            Goal(
                "CPU time of GetEnvelope ÷ empty handler, 64 in flight",
                paired(own.cpu, handler.cpu),
                "at most",
                _MAX_CPU_RATIO,
            ),
            Goal(
                "requests/s of GetEnvelope ÷ etcd linearizable, 64 in flight",
                paired(own.rates, rival.rates),
                "at least",
                _MIN_ETCD_RATIO,
            ),
        ],
    )
