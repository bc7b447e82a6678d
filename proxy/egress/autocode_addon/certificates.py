"""Leaves of our authority for what workers ask for. Its key came over the bridge and lies on no disk."""

from __future__ import annotations

import ipaddress
import time
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from mitmproxy import certs

LEAVES_MAX = 1000
LEAF_RENEWED_S = 7 * 86_400


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
