"""Permission to hold, release or destroy the envelope of an index, with its versions."""

import time

from kekd_server.access.audit.audited_store import StoreWriter
from kekd_server.access.grants.grant import Grant
from kekd_server.storage.history.destruction import Destruction
from kekd_server.storage.history.hold import Hold
from kekd_server.storage.writes.attempt import WriteAttempt


class HoldGrant(Grant):
    method = "hold"
    __slots__ = ()

    async def hold(self, reason: str) -> None:
        """Protects the envelope and its versions. The audit log gets the reason."""
        owner = self._request.principal.identity
        self._record.justification = reason

        async def hold(store: StoreWriter) -> None:
            await store.versions.hold(self._name, Hold(reason, owner, time.time_ns()), owner=owner)

        await self._write(hold)


class ReleaseGrant(Grant):
    method = "release"
    __slots__ = ()

    async def release(self) -> bool:
        """Ends the protection; returns whether there was one."""

        async def release(store: StoreWriter) -> bool:
            return await store.versions.release(self._name, owner=self._request.principal.identity)

        return await self._write(release)


class DestroyGrant(Grant):
    method = "destroy"
    __slots__ = ()

    async def destroy(
        self, reason: str, *, if_etag: str | None, attempt: WriteAttempt | None
    ) -> Destruction:
        """Removes the envelope and its versions. The audit log gets the reason and the receipt."""
        self._record.justification = reason

        async def destroy(store: StoreWriter) -> Destruction:
            owner = self._request.principal.identity
            destroyed = await store.versions.destroy(
                self._name, if_etag=if_etag, owner=owner, attempt=attempt
            )
            self._record.destruction = destroyed
            return destroyed

        return await self._write(destroy)
