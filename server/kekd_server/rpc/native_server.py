"""pygrpc-native's asyncio server, which answers some calls without a task.

This module uses undocumented names of pygrpc-native. `is_supported` checks that they exist;
otherwise pygrpc-native's own loop serves.
"""

from collections.abc import Sequence
from typing import Any, Final

from pygrpc_native import aio
from pygrpc_native._native import EVENT_CALL

from kekd_server.rpc.answer_now import AnswerNow, AnswerNowServer

_METHODS: Final = ("_dispatch", "_on_events")


def is_supported() -> bool:
    return all(hasattr(aio.Server, name) for name in _METHODS)


class NativeServer(AnswerNowServer, aio.Server):
    def __init__(self, options: Sequence[tuple[str, Any]]) -> None:
        AnswerNowServer.__init__(self)
        aio.Server.__init__(self, options=options)
        self._by_number: dict[int, AnswerNow] = {}

    async def start(self) -> None:
        await super().start()
        self._by_number = {
            number: self.answers_now[path]
            for number, (path, _) in enumerate(self._table)
            if path in self.answers_now
        }

    def _on_events(self, events: list[tuple[Any, ...]]) -> None:
        if remaining := [event for event in events if not self._is_answered(event)]:
            super()._on_events(remaining)

    def _is_answered(self, event: tuple[Any, ...]) -> bool:
        kind, call_id, method_id, request, _, details = event
        answer_now = self._by_number.get(method_id)
        if kind != EVENT_CALL or answer_now is None:
            return False
        answer = answer_now.answer(request, details[1])
        if answer is None:
            return False
        self._front.respond(call_id, answer)  # type: ignore[union-attr]
        return True
