"""Bodies on their way, in pieces: counted, kept, searched, and cut off where they must be."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from .exchange import Exchange
from .search import held_length

if TYPE_CHECKING:
    from .requests import Requests


class Outgoing:
    """A request's body on its way: counted, kept, searched for canaries, cut off where it must be."""

    def __init__(self, requests: Requests, exchange: Exchange) -> None:
        self._requests = requests
        self._exchange = exchange
        self._held = b""
        self._is_cut = False

    def __call__(self, data: bytes) -> bytes | list[bytes]:
        exchange = self._exchange
        if self._is_cut:
            return []
        if data:
            exchange.request.add(data)
            if exchange.request.count > exchange.request_max:
                return self._cut("request_too_large")
            if not exchange.is_declared:
                self._requests.bridge.tell("sent", client=exchange.client.key, byte_count=len(data))
                exchange.is_asked = True
        if not exchange.canaries:
            return data or []
        whole = self._held + data
        if any(canary in whole for canary in exchange.canaries):
            return self._cut("canary")
        length = held_length(whole, exchange.canaries) if data else 0
        self._held = whole[len(whole) - length :] if length else b""
        passed = whole[: len(whole) - length]
        # An empty chunk would be the end of a chunked body.
        return passed or []

    def _cut(self, reason: str) -> list[bytes]:
        self._is_cut = True
        self._requests.cut(self._exchange, reason)
        return []


class Incoming:
    """An answer's body on its way back: counted, kept, and scrubbed where something was put in."""

    def __init__(
        self,
        requests: Requests,
        exchange: Exchange,
        decode: Callable[[bytes], Iterator[bytes]] | None,
    ) -> None:
        self._requests = requests
        self._exchange = exchange
        self._decode = decode
        self._values = [value for value, _ in exchange.scrubs]
        self._held = b""
        self._is_cut = False

    def __call__(self, data: bytes) -> bytes | Iterator[bytes] | list[bytes]:
        if self._is_cut:
            return []
        if not self._values:
            return self._passed(data) if data else []
        return self._scrubbed(data)

    def _scrubbed(self, data: bytes) -> Iterator[bytes]:
        try:
            for plain in self._decode(data) if self._decode else (data,):
                yield from self._scrub(plain, False)
        except (zlib.error, ValueError, OSError, RuntimeError, EOFError) as error:
            self._is_cut = True
            self._requests.cut(self._exchange, "upstream_failed", f"its body does not decompress: {error}")
            return
        if not data:
            yield from self._scrub(b"", True)

    def _scrub(self, plain: bytes, is_end: bool) -> Iterator[bytes]:
        whole = self._held + plain
        for value, placeholder in self._exchange.scrubs:
            whole = whole.replace(value, placeholder)
        length = 0 if is_end else held_length(whole, self._values)
        self._held = whole[len(whole) - length :] if length else b""
        out = whole[: len(whole) - length]
        if out and not self._is_cut:
            passed = self._passed(out)
            if passed:
                yield passed

    def _passed(self, data: bytes) -> bytes:
        kept = self._exchange.response
        if kept.count + len(data) > self._exchange.response_max:
            self._is_cut = True
            self._requests.cut(self._exchange, "response_too_large")
            return b""
        kept.add(data)
        return data


def decoder(encoding: str) -> Callable[[bytes], Iterator[bytes]] | None:
    """What undoes a content-encoding piece by piece; None where there is nothing to undo."""
    if encoding in ("", "identity"):
        return None
    if encoding in ("gzip", "x-gzip", "deflate"):
        return inflater(encoding == "deflate")
    if encoding == "br":
        import brotli

        brotli_decoder = brotli.Decompressor()
        return lambda data: iter((brotli_decoder.process(data),)) if data else iter(())
    if encoding == "zstd":
        import zstandard

        zstd_decoder = zstandard.ZstdDecompressor().decompressobj()
        return lambda data: iter((zstd_decoder.decompress(data),)) if data else iter(())
    raise ValueError(f"no decoder for the content-encoding {encoding[:50]}")


def inflater(is_deflate: bool) -> Callable[[bytes], Iterator[bytes]]:
    """At most 256 KiB at a time, so that a bomb fills no memory."""
    state: list[Any] = [None]

    def inflate(data: bytes) -> Iterator[bytes]:
        while data:
            if state[0] is None:
                # "deflate" is zlib's format by the standard, and raw by some servers.
                is_raw = is_deflate and (data[0] & 0x0F) != 8
                state[0] = zlib.decompressobj(-15 if is_raw else 15 if is_deflate else 31)
            yield state[0].decompress(data, 2**18)
            data = state[0].unconsumed_tail
            if state[0].eof:
                data, state[0] = state[0].unused_data, None

    return inflate
