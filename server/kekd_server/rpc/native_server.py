"""pygrpc-native's asyncio server, which answers some calls without a task.

This module uses undocumented names of pygrpc-native. `is_supported` checks that they exist;
otherwise pygrpc-native's own loop serves.
"""

from collections.abc import Sequence
from typing import Any, Final

from pygrpc_native import aio
from pygrpc_native._native import EVENT_CALL

from kekd_server.rpc.answer_now import AnswerNow, AnswerNowServer

_METHODS: Final = ("_dispatch", "_on_events", "_request")


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
        if remaining := [event for event in map(self._answer, events) if event]:
            super()._on_events(remaining)

    def _answer(self, event: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """Returns the event for the ordinary path, or None if the call is answered."""
        kind, call_id, method_id, request, _, details = event
        answer_now = self._by_number.get(method_id)
        if kind != EVENT_CALL or answer_now is None:
            return event
        try:
            answer = answer_now.answer(request, details[1])
            if answer is None:
                return event
            self._front.respond(call_id, answer)  # type: ignore[union-attr]
        except Exception as error:  # noqa: BLE001  (the handler answers it)
            return (*event[:3], error, *event[4:])
        return None

    def _request(self, call: Any, payload: bytes | Exception) -> tuple[bool, Any]:
        """Doesn't parse an exception that `_answer` put in place of a request."""
        if isinstance(payload, Exception):
            return True, payload
        return super()._request(call, payload)
