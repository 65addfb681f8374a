"""Permission to add versions of a backup to the history of an index."""

from collections.abc import Sequence

from kekd_server.access.audit.audited_store import StoreWriter
from kekd_server.access.grants.grant import Grant
from kekd_server.storage.history.version import Version
from kekd_server.storage.history.version_import import ImportedEnvelope


class ImportGrant(Grant):
    method = "import-history"
    __slots__ = ()

    async def import_versions(self, versions: Sequence[ImportedEnvelope]) -> Sequence[Version]:
        """Adds the versions that the index doesn't have, and returns them. The audit log gets
        them.
        """

        async def import_versions(store: StoreWriter) -> Sequence[Version]:
            owner = self._request.principal.identity
            added = await store.versions.import_versions(self._name, versions, owner=owner)
            self._record.imported = added
            return added

        return await self._write(import_versions)
