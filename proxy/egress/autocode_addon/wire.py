"""Heads as they are on the bridge: text and bytes are one by Latin-1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mitmproxy import http

HeaderPairs = list[tuple[str, str]]


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


def response_of(answer: dict[str, Any], body: bytes) -> http.Response:
    """What whoever is refused gets, in Node's words."""
    response = http.Response.make(answer["status"], body)
    response.headers = fields(answer["headers"])
    return response
