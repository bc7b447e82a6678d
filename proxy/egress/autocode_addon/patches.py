"""What mitmproxy has no hook for; each of these stands in the version that is pinned."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import h2.utilities
import h11
import wsproto.events
from mitmproxy import flow as mitmflow, http
from mitmproxy.proxy import commands, events, layer, layers
from mitmproxy.proxy.layers.http import DropStream, HttpStream, ReceiveHttp, SendHttp
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
from mitmproxy.proxy.layers.websocket import WebsocketConnection

from .heads import head_fault

if TYPE_CHECKING:
    from .tunnels import Tunnels
    from .websockets import WebSockets

# What a client that was refused may still send before it is cut off.
REFUSED_BODY_MAX = 16 * 2**20
LINGER_S = 2
# Of a WebSocket (RFC 6455, 7.4.1).
CLOSED_BY_POLICY = 1008
CLOSED_TOO_BIG = 1009
NEVER_IN_TRAILERS = frozenset(
    b"connection keep-alive proxy-connection proxy-authenticate proxy-authorization te "
    b"transfer-encoding upgrade http2-settings host content-length content-encoding content-type "
    b"content-range trailer authorization cookie set-cookie expect range cache-control location".split()
)


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


def refuse_heads(tunnels: Tunnels) -> None:
    """mitmproxy's parser is lenient where servers differ: what it would forgive is refused."""
    original = Http1Server.read_headers

    def read(self: Http1Server, event: events.ConnectionEvent) -> layer.CommandGenerator[None]:
        fault = head_fault(bytes(self.buf)) if isinstance(event, events.DataReceived) else None
        if fault is None:
            yield from original(self, event)
            return
        yield commands.SendData(self.conn, tunnels.refuse_head(self.context, fault))
        yield commands.CloseConnection(self.conn)
        self.state = self.done

    Http1Server.read_headers = read  # type: ignore[method-assign]


def watch_controls(websockets: WebSockets) -> None:
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
            if isinstance(event, wsproto.events.Message) and not websockets.may_grow(
                flow, self.conn is flow.client_conn, event
            ):
                yield wsproto.events.CloseConnection(code=CLOSED_TOO_BIG)
                return
            if payload is not None and not websockets.may_control(
                flow, self.conn is flow.client_conn, payload
            ):
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
        is_gone = self.client_state == self.state_errored
        if not isinstance(event, ResponseProtocolError) or has_begun or is_gone:
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
