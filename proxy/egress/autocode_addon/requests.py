"""Requests and their answers: each is asked about before anything of it is forwarded."""

from __future__ import annotations

import asyncio
import weakref
from typing import Any

from mitmproxy import connection, http
from mitmproxy.net.http.http1 import expected_http_body_size
from mitmproxy.proxy import server_hooks
from mitmproxy.proxy.mode_specs import TransparentMode

from .bodies import Incoming, Outgoing, decoder
from .bridge import Bridge, BridgeGone
from .connections import Connections
from .exchange import Exchange
from .memory import Room
from .wire import between, fields, pairs, response_of, scrubbed, text

# A body that was scrubbed has another length, and is no longer encoded.
UNTRUE_OF_SCRUBBED = ("content-length", "content-encoding", "content-md5", "digest", "etag")


class Requests:
    def __init__(self, bridge: Bridge, connections: Connections) -> None:
        self.bridge = bridge
        self._connections = connections
        self._last_flow = 0
        self._exchanges: dict[int, Exchange] = {}
        # By the session; of those that have exchanges.
        self._rooms: weakref.WeakValueDictionary[str, Room] = weakref.WeakValueDictionary()
        # Of a body, and of a WebSocket's messages, that are kept for the record.
        self.body_max = 0
        self.message_max = 0
        self._fingerprints: dict[str, str] = {}
        self._timed: set[str] = set()

    def server_disconnected(self, data: server_hooks.ServerConnectionHookData) -> None:
        self._timed.discard(data.server.id)
        self._fingerprints.pop(data.server.id, None)

    async def requestheaders(self, flow: http.HTTPFlow) -> None:
        client = self._connections.client(flow.client_conn)
        request = flow.request
        self._last_flow += 1
        id = self._last_flow
        flow.metadata["close"] = self._connections.close
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
                flow.response = response_of(answer, body)
            return
        self._connections.know(flow.client_conn.id)
        exchange = Exchange(id, client, flow, self.body_max, self._room_of(answer))
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
        exchange.message_room = self.message_max
        self._exchanges[exchange.id] = exchange
        request.stream = Outgoing(self, exchange)

    def _room_of(self, answer: dict[str, Any]) -> Room:
        room = self._rooms.get(answer["session"])
        if room is None:
            room = self._rooms[answer["session"]] = Room(answer["held_bytes_max"])
        return room

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
        told = await self.ask_failed(flow, exchange, words, True)
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
            self.bridge.tell("flow", **self.seen(flow, exchange, None))

    async def error(self, flow: http.HTTPFlow) -> None:
        exchange: Exchange | None = flow.metadata.get("exchange")
        if exchange is None or exchange.is_over():
            return
        words = flow.error.msg if flow.error else "it broke off"
        is_answerable = flow.metadata.get("is_answerable", False)
        flow.metadata["told"] = await self.ask_failed(flow, exchange, words, is_answerable)

    async def ask_failed(
        self, flow: http.HTTPFlow, exchange: Exchange, words: str, is_answerable: bool
    ) -> http.Response | None:
        reason, own_words = exchange.fault or (None, None)
        if is_answerable:
            flow.response = None
        seen = self.seen(flow, exchange, own_words or words)
        try:
            answer, body = await self.bridge.ask(
                "failed", reason=reason, is_answerable=is_answerable, **seen
            )
        except BridgeGone:
            return None
        return response_of(answer, body) if is_answerable else None

    def cut_late(self, id: int) -> None:
        """Node saw that its session has sent all that it may."""
        exchange = self._exchanges.get(id)
        if exchange is not None and exchange.fault is None:
            self.cut(exchange, "sent_too_much")

    def cut(self, exchange: Exchange, reason: str, words: str | None = None) -> None:
        """Ends an exchange at once: nothing more of it leaves. The worker is told by `error`."""
        exchange.fault = (reason, words)
        flow = exchange.flow
        transport = self._connections.transport(flow.client_conn, flow.server_conn)
        if transport is None:
            return
        if transport.writer is not None:
            # What is not sent yet stays here, and so does the end of the body.
            transport.writer.transport.abort()
        if transport.handler is not None:
            asyncio.get_running_loop().call_soon(transport.handler.cancel, "cut by autocode")

    def seen(self, flow: http.HTTPFlow, exchange: Exchange, error: str | None) -> dict[str, Any]:
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
