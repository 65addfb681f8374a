"""Clients that are closed, shared or cancelled."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import kekd
from tests.fixtures.daemon import Daemon
from tests.integration.client.blocking import OpenClient
from tests.integration.client.calls import BLOB, CALLS
from tests.integration.fixtures.proxy import Proxy, lose_answer, say_nothing
from tests.patience import PATIENCE


def test_call_after_close_opens_another_connection(client: kekd.Client, index: str) -> None:
    client.close()
    client.create_index_kms(None, index, BLOB)
    client.close()
    client.close()
    assert client.get_index_kms(None, index) == BLOB


def test_end_of_a_with_statement_closes_the_connection(
    open_client: OpenClient, proxy: Proxy, index: str
) -> None:
    ended = threading.Event()

    def wait_for_end(caller: Any, server: Any) -> None:
        lose_answer(caller, server)
        ended.set()

    proxy.set_faults(wait_for_end)
    with open_client(proxy.address) as client:
        client.push_index_kms(None, index, BLOB)
    assert ended.wait(PATIENCE)


def test_threads_can_share_a_client(client: kekd.Client, index: str) -> None:
    start = threading.Barrier(32)

    def work(number: int) -> None:
        name = f"{index}-{number}"
        start.wait()
        for version in range(1, 21):
            blob = kekd.KMSBlob(name, "none", version=version)
            etag = client.push_index_kms(None, name, blob)
            stored = client.get_index_kms(None, name)
            assert (stored, stored.etag) == (blob, etag)

    with ThreadPoolExecutor(32) as threads:
        for done in [threads.submit(work, number) for number in range(32)]:
            done.result()


def test_close_during_calls_of_threads_raises_unavailable(
    shared_daemon: Daemon, index: str
) -> None:
    client = kekd.Client(shared_daemon.address)
    over = threading.Event()

    def work() -> None:
        while not over.is_set():
            try:
                client.push_index_kms(None, index, BLOB)
            except kekd.EnvelopeError:
                continue

    with ThreadPoolExecutor(8) as threads:
        working = [threads.submit(work) for _ in range(8)]
        for _ in range(200):
            client.close()
            client.push_index_kms(None, index, BLOB)
        over.set()
        for done in working:
            done.result()
    client.close()


@pytest.mark.parametrize("name", ["create", "get"])
def test_close_during_a_call_raises_unavailable(
    distant: kekd.Client, proxy: Proxy, index: str, name: str
) -> None:
    proxy.set_faults(then=say_nothing)
    with ThreadPoolExecutor() as threads:
        call = threads.submit(CALLS[name], distant, index)
        proxy.wait_for_connection()
        distant.close()
        with pytest.raises(kekd.UnavailableError, match="was closed during"):
            call.result(timeout=PATIENCE)


async def test_close_during_calls_of_tasks_raises_unavailable(
    shared_daemon: Daemon, index: str
) -> None:
    over = asyncio.Event()

    async def work() -> None:
        while not over.is_set():
            try:
                await client.push_index_kms(None, index, BLOB)
            except kekd.UnavailableError:
                continue

    async with kekd.AsyncClient(shared_daemon.address) as client:
        working = [asyncio.create_task(work()) for _ in range(8)]
        for _ in range(200):
            await client.close()
            await client.push_index_kms(None, index, BLOB)
        over.set()
        await asyncio.gather(*working)


@pytest.mark.parametrize("closes", [False, True], ids=["open", "closed meanwhile"])
async def test_cancelled_task_raises_cancelled(proxy: Proxy, index: str, closes: bool) -> None:
    proxy.set_faults(then=say_nothing)
    async with kekd.AsyncClient(proxy.address) as client:
        task = asyncio.create_task(client.get_index_kms(None, index))
        await asyncio.to_thread(proxy.wait_for_connection)
        task.cancel()
        if closes:
            await client.close()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_asyncio_timeout_ends_a_call(proxy: Proxy, index: str) -> None:
    proxy.set_faults(then=say_nothing)
    async with kekd.AsyncClient(proxy.address) as client:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await client.get_index_kms(None, index)


@pytest.mark.parametrize("cache", [False, True])
def test_async_client_after_a_closed_loop_works_in_another(
    shared_daemon: Daemon, index: str, cache: bool
) -> None:
    client = kekd.AsyncClient(shared_daemon.address, cache=cache)
    asyncio.run(client.push_index_kms(None, index, BLOB))
    for _ in range(2):
        assert asyncio.run(client.get_index_kms(None, index)) == BLOB
    asyncio.run(client.close())
    assert asyncio.run(client.get_index_kms(None, index)) == BLOB


def test_cache_of_an_async_client_restarts_in_another_loop(
    shared_daemon: Daemon, index: str
) -> None:
    client = kekd.AsyncClient(shared_daemon.address, cache=True)

    async def is_served_from_memory() -> bool:
        await client.push_index_kms(None, index, BLOB)
        async with asyncio.timeout(PATIENCE):
            while not (client._caches and client._caches.get(None, index)):
                await client.get_index_kms(None, index)
        return True

    for _ in range(2):
        assert asyncio.run(is_served_from_memory())


def test_async_client_of_another_open_loop_raises(shared_daemon: Daemon, index: str) -> None:
    client = kekd.AsyncClient(shared_daemon.address)
    with asyncio.Runner() as runner:
        runner.run(client.push_index_kms(None, index, BLOB))
        with pytest.raises(RuntimeError, match="belongs to another one that is still open"):
            asyncio.run(client.get_index_kms(None, index))
        assert runner.run(client.get_index_kms(None, index)) == BLOB
    assert asyncio.run(client.get_index_kms(None, index)) == BLOB
