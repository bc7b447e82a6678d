"""Which connections there are: the workers', and where each of them may be connected to."""

from __future__ import annotations

from typing import Any

from mitmproxy import connection, ctx
from mitmproxy.proxy import server_hooks

from .addresses import ADDRESSES, is_among
from .bridge import Bridge
from .exchange import Client

# Connections that nobody has said his name on: the oldest makes room for a new one.
STRANGERS_MAX = 1000


class Connections:
    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge
        self._clients: dict[str, Client] = {}
        self._ids: dict[int, str] = {}
        self._last_key = 0
        self._strangers: dict[str, None] = {}

    def client(self, conn: connection.Client) -> Client:
        """Whose connection it is."""
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
            self.close(oldest)
        self._strangers[conn.id] = None

    def client_disconnected(self, conn: connection.Client) -> None:
        self._strangers.pop(conn.id, None)
        found = self._clients.pop(conn.id, None)
        if found is not None:
            self._ids.pop(found.key, None)
            self._bridge.tell("gone", client=found.key)

    def know(self, connection_id: str) -> None:
        """Somebody's, by what was said on it: it makes room for nobody."""
        self._strangers.pop(connection_id, None)

    def close_client(self, key: int) -> None:
        connection_id = self._ids.get(key)
        if connection_id is not None:
            self.close(connection_id)

    def close(self, connection_id: str) -> None:
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

    def transport(self, client: connection.Client, server: connection.Server) -> Any:
        """What carries the bytes between a worker's connection and a server; None without."""
        handler = ctx.master.addons.get("proxyserver").connections.get(client.id)
        return handler.transports.get(server) if handler is not None else None

    def server_connect(self, data: server_hooks.ServerConnectionHookData) -> None:
        host, port = data.server.address[:2] if data.server.address else ("", 0)
        client = self._clients.get(data.client.id)
        allowed = client.addresses.get((host, port), ()) if client else ()
        if not allowed or not is_among(host, allowed):
            data.server.error = "autocode: nobody said that this may be connected to"
            return
        ADDRESSES.set(allowed)
