"""
mitmproxy's part of the egress proxy: it carries bytes and decides nothing. Whatever may be done with
a connection, a TLS hello or a request it asks our Node process, over the unix socket of the option
`autocode_bridge` (the protocol is in bridge-frames.ts), and does what the answer says.

Invariants: a server is connected to at an address of an answer alone, and no name is resolved here.
Without the bridge nothing is let through, and this process ends. The authority's key comes over the
bridge and lies on no disk. No body is held: it is streamed, and its first bytes are kept.
"""

from __future__ import annotations

import asyncio
import contextvars
import ipaddress
import json
import os
import re
import socket
import struct
import sys
import time
import weakref
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import h2.utilities
import h11
import wsproto.events
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from mitmproxy import certs, connection, ctx, flow as mitmflow, http, tcp, tls
from mitmproxy.net.http.http1 import expected_http_body_size
from mitmproxy.net.tls import starts_like_tls_record
from mitmproxy.proxy.mode_specs import TransparentMode
from mitmproxy.proxy import commands, events, layer, layers, server_hooks
from mitmproxy.proxy.layers import modes
from mitmproxy.proxy.layers.http import DropStream, HTTPMode, HttpStream, ReceiveHttp, SendHttp
from mitmproxy.proxy.layers.http._events import (
    RequestData,
    RequestEndOfMessage,
    RequestHeaders,
    RequestProtocolError,
    RequestTrailers,
    ResponseData,
    ResponseEndOfMessage,
    ResponseHeaders,
    ResponseProtocolError,
    ResponseTrailers,
)
from mitmproxy.proxy.layers.http._hooks import HttpErrorHook
from mitmproxy.proxy.layers.http._http1 import Http1Client, Http1Connection, Http1Server
from mitmproxy.proxy.layers.tls import parse_client_hello
from mitmproxy.proxy.layers.websocket import WebsocketConnection

PROTOCOL_VERSION = 1
# What a client that was refused may still send before it is cut off.
REFUSED_BODY_MAX = 16 * 2**20
HELLO_MAX = 64 * 2**10
LINGER_S = 2
HEAD_MAX = 64 * 2**10
REQUEST_LINE = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100} [!-~\x80-\xff]+ HTTP/1\.[01]")
HEADER_LINE = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:")
LEAVES_MAX = 1000
MESSAGES_MAX = 10_000
MESSAGE_MAX = 16 * 2**20
# Connections that nobody has said his name on: the oldest makes room for a new one.
STRANGERS_MAX = 1000
LEAF_RENEWED_S = 7 * 86_400
ENCRYPTED_CLIENT_HELLO = 0xFE0D
GONE = "the bridge is gone"
# Of a WebSocket (RFC 6455, 7.4.1).
CLOSED_BY_POLICY = 1008
CLOSED_TOO_BIG = 1009
# At least so many bytes go before what a frame carries (RFC 6455, 5.2): also before nothing.
FRAME_HEAD = 6
NEVER_IN_TRAILERS = frozenset(
    b"connection keep-alive proxy-connection proxy-authenticate proxy-authorization te "
    b"transfer-encoding upgrade http2-settings host content-length content-encoding content-type "
    b"content-range trailer authorization cookie set-cookie expect range cache-control location".split()
)
# A body that was scrubbed has another length, and is no longer encoded.
UNTRUE_OF_SCRUBBED = ("content-length", "content-encoding", "content-md5", "digest", "etag")
# What is needed: everything else of mitmproxy's own is taken out, and costs nothing then.
KEPT_ADDONS = ("core", "scriptloader", "proxyserver", "tlsconfig", "disableh2c", "termlog", "errorcheck")

Parts = Sequence[bytes]
HeaderPairs = list[tuple[str, str]]

ADDRESSES: contextvars.ContextVar[tuple[str, ...]] = contextvars.ContextVar("addresses", default=())


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


class Client:
    """A worker's connection."""

    def __init__(self, key: int, peer: str) -> None:
        self.key = key
        self.peer = peer
        # By what is to be connected to: the addresses that were checked.
        self.addresses: dict[tuple[str, int], tuple[str, ...]] = {}


class Leaves:
    """Certificates of our authority for what workers ask for, in place of mitmproxy's own."""

    def __init__(self, authority_pem: str, key_pem: str) -> None:
        self._authority = certs.Cert(x509.load_pem_x509_certificate(authority_pem.encode()))
        self._key: Any = load_pem_private_key(key_pem.encode(), None)
        self._known: dict[str, tuple[float, certs.CertStoreEntry]] = {}

    def of(self, context: Any) -> certs.CertStoreEntry:
        name = context.client.sni or context.server.address[0]
        known = self._known.get(name)
        if known is not None and known[0] > time.time():
            return known[1]
        try:
            host: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(name))
        except ValueError:
            host = x509.DNSName(name)
        leaf = certs.dummy_cert(self._key, self._authority.to_cryptography(), name, [host])
        entry = certs.CertStoreEntry(leaf, self._key, None, [self._authority])
        if len(self._known) >= LEAVES_MAX:
            self._known.pop(next(iter(self._known)))
        self._known[name] = (time.time() + LEAF_RENEWED_S, entry)
        return entry


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


class Outgoing:
    """A request's body on its way: counted, kept, searched for canaries, cut off where it must be."""

    def __init__(self, addon: Addon, exchange: Exchange) -> None:
        self._addon = addon
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
                self._addon.bridge.tell("sent", client=exchange.client.key, byte_count=len(data))
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
        self._addon.cut(self._exchange, reason)
        return []


class Incoming:
    """An answer's body on its way back: counted, kept, and scrubbed where something was put in."""

    def __init__(self, addon: Addon, exchange: Exchange, decode: Callable[[bytes], Iterator[bytes]] | None):
        self._addon = addon
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
            self._addon.cut(self._exchange, "upstream_failed", f"its body does not decompress: {error}")
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
            self._addon.cut(self._exchange, "response_too_large")
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


class Closed(layer.Layer):
    """The end of a connection that was refused."""

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        if isinstance(event, events.Start):
            yield commands.CloseConnection(self.context.client)


def patch_mitmproxy() -> None:
    """What mitmproxy has no hook for; each of these stands in the version that is pinned."""
    drop_refused_bodies()
    note_empty_requests()
    frame_bodies()
    carry_trailers()
    tell_failures()
    # Names that disagree are refused by Node, readably; h2 would break off without a word.
    h2.utilities._check_host_authority_header = lambda headers, flags: headers


def drop_refused_bodies() -> None:
    """The whole body of a request that an addon has answered already would be held in memory."""
    original = HttpStream.state_consume_request_body

    def consume(self: HttpStream, event: events.Event) -> layer.CommandGenerator[None]:
        if isinstance(event, RequestData) and self.flow.response is not None:
            dropped = self.flow.metadata.get("dropped", 0) + len(event.data)
            self.flow.metadata["dropped"] = dropped
            if dropped > REFUSED_BODY_MAX:
                yield commands.CloseConnection(self.context.client)
            return
        yield from original(self, event)

    HttpStream.state_consume_request_body = consume  # type: ignore[method-assign]


def note_empty_requests() -> None:
    """HTTP/2 says with the head whether a body follows; no hook is told."""
    original = HttpStream.state_wait_for_request_headers

    def wait(self: HttpStream, event: RequestHeaders) -> layer.CommandGenerator[None]:
        event.request.is_empty = event.end_stream  # type: ignore[attr-defined]
        yield from original(self, event)

    HttpStream.state_wait_for_request_headers = wait  # type: ignore[method-assign]


def frame_bodies() -> None:
    """A body of HTTP/2 without a length would have no end in HTTP/1, and be the next request."""
    original = Http1Client.send

    def send(self: Http1Client, event: Any) -> layer.CommandGenerator[None]:
        if isinstance(event, RequestHeaders) and not event.end_stream:
            headers = event.request.headers
            if event.request.is_http2 and "content-length" not in headers:
                headers["transfer-encoding"] = "chunked"
        yield from original(self, event)

    Http1Client.send = send  # type: ignore[method-assign]


def carry_trailers() -> None:
    """In HTTP/1 mitmproxy stops at a trailer, and never sends one."""
    read_body = Http1Connection.read_body

    class Reader:
        """A body's reader that keeps the trailers apart."""

        def __init__(self, reader: Any) -> None:
            self._reader = reader
            self.trailers: list[tuple[bytes, bytes]] = []

        def __call__(self, buffer: Any) -> Any:
            event = self._reader(buffer)
            if isinstance(event, h11.EndOfMessage) and event.headers:
                self.trailers = [
                    (name, value) for name, value in event.headers if name not in NEVER_IN_TRAILERS
                ]
                return h11.EndOfMessage()
            return event

        def read_eof(self) -> Any:
            return self._reader.read_eof()

    def read(self: Http1Connection, event: events.Event) -> layer.CommandGenerator[None]:
        if not isinstance(self.body_reader, Reader):
            self.body_reader = Reader(self.body_reader)
        reader = self.body_reader
        for command in read_body(self, event):
            if reader.trailers and isinstance(command, ReceiveHttp):
                ended = command.event
                if isinstance(ended, (RequestEndOfMessage, ResponseEndOfMessage)):
                    is_request = isinstance(ended, RequestEndOfMessage)
                    kind = RequestTrailers if is_request else ResponseTrailers
                    yield ReceiveHttp(kind(ended.stream_id, http.Headers(reader.trailers)))
            yield command

    def sending(
        original: Callable[[Any, Any], layer.CommandGenerator[None]],
    ) -> Callable[[Any, Any], layer.CommandGenerator[None]]:
        def send(self: Any, event: Any) -> layer.CommandGenerator[None]:
            if isinstance(event, (RequestTrailers, ResponseTrailers)):
                self.held_trailers = event.trailers
                return
            held = getattr(self, "held_trailers", None)
            if held is None or not isinstance(event, (RequestEndOfMessage, ResponseEndOfMessage)):
                yield from original(self, event)
                return
            self.held_trailers = None
            lines = b"".join(b"%s: %s\r\n" % field for field in held.fields)
            for command in original(self, event):
                if isinstance(command, commands.SendData) and command.data == b"0\r\n\r\n":
                    command.data = b"0\r\n" + lines + b"\r\n"
                yield command

        return send

    Http1Connection.read_body = read  # type: ignore[method-assign]
    Http1Server.send = sending(Http1Server.send)  # type: ignore[method-assign]
    Http1Client.send = sending(Http1Client.send)  # type: ignore[method-assign]


def refuse_heads(addon: Addon) -> None:
    """mitmproxy's parser is lenient where servers differ: what it would forgive is refused."""
    original = Http1Server.read_headers

    def read(self: Http1Server, event: events.ConnectionEvent) -> layer.CommandGenerator[None]:
        fault = head_fault(bytes(self.buf)) if isinstance(event, events.DataReceived) else None
        if fault is None:
            yield from original(self, event)
            return
        yield commands.SendData(self.conn, addon.refuse_head(self.context, fault))
        yield commands.CloseConnection(self.conn)
        self.state = self.done

    Http1Server.read_headers = read  # type: ignore[method-assign]


def watch_controls(addon: Addon) -> None:
    """A WebSocket's pings, pongs and closes carry bytes, too; no hook is told of them."""
    relay_messages = layers.WebsocketLayer.relay_messages
    events_of = WebsocketConnection.events

    def relay(self: layers.WebsocketLayer, event: events.Event) -> layer.CommandGenerator[None]:
        self.client_ws.flow = self.server_ws.flow = self.flow  # type: ignore[attr-defined]
        yield from relay_messages(self, event)

    def watched(self: WebsocketConnection) -> Iterator[Any]:
        for event in events_of(self):
            payload = control_payload(event)
            flow = self.flow  # type: ignore[attr-defined]
            if isinstance(event, wsproto.events.Message) and not addon.may_grow(
                flow, self.conn is flow.client_conn, event
            ):
                yield wsproto.events.CloseConnection(code=CLOSED_TOO_BIG)
                return
            if payload is not None and not addon.may_control(flow, self.conn is flow.client_conn, payload):
                # In its place both are closed: nothing of it, nor what follows, goes on.
                yield wsproto.events.CloseConnection(code=CLOSED_BY_POLICY)
                return
            yield event

    layers.WebsocketLayer.relay_messages = relay  # type: ignore[method-assign]
    WebsocketConnection.events = watched  # type: ignore[method-assign]


def control_payload(event: Any) -> bytes | None:
    if isinstance(event, (wsproto.events.Ping, wsproto.events.Pong)):
        return bytes(event.payload)
    if isinstance(event, wsproto.events.CloseConnection):
        return (event.reason or "").encode()
    return None


def tell_failures() -> None:
    """A request that fails before its answer began is answered in our words, not mitmproxy's."""
    original = HttpStream.handle_protocol_error

    def handle(
        self: HttpStream, event: RequestProtocolError | ResponseProtocolError
    ) -> layer.CommandGenerator[None]:
        has_begun = self.server_state in (
            self.state_stream_response_body,
            self.state_done,
            self.state_errored,
        )
        if not isinstance(event, ResponseProtocolError) or has_begun or self.client_state == self.state_errored:
            yield from original(self, event)
            return
        self.flow.metadata["is_answerable"] = True
        self.flow.error = mitmflow.Error(event.message)
        yield HttpErrorHook(self.flow)
        told: http.Response | None = self.flow.metadata.get("told")
        if told is None:
            yield SendHttp(event, self.context.client)
        else:
            if not self.flow.request.is_http2:
                # What is left of the request is read to nobody, and not for long.
                told.headers["connection"] = "close"
                close: Callable[[str], None] = self.flow.metadata["close"]
                asyncio.get_running_loop().call_later(LINGER_S, close, self.flow.client_conn.id)
            yield SendHttp(ResponseHeaders(self.stream_id, told, end_stream=False), self.context.client)
            if self.flow.request.method != "HEAD":
                yield SendHttp(ResponseData(self.stream_id, told.raw_content or b""), self.context.client)
            yield SendHttp(ResponseEndOfMessage(self.stream_id), self.context.client)
        self.client_state = self.server_state = self.state_errored
        self.flow.live = False
        yield DropStream(self.stream_id)

    HttpStream.handle_protocol_error = handle  # type: ignore[method-assign]


def is_http(data: bytes) -> bool | None:
    """Whether it begins like a request; None while that cannot be said."""
    line, end, _ = data.partition(b"\n")
    if end or len(data) >= HEAD_MAX:
        return b" HTTP/" in line or line.endswith(b" HTTP") or b" " in line and not end
    return None if all(0x20 <= byte < 0x7F or byte == 0x0D for byte in data) else False


def head_fault(data: bytes) -> str | None:
    """Why a request's head, or what came of it, could be read in two ways; None when it cannot."""
    end = data.find(b"\r\n\r\n")
    head = data if end == -1 else data[: end + 2]
    if len(head) > HEAD_MAX:
        return "its head is too large"
    if b"\0" in head:
        return "its head has a null in it"
    whole, _, rest = head.rpartition(b"\r\n")
    if b"\n" in rest or b"\r" in rest[:-1] or b"\n" in rest[-1:]:
        return "its head has a line that ends in an unusual way"
    if not whole:
        return None
    first, *lines = whole.split(b"\r\n")
    if any(b"\r" in line or b"\n" in line for line in (first, *lines)):
        return "its head has a line that ends in an unusual way"
    if not REQUEST_LINE.fullmatch(first):
        return "its first line is no method, target and version 1.0 or 1.1"
    if not all(HEADER_LINE.match(line) for line in lines):
        return "its head has a line that is no header"
    return None


def text(data: bytes) -> str:
    return data.decode("latin-1")


def pairs(headers: http.Headers) -> HeaderPairs:
    return [(text(name), text(value)) for name, value in headers.fields]


def fields(headers: Sequence[Sequence[str]]) -> http.Headers:
    return http.Headers([(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers])


def scrubbed(
    headers: http.Headers, scrubs: Sequence[tuple[bytes, bytes]]
) -> tuple[tuple[bytes, bytes], ...]:
    made = []
    for name, content in headers.fields:
        for value, placeholder in scrubs:
            content = content.replace(value, placeholder)
        made.append((name, content))
    return tuple(made)


def between(start: float | None, end: float | None) -> float | None:
    return None if start is None or end is None else max(0.0, (end - start) * 1000)


async def resolve(
    host: Any, port: Any, *, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0
) -> list[tuple[Any, ...]]:
    """In place of the resolver: what was checked for this connection, and nothing else."""
    found: list[tuple[Any, ...]] = []
    for address in ADDRESSES.get():
        kind = socket.AF_INET6 if ":" in address else socket.AF_INET
        name = (address, port, 0, 0) if kind == socket.AF_INET6 else (address, port)
        found.append((kind, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", name))
    if not found:
        raise socket.gaierror(socket.EAI_NONAME, "no name is resolved here")
    return found


class Addon:
    def __init__(self) -> None:
        self.bridge = Bridge(self._on_notice, self._on_end)
        self._clients: dict[str, Client] = {}
        self._ids: dict[int, str] = {}
        self._last_key = 0
        self._last_flow = 0
        self._exchanges: dict[int, Exchange] = {}
        # By the session; of those that have exchanges.
        self._rooms: weakref.WeakValueDictionary[str, Room] = weakref.WeakValueDictionary()
        self._strangers: dict[str, None] = {}
        self._body_max = 0
        self._message_max = 0
        self._unreadable = b""
        self._fingerprints: dict[str, str] = {}
        self._timed: set[str] = set()

    def load(self, loader: Any) -> None:
        loader.add_option("autocode_bridge", str, "", "The unix socket of our Node process")

    async def running(self) -> None:
        patch_mitmproxy()
        refuse_heads(self)
        watch_controls(self)
        asyncio.get_running_loop().getaddrinfo = resolve  # type: ignore[method-assign]
        self._remove_addons()
        try:
            await self.bridge.open(ctx.options.autocode_bridge)
            welcome, _ = await self.bridge.ask("open", version=PROTOCOL_VERSION)
        except (OSError, BridgeGone) as error:
            self._fail(f"autocode: the bridge does not answer: {error}")
            return
        if welcome.get("version") != PROTOCOL_VERSION:
            self._fail(f"autocode: the bridge speaks version {welcome.get('version')}, not {PROTOCOL_VERSION}")
            return
        self._body_max = welcome["body_bytes_max"]
        self._message_max = welcome["message_bytes_max"]
        self._unreadable = welcome["unreadable"].encode("latin-1")
        leaves = Leaves(welcome["authority_pem"], welcome["key_pem"])
        ctx.master.addons.get("tlsconfig").get_cert = leaves.of
        proxyserver = ctx.master.addons.get("proxyserver")
        listening = [
            [server.mode.type_name, *addr[:2]] for server in proxyserver.servers for addr in server.listen_addrs
        ]
        self.bridge.tell("ready", listening=listening)

    def _remove_addons(self) -> None:
        # A new list: whoever walks the old one goes on to its end.
        manager = ctx.master.addons
        kept = [manager.get(name) for name in KEPT_ADDONS]
        manager.chain = [addon for addon in manager.chain if addon in kept]

    def _fail(self, words: str) -> None:
        print(words, file=sys.stderr, flush=True)
        os._exit(3)

    def _on_end(self) -> None:
        # Node decides, and is gone: what is under way must not go on.
        self._fail(f"autocode: {GONE}")

    def _on_notice(self, message: dict[str, Any]) -> None:
        if message.get("kind") == "close":
            connection_id = self._ids.get(message["client"])
            if connection_id is not None:
                self._close(connection_id)
        elif message.get("kind") == "cut":
            exchange = self._exchanges.get(message["flow"])
            if exchange is not None and exchange.fault is None:
                self.cut(exchange, "sent_too_much")

    def _close(self, connection_id: str) -> None:
        handler = ctx.master.addons.get("proxyserver").connections.get(connection_id)
        if handler is None:
            return
        # The servers' first: a request that is half sent must not look complete to them.
        transports = sorted(handler.transports.items(), key=lambda entry: entry[0] is handler.client)
        for _, transport in transports:
            if transport.writer is not None:
                transport.writer.transport.abort()
            if transport.handler is not None:
                transport.handler.cancel("closed by autocode")

    def cut(self, exchange: Exchange, reason: str, words: str | None = None) -> None:
        """Ends an exchange at once: nothing more of it leaves. The worker is told by `error`."""
        exchange.fault = (reason, words)
        server = exchange.flow.server_conn
        handler = ctx.master.addons.get("proxyserver").connections.get(exchange.flow.client_conn.id)
        transport = handler.transports.get(server) if handler is not None else None
        if transport is None:
            return
        if transport.writer is not None:
            # What is not sent yet stays here, and so does the end of the body.
            transport.writer.transport.abort()
        if transport.handler is not None:
            asyncio.get_running_loop().call_soon(transport.handler.cancel, "cut by autocode")

    def _client(self, conn: connection.Client) -> Client:
        found = self._clients.get(conn.id)
        if found is None:
            peer = conn.peername[0] if conn.peername else ""
            if conn.timestamp_end is not None:
                # What it sent before its end is read only now: nobody would tell that it is gone.
                return Client(0, peer)
            self._last_key += 1
            found = self._clients[conn.id] = Client(self._last_key, peer)
            self._ids[found.key] = conn.id
        return found

    def client_connected(self, conn: connection.Client) -> None:
        if len(self._strangers) >= STRANGERS_MAX:
            oldest = next(iter(self._strangers))
            self._strangers.pop(oldest)
            self._close(oldest)
        self._strangers[conn.id] = None

    def client_disconnected(self, conn: connection.Client) -> None:
        self._strangers.pop(conn.id, None)
        found = self._clients.pop(conn.id, None)
        if found is not None:
            self._ids.pop(found.key, None)
            self.bridge.tell("gone", client=found.key)

    # Tunnels

    async def http_connect(self, flow: http.HTTPFlow) -> None:
        client = self._client(flow.client_conn)
        request = flow.request
        try:
            answer, body = await self.bridge.ask(
                "connect",
                client=client.key,
                peer=client.peer,
                authorization=request.headers.get("proxy-authorization"),
                host=request.host,
                port=request.port,
                http_version=request.http_version,
            )
        except BridgeGone:
            flow.kill()
            return
        if answer["outcome"] != "open":
            flow.response = self._told(answer, body)
        else:
            self._strangers.pop(flow.client_conn.id, None)

    async def next_layer(self, next_layer: layer.NextLayer) -> None:
        context = next_layer.context
        if next_layer.layer is not None:
            return
        data = next_layer.data_client()
        above = context.layers[-1]
        if isinstance(above, modes.HttpProxy):
            is_request = is_http(data)
            if is_request is not None:
                next_layer.layer = (
                    layers.HttpLayer(context, HTTPMode.regular) if is_request else Closed(context)
                )
            return
        if isinstance(above, layers.ClientTLSLayer):
            is_request = context.client.alpn == b"h2" or data.startswith(b"PRI ") or is_http(data)
            if is_request is None:
                return
            if not is_request:
                self._tell_no_http(context)
            next_layer.layer = (
                layers.HttpLayer(context, HTTPMode.transparent) if is_request else Closed(context)
            )
            return
        hello: dict[str, Any] | None = None
        if len(data) < 3:
            return
        is_request = True
        if starts_like_tls_record(data):
            try:
                parsed = parse_client_hello(data)
            except ValueError:
                parsed = None
                is_request = False
            if parsed is None and is_request:
                if len(data) < HELLO_MAX:
                    return
                is_request = False
            hello = hello_of(parsed) if parsed is not None else None
        else:
            is_request = is_http(data)
            if is_request is None:
                return
        next_layer.layer = await self._decide_hello(context, hello, is_request)

    async def _decide_hello(
        self, context: Any, hello: dict[str, Any] | None, is_request: bool
    ) -> layer.Layer:
        client = self._client(context.client)
        host, port = context.server.address[:2]
        try:
            answer, _ = await self.bridge.ask(
                "hello",
                client=client.key,
                peer=client.peer,
                host=host,
                port=port,
                hello=hello,
                is_request=is_request,
                is_transparent=isinstance(context.layers[0], modes.TransparentProxy),
            )
        except BridgeGone:
            return Closed(context)
        if answer["outcome"] != "open":
            return Closed(context)
        self._strangers.pop(context.client.id, None)
        if answer["host"] is not None:
            context.server.address = (answer["host"], port)
            client.addresses[(answer["host"], port)] = tuple(answer["addresses"])
        if answer["how"] == "passthrough":
            return layers.TCPLayer(context)
        if hello is None:
            return layers.HttpLayer(context, HTTPMode.transparent)
        server_tls = layers.ServerTLSLayer(context)
        server_tls.child_layer = layers.ClientTLSLayer(context)
        return server_tls

    def refuse_head(self, context: Any, words: str) -> bytes:
        """What whoever sent it is told."""
        client = self._client(context.client)
        self.bridge.tell(
            "unreadable",
            client=client.key,
            peer=client.peer,
            server_name=context.client.sni,
            words=words,
        )
        return self._unreadable

    def _tell_no_http(self, context: Any) -> None:
        client = self._client(context.client)
        self.bridge.tell("no_http", client=client.key, server_name=context.client.sni)

    def tls_failed_client(self, data: tls.TlsData) -> None:
        client = self._client(data.context.client)
        self.bridge.tell(
            "tls_failed",
            client=client.key,
            server_name=data.context.client.sni,
            words=data.conn.error or "the TLS handshake failed",
        )

    def tcp_start(self, flow: tcp.TCPFlow) -> None:
        flow.metadata["counts"] = [0, 0]

    def tcp_message(self, flow: tcp.TCPFlow) -> None:
        message = flow.messages[-1]
        flow.messages.clear()
        size = len(message.content)
        if message.from_client:
            flow.metadata["counts"][0] += size
            client = self._client(flow.client_conn)
            self.bridge.tell("sent", client=client.key, byte_count=size)
        else:
            flow.metadata["counts"][1] += size

    def tcp_end(self, flow: tcp.TCPFlow) -> None:
        sent, received = flow.metadata["counts"]
        self.bridge.tell(
            "tunnel",
            client=self._client(flow.client_conn).key,
            sent=sent,
            received=received,
            address=flow.server_conn.peername[0] if flow.server_conn.peername else None,
            connect_ms=between(flow.server_conn.timestamp_start, flow.server_conn.timestamp_tcp_setup),
            error=flow.error.msg if flow.error else None,
        )

    tcp_error = tcp_end

    # Servers

    def server_connect(self, data: server_hooks.ServerConnectionHookData) -> None:
        host, port = data.server.address[:2] if data.server.address else ("", 0)
        client = self._clients.get(data.client.id)
        allowed = client.addresses.get((host, port), ()) if client else ()
        if not allowed or not is_among(host, allowed):
            data.server.error = "autocode: nobody said that this may be connected to"
            return
        ADDRESSES.set(allowed)

    def server_disconnected(self, data: server_hooks.ServerConnectionHookData) -> None:
        self._timed.discard(data.server.id)
        self._fingerprints.pop(data.server.id, None)

    # Requests

    async def requestheaders(self, flow: http.HTTPFlow) -> None:
        client = self._client(flow.client_conn)
        request = flow.request
        self._last_flow += 1
        id = self._last_flow
        flow.metadata["close"] = self._close
        is_h2 = request.is_http2
        fault: str | None = flow.error.msg if flow.error else None
        size: int | None = 0
        try:
            if not getattr(request, "is_empty", False):
                has_length = "content-length" in request.headers
                size = None if is_h2 and not has_length else expected_http_body_size(request)
        except ValueError as error:
            fault = fault or str(error)
        is_websocket = request.headers.get("upgrade", "").lower() == "websocket"
        scheme = request.scheme
        if is_websocket:
            scheme = "wss" if scheme == "https" else "ws"
        is_declared = size is not None and size >= 0
        try:
            answer, body = await self.bridge.ask(
                "request",
                flow=id,
                client=client.key,
                peer=client.peer,
                authorization=request.headers.get("proxy-authorization"),
                method=request.method,
                scheme=scheme,
                host=request.host,
                port=request.port,
                authority=request.authority or None,
                server_name=flow.client_conn.sni,
                is_transparent=isinstance(flow.client_conn.proxy_mode, TransparentMode),
                path=text(request.data.path),
                headers=pairs(request.headers),
                body_byte_count=size if is_declared else None,
                http_version=request.http_version,
                fault=fault,
            )
        except BridgeGone:
            flow.kill()
            return
        if answer["outcome"] != "forward":
            if flow.error is None:
                flow.response = self._told(answer, body)
            return
        self._strangers.pop(flow.client_conn.id, None)
        exchange = Exchange(id, client, flow, self._body_max, self._room_of(answer))
        exchange.is_declared = is_declared
        flow.metadata["exchange"] = exchange
        host = answer["host"]
        exchange.is_last = "close" in request.headers.get("connection", "").lower() and not is_h2
        request.headers = fields(answer["headers"])
        request.data.host = host
        if not is_h2:
            # Servers are asked in origin form, whatever form the client used.
            request.data.authority = b""
        client.addresses[(host, request.port)] = tuple(answer["addresses"])
        # The longest first, where one holds another.
        exchange.scrubs = sorted(
            ((value.encode(), placeholder.encode()) for value, placeholder in answer["scrubs"] if value),
            key=lambda scrub: -len(scrub[0]),
        )
        exchange.canaries = [canary.encode("latin-1") for canary in answer["canaries"] if canary]
        exchange.request_max = answer["request_bytes_max"]
        exchange.response_max = answer["response_bytes_max"]
        exchange.message_room = self._message_max
        self._exchanges[exchange.id] = exchange
        request.stream = Outgoing(self, exchange)

    def _room_of(self, answer: dict[str, Any]) -> Room:
        room = self._rooms.get(answer["session"])
        if room is None:
            room = self._rooms[answer["session"]] = Room(answer["held_bytes_max"])
        return room

    def _told(self, answer: dict[str, Any], body: bytes) -> http.Response:
        response = http.Response.make(answer["status"], body)
        response.headers = fields(answer["headers"])
        return response

    async def request(self, flow: http.HTTPFlow) -> None:
        """After the body, before its end; its trailers go nowhere."""
        exchange: Exchange | None = flow.metadata.get("exchange")
        if exchange is None:
            return
        if exchange.is_asked:
            try:
                answer, _ = await self.bridge.ask("sent_all", flow=exchange.id)
            except BridgeGone:
                answer = {"outcome": "refuse"}
            if answer["outcome"] != "open":
                self.cut(exchange, "sent_too_much")
        # Nobody decided them: the guard saw the head.
        flow.request.trailers = None

    async def responseheaders(self, flow: http.HTTPFlow) -> None:
        exchange: Exchange | None = flow.metadata.get("exchange")
        response = flow.response
        if exchange is None or response is None:
            return
        decode = None
        if exchange.is_last:
            response.headers["connection"] = "close"
        # None was asked for: in pieces a secret could come back cut in two.
        if exchange.scrubs and response.status_code == 206:
            words = "it answered a piece (206) of what was asked for as a whole"
            await self._replace(flow, exchange, words)
            return
        if exchange.scrubs:
            response.headers.fields = scrubbed(response.headers, exchange.scrubs)
            has_body = flow.request.method != "HEAD" and response.status_code not in (101, 204, 304)
            if has_body:
                try:
                    decode = decoder(response.headers.get("content-encoding", "").strip().lower())
                except (ValueError, ImportError) as error:
                    await self._replace(flow, exchange, str(error))
                    return
                for name in UNTRUE_OF_SCRUBBED:
                    response.headers.pop(name, None)
                if not flow.request.is_http2 and response.http_version != "HTTP/1.0":
                    response.headers["transfer-encoding"] = "chunked"
        response.stream = Incoming(self, exchange, decode)

    async def _replace(self, flow: http.HTTPFlow, exchange: Exchange, words: str) -> None:
        """An answer that must not pass: ours goes in its place, and its body nowhere."""
        exchange.fault = ("upstream_failed", words)
        told = await self._ask_failed(flow, exchange, words, True)
        if told is None:
            flow.kill()
            return
        content = told.raw_content or b""
        flow.response = told
        told.stream = lambda data: content if data == b"" else []

    def response(self, flow: http.HTTPFlow) -> None:
        exchange: Exchange | None = flow.metadata.get("exchange")
        if exchange is not None and flow.response is not None and flow.response.trailers:
            flow.response.trailers.fields = scrubbed(flow.response.trailers, exchange.scrubs)
        if flow.websocket is None and exchange is not None and not exchange.is_over():
            self.bridge.tell("flow", **self._seen(flow, exchange, None))

    async def error(self, flow: http.HTTPFlow) -> None:
        exchange: Exchange | None = flow.metadata.get("exchange")
        if exchange is None or exchange.is_over():
            return
        words = flow.error.msg if flow.error else "it broke off"
        is_answerable = flow.metadata.get("is_answerable", False)
        flow.metadata["told"] = await self._ask_failed(flow, exchange, words, is_answerable)

    async def _ask_failed(
        self, flow: http.HTTPFlow, exchange: Exchange, words: str, is_answerable: bool
    ) -> http.Response | None:
        reason, own_words = exchange.fault or (None, None)
        if is_answerable:
            flow.response = None
        seen = self._seen(flow, exchange, own_words or words)
        try:
            answer, body = await self.bridge.ask(
                "failed", reason=reason, is_answerable=is_answerable, **seen
            )
        except BridgeGone:
            return None
        return self._told(answer, body) if is_answerable else None

    def websocket_message(self, flow: http.HTTPFlow) -> None:
        exchange: Exchange = flow.metadata["exchange"]
        assert flow.websocket is not None
        message = flow.websocket.messages[-1]
        flow.websocket.messages.clear()
        content = message.content
        if message.from_client:
            size = len(content) + FRAME_HEAD
            self.bridge.tell("sent", client=exchange.client.key, byte_count=size)
        elif exchange.scrubs:
            for value, placeholder in exchange.scrubs:
                content = content.replace(value, placeholder)
            message.content = content
        of_messages, of_all = self._watches(exchange, message.from_client)
        is_found = of_messages.finds(content)
        if of_all.finds(content) or is_found:
            message.drop()
            self.cut(exchange, *forbidden(message.from_client))
            asyncio.get_running_loop().call_soon(self._close, flow.client_conn.id)
        if len(exchange.messages) < MESSAGES_MAX:
            kept = exchange.hold_message(content)
            exchange.messages.append(
                {
                    "at_ms": (message.timestamp - flow.request.timestamp_start) * 1000,
                    "from": "client" if message.from_client else "server",
                    "is_text": message.is_text,
                    "byte_count": len(content),
                }
            )
            exchange.message_parts.append(kept)

    def may_control(self, flow: http.HTTPFlow, from_client: bool, payload: bytes) -> bool:
        """Whether a WebSocket's ping, pong or close may go on with what it carries."""
        exchange: Exchange = flow.metadata["exchange"]
        if from_client:
            size = len(payload) + FRAME_HEAD
            self.bridge.tell("sent", client=exchange.client.key, byte_count=size)
        _, of_all = self._watches(exchange, from_client)
        if not of_all.finds(payload):
            return True
        exchange.fault = forbidden(from_client)
        return False

    def may_grow(self, flow: http.HTTPFlow, from_client: bool, event: Any) -> bool:
        """Whether a WebSocket's message, of which this is a part, may be held until it is whole."""
        exchange: Exchange = flow.metadata["exchange"]
        if exchange.hold_part(from_client, len(event.data), event.message_finished):
            return True
        exchange.fault = ("upstream_failed", "a message is larger than its worker's memory at the proxy")
        return False

    def _watches(self, exchange: Exchange, from_client: bool) -> tuple[Watch, Watch]:
        known = exchange.watches.get(from_client)
        if known is None:
            values = exchange.canaries if from_client else [value for value, _ in exchange.scrubs]
            known = exchange.watches[from_client] = (Watch(values), Watch(values))
        return known

    async def websocket_end(self, flow: http.HTTPFlow) -> None:
        exchange: Exchange = flow.metadata["exchange"]
        if exchange.is_over():
            return
        if exchange.fault is None:
            self.bridge.tell("flow", **self._seen(flow, exchange, None))
        else:
            await self._ask_failed(flow, exchange, exchange.fault[1] or "it was cut off", False)

    def _seen(self, flow: http.HTTPFlow, exchange: Exchange, error: str | None) -> dict[str, Any]:
        """How an exchange went: what `flow` and `failed` say."""
        self._exchanges.pop(exchange.id, None)
        exchange.leave()
        server = flow.server_conn
        response = flow.response
        is_new = server.id not in self._timed and server.timestamp_tcp_setup is not None
        if is_new:
            self._timed.add(server.id)
        return {
            "parts": (exchange.request.bytes(), exchange.response.bytes(), *exchange.message_parts),
            "flow": exchange.id,
            "error": error,
            "connect_ms": between(server.timestamp_start, server.timestamp_tcp_setup) if is_new else None,
            "tls_ms": between(server.timestamp_tcp_setup, server.timestamp_tls_setup) if is_new else None,
            "first_byte_ms": between(
                flow.request.timestamp_end, response.timestamp_start if response else None
            ),
            "address": server.peername[0] if server.peername else None,
            "server_name": server.sni,
            "tls_version": server.tls_version,
            "certificate_sha256": self._fingerprint(server),
            "http_version": response.http_version if response else None,
            "request_byte_count": exchange.request.count,
            "status": response.status_code if response else None,
            "headers": pairs(response.headers) if response else None,
            "response_byte_count": exchange.response.count,
            "messages": exchange.messages if flow.websocket is not None else None,
        }

    def _fingerprint(self, server: connection.Server) -> str | None:
        if not server.certificate_list:
            return None
        known = self._fingerprints.get(server.id)
        if known is None:
            known = self._fingerprints[server.id] = server.certificate_list[0].fingerprint().hex()
        return known


def hello_of(hello: tls.ClientHello) -> dict[str, Any]:
    names = [kind for kind, _ in hello.extensions if kind == 0]
    return {
        "server_name": hello.sni if len(names) == 1 else None,
        "protocols": [text(protocol) for protocol in hello.alpn_protocols],
        "has_encrypted_hello": any(kind == ENCRYPTED_CLIENT_HELLO for kind, _ in hello.extensions),
    }


def forbidden(from_client: bool) -> tuple[str, str | None]:
    """Why a WebSocket is cut in which a value was found, by who sent it."""
    if from_client:
        return ("canary", None)
    return ("upstream_failed", "an answer holds a secret that was put in")


def is_among(host: str, allowed: tuple[str, ...]) -> bool:
    """A host that is an address is connected to as it is: it must be one of those."""
    try:
        literal = ipaddress.ip_address(host)
    except ValueError:
        return True
    return any(literal == ipaddress.ip_address(address) for address in allowed)


addons = [Addon()]
