"""
Questions and notices to Node over the unix socket of the option `autocode_bridge` (the protocol is
in bridge-frames.ts).
"""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Callable, Sequence
from typing import Any

PROTOCOL_VERSION = 1
GONE = "the bridge is gone"

Parts = Sequence[bytes]


class BridgeGone(Exception):
    """Nobody answers: nothing may be let through."""


class Bridge:
    """Questions and notices to Node, many at once over one socket."""

    def __init__(self, on_notice: Callable[[dict[str, Any]], None], on_end: Callable[[], None]):
        self._on_notice = on_notice
        self._on_end = on_end
        self._waiting: dict[int, asyncio.Future[tuple[dict[str, Any], bytes]]] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._last_id = 0
        self._reading: asyncio.Task[None] | None = None

    async def open(self, path: str) -> None:
        reader, self._writer = await asyncio.open_unix_connection(path, limit=2**20)
        self._reading = asyncio.create_task(self._read(reader))

    async def ask(self, kind: str, parts: Parts = (), **fields: Any) -> tuple[dict[str, Any], bytes]:
        """The answer and its bytes. Raises BridgeGone."""
        self._last_id += 1
        id = self._last_id
        answer = asyncio.get_running_loop().create_future()
        self._waiting[id] = answer
        try:
            self._write({"kind": kind, "id": id, **fields}, parts)
            return await answer
        finally:
            self._waiting.pop(id, None)

    def tell(self, kind: str, parts: Parts = (), **fields: Any) -> None:
        """Nothing comes back; what cannot be told any more is dropped, as this process ends."""
        try:
            self._write({"kind": kind, **fields}, parts)
        except BridgeGone:
            pass

    def _write(self, message: dict[str, Any], parts: Parts) -> None:
        if self._writer is None or self._writer.is_closing():
            raise BridgeGone(GONE)
        if parts:
            message["parts"] = [len(part) for part in parts]
        head = json.dumps(message, separators=(",", ":")).encode()
        size = len(head) + sum(len(part) for part in parts)
        self._writer.write(b"".join((struct.pack(">II", size, len(head)), head, *parts)))

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while True:
                size, head_size = struct.unpack(">II", await reader.readexactly(8))
                frame = await reader.readexactly(size)
                message = json.loads(frame[:head_size])
                answer = self._waiting.get(message.get("id", 0))
                if answer is None:
                    self._on_notice(message)
                elif not answer.done():
                    answer.set_result((message, frame[head_size:]))
        except (asyncio.IncompleteReadError, OSError, ValueError):
            pass
        finally:
            if self._writer is not None:
                self._writer.close()
            self._writer = None
            for answer in self._waiting.values():
                if not answer.done():
                    answer.set_exception(BridgeGone(GONE))
            self._on_end()
