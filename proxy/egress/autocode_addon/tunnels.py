"""Tunnels, and what they begin with: TLS that is opened or passed through, HTTP, or neither."""

from __future__ import annotations

from typing import Any

from mitmproxy import http, tcp, tls
from mitmproxy.net.tls import starts_like_tls_record
from mitmproxy.proxy import commands, events, layer, layers
from mitmproxy.proxy.layers import modes
from mitmproxy.proxy.layers.http import HTTPMode
from mitmproxy.proxy.layers.tls import parse_client_hello

from .bridge import Bridge, BridgeGone
from .connections import Connections
from .heads import is_http
from .wire import between, response_of, text

HELLO_MAX = 64 * 2**10
ENCRYPTED_CLIENT_HELLO = 0xFE0D


class Closed(layer.Layer):
    """The end of a connection that was refused."""

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        if isinstance(event, events.Start):
            yield commands.CloseConnection(self.context.client)


class Tunnels:
    def __init__(self, bridge: Bridge, connections: Connections) -> None:
        self._bridge = bridge
        self._connections = connections
        # What whoever sends a head is told that can be read in two ways.
        self.unreadable = b""

    async def http_connect(self, flow: http.HTTPFlow) -> None:
        client = self._connections.client(flow.client_conn)
        request = flow.request
        try:
            answer, body = await self._bridge.ask(
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
            flow.response = response_of(answer, body)
        else:
            self._connections.know(flow.client_conn.id)

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
        client = self._connections.client(context.client)
        host, port = context.server.address[:2]
        try:
            answer, _ = await self._bridge.ask(
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
        self._connections.know(context.client.id)
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
        client = self._connections.client(context.client)
        self._bridge.tell(
            "unreadable",
            client=client.key,
            peer=client.peer,
            server_name=context.client.sni,
            words=words,
        )
        return self.unreadable

    def _tell_no_http(self, context: Any) -> None:
        client = self._connections.client(context.client)
        self._bridge.tell("no_http", client=client.key, server_name=context.client.sni)

    def tls_failed_client(self, data: tls.TlsData) -> None:
        client = self._connections.client(data.context.client)
        self._bridge.tell(
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
            client = self._connections.client(flow.client_conn)
            self._bridge.tell("sent", client=client.key, byte_count=size)
        else:
            flow.metadata["counts"][1] += size

    def tcp_end(self, flow: tcp.TCPFlow) -> None:
        sent, received = flow.metadata["counts"]
        self._bridge.tell(
            "tunnel",
            client=self._connections.client(flow.client_conn).key,
            sent=sent,
            received=received,
            address=flow.server_conn.peername[0] if flow.server_conn.peername else None,
            connect_ms=between(flow.server_conn.timestamp_start, flow.server_conn.timestamp_tcp_setup),
            error=flow.error.msg if flow.error else None,
        )

    tcp_error = tcp_end


def hello_of(hello: tls.ClientHello) -> dict[str, Any]:
    names = [kind for kind, _ in hello.extensions if kind == 0]
    return {
        "server_name": hello.sni if len(names) == 1 else None,
        "protocols": [text(protocol) for protocol in hello.alpn_protocols],
        "has_encrypted_hello": any(kind == ENCRYPTED_CLIENT_HELLO for kind, _ in hello.extensions),
    }
