"""
mitmproxy's part of the egress proxy: it carries bytes and decides nothing. Whatever may be done with
a connection, a TLS hello or a request it asks our Node process, over the unix socket of the option
`autocode_bridge` (the protocol is in bridge-frames.ts), and does what the answer says.

Invariants: a server is connected to at an address of an answer alone, and no name is resolved here.
Without the bridge nothing is let through, and this process ends. The authority's key comes over the
bridge and lies on no disk. No body is held: it is streamed, and its first bytes are kept.

This file is what mitmdump loads; its parts are in autocode_addon/.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

from autocode_addon.addresses import resolve
from autocode_addon.bridge import GONE, PROTOCOL_VERSION, Bridge, BridgeGone
from autocode_addon.certificates import Leaves
from autocode_addon.connections import Connections
from autocode_addon.patches import patch_mitmproxy, refuse_heads, watch_controls
from autocode_addon.requests import Requests
from autocode_addon.tunnels import Tunnels
from autocode_addon.websockets import WebSockets
from mitmproxy import ctx

# What is needed: everything else of mitmproxy's own is taken out, and costs nothing then.
KEPT_ADDONS = ("core", "scriptloader", "proxyserver", "tlsconfig", "disableh2c", "termlog", "errorcheck")


class Addon:
    def __init__(self) -> None:
        self._bridge = Bridge(self._on_notice, self._on_end)
        self._connections = Connections(self._bridge)
        self._tunnels = Tunnels(self._bridge, self._connections)
        self._requests = Requests(self._bridge, self._connections)
        self._websockets = WebSockets(self._requests, self._connections)
        # Whose hooks mitmproxy calls beside our own.
        self.addons = [self._connections, self._tunnels, self._requests, self._websockets]

    def load(self, loader: Any) -> None:
        loader.add_option("autocode_bridge", str, "", "The unix socket of our Node process")

    async def running(self) -> None:
        patch_mitmproxy()
        refuse_heads(self._tunnels)
        watch_controls(self._websockets)
        asyncio.get_running_loop().getaddrinfo = resolve  # type: ignore[method-assign]
        self._remove_addons()
        try:
            await self._bridge.open(ctx.options.autocode_bridge)
            welcome, _ = await self._bridge.ask("open", version=PROTOCOL_VERSION)
        except (OSError, BridgeGone) as error:
            self._fail(f"autocode: the bridge does not answer: {error}")
            return
        if welcome.get("version") != PROTOCOL_VERSION:
            self._fail(f"autocode: the bridge speaks version {welcome.get('version')}, not {PROTOCOL_VERSION}")
            return
        self._requests.body_max = welcome["body_bytes_max"]
        self._requests.message_max = welcome["message_bytes_max"]
        self._tunnels.unreadable = welcome["unreadable"].encode("latin-1")
        leaves = Leaves(welcome["authority_pem"], welcome["key_pem"])
        ctx.master.addons.get("tlsconfig").get_cert = leaves.of
        proxyserver = ctx.master.addons.get("proxyserver")
        listening = [
            [server.mode.type_name, *addr[:2]] for server in proxyserver.servers for addr in server.listen_addrs
        ]
        self._bridge.tell("ready", listening=listening)

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
            self._connections.close_client(message["client"])
        elif message.get("kind") == "cut":
            self._requests.cut_late(message["flow"])


addons = [Addon()]
