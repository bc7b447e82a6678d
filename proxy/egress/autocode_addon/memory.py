"""What is held in memory of the bytes that pass: bounded for each session."""

from __future__ import annotations


class Room:
    """
    What may be held in memory for one session, all of its exchanges together. What is kept for the
    record has half of it at most: a message that cannot pass before it is whole always has a share.
    """

    def __init__(self, limit: int) -> None:
        self._left = limit
        self._record_left = limit // 2

    def hold(self, wanted: int) -> int:
        """How many of so many bytes may be held; they are to be given back."""
        granted = min(wanted, self._left)
        self._left -= granted
        return granted

    def give(self, count: int) -> None:
        self._left += count

    def hold_record(self, wanted: int) -> int:
        granted = self.hold(min(wanted, self._record_left))
        self._record_left -= granted
        return granted

    def give_record(self, count: int) -> None:
        self._record_left += count
        self.give(count)


class Kept:
    """Counts what passes and keeps the first bytes of it."""

    def __init__(self, limit: int, room: Room) -> None:
        self.count = 0
        self._held = 0
        self._limit = limit
        self._room = room
        self._pieces: list[bytes] = []

    def add(self, data: bytes) -> None:
        self.count += len(data)
        if self._limit == 0:
            return
        granted = self._room.hold_record(min(len(data), self._limit))
        self._held += granted
        # What is kept has no gap, also when there is room again.
        self._limit = self._limit - granted if granted == len(data) else 0
        if granted > 0:
            self._pieces.append(data[:granted])

    def leave(self) -> None:
        """Gives back the memory that it held, and keeps nothing of what comes after."""
        self._limit = 0
        self._room.give_record(self._held)
        self._held = 0

    def bytes(self) -> bytes:
        return self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
