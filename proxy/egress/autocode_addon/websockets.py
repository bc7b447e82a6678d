"""Messages and control frames of WebSockets, both ways."""

from __future__ import annotations

import asyncio
from typing import Any

from mitmproxy import http

from .connections import Connections
from .exchange import Exchange
from .requests import Requests
from .search import Watch

MESSAGES_MAX = 10_000
# At least so many bytes go before what a frame carries (RFC 6455, 5.2): also before nothing.
FRAME_HEAD = 6


class WebSockets:
    def __init__(self, requests: Requests, connections: Connections) -> None:
        self._requests = requests
        self._connections = connections

    def websocket_message(self, flow: http.HTTPFlow) -> None:
        exchange: Exchange = flow.metadata["exchange"]
        assert flow.websocket is not None
        message = flow.websocket.messages[-1]
        flow.websocket.messages.clear()
        content = message.content
        if message.from_client:
            size = len(content) + FRAME_HEAD
            self._requests.bridge.tell("sent", client=exchange.client.key, byte_count=size)
        elif exchange.scrubs:
            for value, placeholder in exchange.scrubs:
                content = content.replace(value, placeholder)
            message.content = content
        of_messages, of_all = self._watches(exchange, message.from_client)
        is_found = of_messages.finds(content)
        if of_all.finds(content) or is_found:
            message.drop()
            self._requests.cut(exchange, *forbidden(message.from_client))
            asyncio.get_running_loop().call_soon(self._connections.close, flow.client_conn.id)
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
            self._requests.bridge.tell("sent", client=exchange.client.key, byte_count=size)
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
            self._requests.bridge.tell("flow", **self._requests.seen(flow, exchange, None))
        else:
            await self._requests.ask_failed(flow, exchange, exchange.fault[1] or "it was cut off", False)


def forbidden(from_client: bool) -> tuple[str, str | None]:
    """Why a WebSocket is cut in which a value was found, by who sent it."""
    if from_client:
        return ("canary", None)
    return ("upstream_failed", "an answer holds a secret that was put in")
