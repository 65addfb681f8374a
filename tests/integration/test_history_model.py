"""Random writes by two daemons and CyborgDB: every version restores to the byte.

HISTORY_RUNS=100 pytest makes 10,000 steps.
"""

import os
import random
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import cyborgdb_core
import grpc
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

import kekd
from kekd_proto.v1 import envelope_pb2 as pb
from kekd_proto.v1.envelope_pb2_grpc import EnvelopeServiceStub
from tests.fixtures.daemon import Daemon, StartDaemon

NAMES: Final = ("a", "b/c", "é")
STEPS: Final = 100
RUNS: Final = int(os.environ.get("HISTORY_RUNS", "10"))


@dataclass
class Model:
    """What each index should have: its versions, oldest first; None is a deletion."""

    versions: dict[str, list[bytes | None]] = field(
        default_factory=lambda: {name: [] for name in NAMES}
    )

    def current(self, name: str) -> bytes | None:
        return self.versions[name][-1] if self.versions[name] else None


def blob(kek: bytes) -> pb.KMSBlob:
    return pb.KMSBlob(provider="aws-kms", key_id="k", wrapped_kek=kek)


def envelope(kek: bytes) -> kekd.KMSBlob:
    return kekd.KMSBlob(provider="aws-kms", key_id="k", wrapped_kek=kek)


def _portable(version: kekd.EnvelopeVersion) -> tuple[object, ...]:
    """Each store makes its own ids, and etags of the records that it encodes."""
    return version.event, version.time, version.caller, version.blob


class HistoryMachine(RuleBasedStateMachine):
    daemons: list[Daemon]
    clients: list[kekd.Client]
    target: kekd.Client
    root: Path
    number = 0

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.stubs: list[Any] = [
            EnvelopeServiceStub(grpc.insecure_channel(daemon.address)) for daemon in self.daemons
        ]
        self.foreign = cyborgdb_core.StorageConfig.disk(str(self.root))
        for name in NAMES:
            self.stubs[0].DestroyEnvelope(pb.DestroyEnvelopeRequest(index_name=name, reason="test"))

    def _next(self) -> bytes:
        HistoryMachine.number += 1
        return b"kek %d" % HistoryMachine.number

    @rule(name=st.sampled_from(NAMES), daemon=st.integers(0, 1))
    def push(self, name: str, daemon: int) -> None:
        kek = self._next()
        self.stubs[daemon].PushEnvelope(pb.PushEnvelopeRequest(index_name=name, blob=blob(kek)))
        self.model.versions[name].append(kek)

    @rule(name=st.sampled_from(NAMES), daemon=st.integers(0, 1))
    def delete(self, name: str, daemon: int) -> None:
        self.stubs[daemon].DeleteEnvelope(pb.DeleteEnvelopeRequest(index_name=name))
        if self.model.current(name) is not None:
            self.model.versions[name].append(None)

    @rule(name=st.sampled_from(NAMES), daemon=st.integers(0, 1))
    def undelete(self, name: str, daemon: int) -> None:
        versions = self.model.versions[name]
        if not versions or versions[-1] is not None:
            return
        self.stubs[daemon].UndeleteEnvelope(pb.UndeleteEnvelopeRequest(index_name=name))
        versions.append(next(kek for kek in reversed(versions) if kek is not None))

    @rule(name=st.sampled_from(NAMES), daemon=st.integers(0, 1), choice=st.randoms())
    def restore(self, name: str, daemon: int, choice: random.Random) -> None:
        listed = [version for version in self._list(name, daemon) if version.HasField("blob")]
        if not listed:
            return
        version = choice.choice(listed)
        request = pb.RestoreEnvelopeRequest(index_name=name, version_id=version.version_id)
        self.stubs[daemon].RestoreEnvelope(request)
        self.model.versions[name].append(version.blob.wrapped_kek)

    @rule(name=st.sampled_from(NAMES), daemon=st.integers(0, 1))
    def push_by_cyborgdb(self, name: str, daemon: int) -> None:
        self._push_by_cyborgdb(name)
        self._list(name, daemon)  # kekd notices it before the next foreign write

    def _push_by_cyborgdb(self, name: str) -> None:
        kek = self._next()
        cyborgdb_core.push_index_kms(
            self.foreign,
            name,
            cyborgdb_core.KMSBlob(provider="aws-kms", key_id="k", wrapped_kek=kek),
        )
        self.model.versions[name].append(kek)

    @rule(name=st.sampled_from(NAMES), daemon=st.integers(0, 1))
    def delete_by_cyborgdb(self, name: str, daemon: int) -> None:
        cyborgdb_core.delete_index_kms(self.foreign, name)
        if self.model.current(name) is not None:
            self.model.versions[name].append(None)
        self._list(name, daemon)

    @rule(name=st.sampled_from(NAMES), daemon=st.integers(0, 1))
    def push_over_a_record_of_cyborgdb(self, name: str, daemon: int) -> None:
        """No look at the versions comes between both."""
        self._push_by_cyborgdb(name)
        self.push(name, daemon)

    @rule(name=st.sampled_from(NAMES), daemon=st.integers(0, 1))
    def move_to_another_store(self, name: str, daemon: int) -> None:
        """Exports the versions of an index, and imports them into an empty store."""
        exported = list(self.clients[daemon].list_versions_index_kms(None, name, full=True))
        self.target.destroy_index_kms(None, name, reason="test")
        if (current := self.model.current(name)) is not None:
            self.target.create_index_kms(None, name, envelope(current))
        imported = self.target.import_versions_index_kms(None, name, exported)
        assert imported == len(exported)
        versions = list(self.target.list_versions_index_kms(None, name, full=True))
        if current is not None:
            assert versions.pop(0).blob == envelope(current)
        assert [_portable(version) for version in versions] == [
            _portable(version) for version in exported
        ]

    @invariant()
    def every_version_is_kept(self) -> None:
        name = NAMES[HistoryMachine.number % len(NAMES)]
        listed = [
            version.blob.wrapped_kek if version.HasField("blob") else None
            for version in self._list(name, HistoryMachine.number % 2)
        ]
        assert listed == self.model.versions[name][::-1]

    def _list(self, name: str, daemon: int) -> list[pb.EnvelopeVersion]:
        request = pb.ListEnvelopeVersionsRequest(index_name=name, view=pb.ENVELOPE_VIEW_FULL)
        return list(self.stubs[daemon].ListEnvelopeVersions(request).versions)


@pytest.fixture
def machine(start_daemon: StartDaemon, tmp_path: Path) -> Iterator[type[HistoryMachine]]:
    HistoryMachine.root = tmp_path / "keystore"
    flags = ("--history-versions", "1000")
    disk = ("--disk", str(HistoryMachine.root))
    HistoryMachine.daemons = [start_daemon(*disk, *flags, name=name) for name in ("one", "two")]
    target = start_daemon("--disk", str(tmp_path / "target"), *flags, name="target")
    with ExitStack() as stack:
        HistoryMachine.clients = [
            stack.enter_context(kekd.Client(daemon.address)) for daemon in HistoryMachine.daemons
        ]
        HistoryMachine.target = stack.enter_context(kekd.Client(target.address))
        yield HistoryMachine


@pytest.mark.slow
def test_every_version_restores_to_the_byte(machine: type[HistoryMachine]) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=RUNS,
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
