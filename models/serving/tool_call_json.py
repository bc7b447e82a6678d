"""
The JSON of tool calls: where a value ends that comes in chunks (`JsonScanner`), and which calls it
is (`read_calls`). What is no call for certain is none.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

DEPTH_MAX = 100
CALL_KEYS = frozenset(("name", "arguments", "parameters", "type", "id"))
WRAPPER_KEYS = frozenset(("type", "id", "function"))
# One of these comes first in whatever `read_calls` takes.
FIRST_KEYS = CALL_KEYS | WRAPPER_KEYS

STRING_RUN = re.compile(r'[^"\\]+')
LINE_STRING_RUN = re.compile(r'[^"\\\n]+')
LITERAL_RUN = re.compile(r"[-+.0-9A-Za-z]+")
SPACE_RUN = re.compile(r"[ \t\r\n]+")
SURROGATE = re.compile("[\ud800-\udfff]")
UNKNOWN_NAME = re.compile(r"[\w.:/-]{1,128}", re.ASCII)


class JsonScanner:
    """
    Finds the end of a JSON value. Strict in structure, so that prose is told from JSON at once; in
    strings it lets line breaks pass, which the models write where `\\n` is due. Numbers and words
    are for `json.loads` to judge.
    """

    def __init__(self) -> None:
        self.heads: list[str] = []
        """Its first two strings: a call's first key, and mostly its name."""
        self.is_in_line = False
        """A string ends with its line: for JSON that is no call."""
        self._stack: list[str] = []
        self._wants = "value"
        self._in_string = False
        self._is_escaped = False
        self._in_literal = False
        self._head: list[str] = []

    def scan(self, text: str, at: int) -> tuple[int, str]:
        """
        Where it stopped, and why: "more", "head" (a string of `heads` ended), "done", or "bad": the
        character there can't follow.
        """
        while at < len(text):
            if self._in_string:
                at, stop = self._scan_string(text, at)
                if stop:
                    return at, stop
                continue
            if self._in_literal:
                run = LITERAL_RUN.match(text, at)
                if run:
                    at = run.end()
                    continue
                self._in_literal = False
            run = SPACE_RUN.match(text, at)
            if run:
                at = run.end()
                continue
            if not self._take(text[at]):
                return at, "bad"
            at += 1
            if not self._stack:
                return at, "done"
        return at, "more"

    def _scan_string(self, text: str, at: int) -> tuple[int, str]:
        if self._is_escaped:
            self._is_escaped = False
            self._keep(text[at])
            return at + 1, ""
        run = (LINE_STRING_RUN if self.is_in_line else STRING_RUN).match(text, at)
        if run:
            self._keep(run.group())
            return run.end(), ""
        if text[at] == "\n":
            return at, "bad"
        if text[at] == "\\":
            self._is_escaped = True
            self._keep("\\")
            return at + 1, ""
        self._in_string = False
        if len(self.heads) == 2:
            return at + 1, ""
        self.heads.append("".join(self._head))
        self._head.clear()
        return at + 1, "head"

    def _keep(self, part: str) -> None:
        if len(self.heads) < 2:
            self._head.append(part)

    def _take(self, character: str) -> bool:
        """One character between strings and literals; whether it may stand there."""
        wants = self._wants
        if character in "}]":
            is_object = character == "}"
            may_end = wants == "end" or wants == ("key or end" if is_object else "value or end")
            if not may_end or self._stack.pop() != ("{" if is_object else "["):
                return False
            self._wants = "end"
            return True
        if character == "," and wants == "end":
            self._wants = "key" if self._stack[-1] == "{" else "value"
            return True
        if character == ":" and wants == "colon":
            self._wants = "value"
            return True
        if character == '"' and wants != "end" and wants != "colon":
            self._in_string = True
            self._wants = "colon" if wants.startswith("key") else "end"
            return True
        if not wants.startswith("value"):
            return False
        if character in "{[":
            self._stack.append(character)
            self._wants = "key or end" if character == "{" else "value or end"
            return len(self._stack) <= DEPTH_MAX
        self._in_literal = character in "-0123456789tfn"
        self._wants = "end"
        return self._in_literal


def read_calls(
    text: str, tools: frozenset[str], has_any_name: bool
) -> list[tuple[str, str]] | None:
    """
    Names and arguments of a JSON value that is a call or an array of calls; None when it is
    anything else. With `has_any_name` a call may name a tool that the request has not.
    """
    try:
        value = json.loads(text, strict=False, parse_constant=_refuse, parse_float=_finite)
    except (ValueError, RecursionError):
        return None
    calls: list[tuple[str, str]] = []
    for one in value if isinstance(value, list) else [value]:
        call = _read_call(one, tools, has_any_name)
        if call is None:
            return None
        calls.append(call)
    return calls or None


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError(f"{digits} is too great")
    return number


def _read_call(value: Any, tools: frozenset[str], has_any_name: bool) -> tuple[str, str] | None:
    if isinstance(value, dict) and "function" in value and WRAPPER_KEYS.issuperset(value):
        value = value["function"]
    if not isinstance(value, dict) or not CALL_KEYS.issuperset(value):
        return None
    name = value.get("name")
    if not isinstance(name, str):
        return None
    if name not in tools:
        is_meant = has_any_name and "arguments" in value
        if not is_meant or not UNKNOWN_NAME.fullmatch(name):
            return None
    given = [value[key] for key in ("arguments", "parameters") if key in value]
    if len(given) > 1 or (not given and not has_any_name):
        return None
    arguments = _read_arguments(given[0] if given else None)
    if arguments is None or ("parameters" in value and _is_schema(arguments)):
        return None
    return name, _dump(arguments)


def _read_arguments(value: Any) -> dict[str, Any] | None:
    if isinstance(value, str):
        try:
            value = json.loads(
                value or "null", strict=False, parse_constant=_refuse, parse_float=_finite
            )
        except (ValueError, RecursionError):
            return None
    return {} if value is None else value if isinstance(value, dict) else None


def _is_schema(arguments: dict[str, Any]) -> bool:
    """A tool's own declaration, repeated: its `parameters` say what they would be."""
    return isinstance(arguments.get("properties"), dict) and arguments.get("type") == "object"


def _dump(arguments: dict[str, Any]) -> str:
    text = json.dumps(arguments, ensure_ascii=False)
    # Half of a surrogate pair has no UTF-8: it would break the answer that carries it.
    return json.dumps(arguments) if SURROGATE.search(text) else text
