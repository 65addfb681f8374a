"""A change watcher that a test controls."""

import asyncio
from collections.abc import AsyncGenerator

from kekd_server.model.index_name import IndexName
from kekd_server.storage.watch.hub import Changes, RunInThread
from tests.unit.waiting import reached


class FakeWatcher:
    """Yields the polls that it is given."""

    def __init__(self, timeout: float = 60) -> None:
        self.timeout = timeout
        self.polls: asyncio.Queue[Changes | Exception] = asyncio.Queue()
        self.running = 0
        self.is_idle = False
        """Whether the hub has taken all polls and waits for the next."""

    def note_write(self, name: IndexName) -> None:
        """Does nothing."""

    async def poll(
        self,
        run_in_thread: RunInThread,  # noqa: ARG002
    ) -> AsyncGenerator[Changes, None]:
        self.running += 1
        try:
            while True:
                self.is_idle = self.polls.empty()
                poll = await self.polls.get()
                if isinstance(poll, Exception):
                    raise poll
                yield poll
        finally:
            self.running -= 1

    async def report(self, *polls: Changes | Exception) -> None:
        """Returns when the hub has taken them."""
        self.is_idle = False
        for poll in polls:
            self.polls.put_nowait(poll)
        await reached(lambda: self.is_idle or not self.running)
