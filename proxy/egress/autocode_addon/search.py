"""Looks for values in bytes that come in pieces."""

from __future__ import annotations

from collections.abc import Sequence


def held_length(data: bytes, values: Sequence[bytes]) -> int:
    """How many last bytes may be the beginning of one of the values: they wait for what follows."""
    longest = 0
    for value in values:
        for length in range(min(len(value) - 1, len(data)), longest, -1):
            if data.endswith(value[:length]):
                longest = length
                break
    return longest


class Watch:
    """Looks for values in what comes one after the other, also where they are cut in between."""

    def __init__(self, values: Sequence[bytes]) -> None:
        self._values = values
        self._held = b""

    def finds(self, data: bytes) -> bool:
        whole = self._held + data
        if any(value in whole for value in self._values):
            return True
        length = held_length(whole, self._values)
        self._held = whole[len(whole) - length :] if length else b""
        return False
