"""What a connection begins with: whether it is a request, and one that can be read in one way only."""

from __future__ import annotations

import re

HEAD_MAX = 64 * 2**10
REQUEST_LINE = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100} [!-~\x80-\xff]+ HTTP/1\.[01]")
HEADER_LINE = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:")


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
