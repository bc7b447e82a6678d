"""A worker, and one request of its with the answer while they pass."""

from __future__ import annotations

from typing import Any

from mitmproxy import http

from .memory import Kept, Room
from .search import Watch

MESSAGE_MAX = 16 * 2**20


class Client:
    """A worker's connection."""

    def __init__(self, key: int, peer: str) -> None:
        self.key = key
        self.peer = peer
        # By what is to be connected to: the addresses that were checked.
        self.addresses: dict[tuple[str, int], tuple[str, ...]] = {}


class Exchange:
    """A request and its answer while they pass."""

    def __init__(self, id: int, client: Client, flow: http.HTTPFlow, limit: int, room: Room) -> None:
        self.id = id
        self.client = client
        self.flow = flow
        self.fault: tuple[str, str | None] | None = None
        self._room = room
        self._has_left = False
        self.request = Kept(limit, room)
        self.response = Kept(limit, room)
        self.scrubs: list[tuple[bytes, bytes]] = []
        self.canaries: list[bytes] = []
        self.request_max = 0
        self.response_max = 0
        self.is_told = False
        self.is_declared = True
        # The worker asked for its connection to end with this; what is sent on does not say so.
        self.is_last = False
        # Bytes were told as they left: before the end leaves it is asked whether they might.
        self.is_asked = False
        self.messages: list[dict[str, Any]] = []
        self.message_parts: list[bytes] = []
        self.message_room = 0
        self._messages_held = 0
        # By who sent it: of a WebSocket's message that is not whole yet.
        self._parts = {True: 0, False: 0}
        # By who sent it: of a WebSocket's messages, and of control frames between them as well.
        self.watches: dict[bool, tuple[Watch, Watch]] = {}

    def is_over(self) -> bool:
        """Whether its end was told, or needs no telling; from now on it does not."""
        was_over = self.is_told
        self.is_told = True
        return was_over

    def hold_message(self, content: bytes) -> bytes:
        """What of a message is kept for the record."""
        kept = content[: self._room.hold_record(min(len(content), self.message_room))]
        self._messages_held += len(kept)
        self.message_room -= len(kept)
        return kept

    def hold_part(self, from_client: bool, size: int, is_end: bool) -> bool:
        """Whether there is memory for so much more of a message that is not whole."""
        granted = 0 if self._has_left else self._room.hold(size)
        self._parts[from_client] += granted
        is_held = granted == size and self._parts[from_client] <= MESSAGE_MAX
        if is_end or not is_held:
            self._room.give(self._parts[from_client])
            self._parts[from_client] = 0
        return is_held

    def leave(self) -> None:
        """Gives back the memory that it held."""
        if not self._has_left:
            self._has_left = True
            self.request.leave()
            self.response.leave()
            self.message_room = 0
            self._room.give_record(self._messages_held)
            self._room.give(sum(self._parts.values()))
            self._parts = {True: 0, False: 0}
