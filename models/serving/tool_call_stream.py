"""
Tool calls in what Qwen2.5-Coder and Yi-Coder write: a state machine over text that comes in chunks.
No vLLM here: `qwen25_coder_tool_parser.py` is the plugin around it.

These models hold to no one form, whatever their template asks for. Read as a call is a JSON object
`{"name": …, "arguments": {…}}`, or an array of such objects, that stands

- in `<tool_call>` or `<tools>`, closed or not, or right after such a call;
- in a fence (```json and the like) that holds nothing but calls of tools of the request;
- bare, on lines of its own, naming a tool of the request.

Invariants: the `source` of all events, joined, is the text that was fed. A call comes out whole,
with arguments that are a valid JSON object, or is text: one that breaks off, or that names no tool,
is never guessed at. What comes out does not depend on where chunks are cut. Each character is
looked at a bounded number of times.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tool_call_json import FIRST_KEYS, JsonScanner, read_calls

OPENERS = {"<tool_call>": "tool_call", "<tools>": "tools"}
CLOSERS = ("</tool_call>", "</tools>")
# Any other fence is code that is shown, whatever stands in it.
CALL_FENCES = frozenset(("", "json", "jsonl", "json5", "xml", "tool_call", "tool_calls", "tools"))
FENCE_MIN = 3
# Between calls. A brace too many is what the models write after JSON within JSON.
SEPARATORS = ",;"
STRAYS = "}]"
SPACES = " \t\r\n"

TEXT_RUN = re.compile(r"[^<\n]+")
LINE_RUN = re.compile(r"[^\n]+")
INFO_CHARACTER = re.compile(r"[\w.+-]")


@dataclass(frozen=True)
class Text:
    """Content, as the model wrote it."""

    source: str


@dataclass(frozen=True)
class Call:
    """`arguments` is a JSON object as text. Calls of one segment: the first has its source."""

    name: str
    arguments: str
    source: str


@dataclass(frozen=True)
class Markup:
    """What belongs to calls and is no content: the space between them, a closing tag."""

    source: str


Event = Text | Call | Markup
State = Callable[[str, int], int]


class ToolCallStream:
    """
    One answer. Its state is the method that takes the next characters and returns how far it came;
    `_held` is what may yet be a call.

    text        content, until something opens
    tag         within the letters of a tag
    tag body    after an opening tag: its JSON is awaited
    ticks, info within the opening line of a fence
    fence       in a fence that may hold calls
    end ticks   within its closing line
    value       in a JSON value that may be a call
    tail        after a bare call: nothing else may stand on its last line
    code        in a fence of something else
    opaque      in a JSON value that is no call: nothing in it opens anything
    """

    def __init__(self, tools: Iterable[str]) -> None:
        self.examined = 0
        """Characters looked at so far, however often: the work done."""
        self._tools = frozenset(tools)
        self._state: State = self._in_text if self._tools else self._in_plain
        self._events: list[Event] = []
        self._text: list[str] = []
        self._held: list[str] = []
        self._calls: list[tuple[str, str]] = []
        # How much of what is held belongs to the calls found so far.
        self._confirmed = 0
        # At the start, and after a call: space there is not yet content.
        self._is_at_edge = True
        self._has_called = False
        self._gap: list[str] = []
        self._is_line_blank = True
        self._last = "\n"
        self._tag = ""
        self._tag_kind: str | None = None
        self._tick_count = 0
        self._fence = 0
        self._info = ""
        self._is_info_over = False
        self._end_ticks = 0
        self._scanner = JsonScanner()
        self._value_from = 0
        self._value_length = 0
        self._is_doubled = False

    def feed(self, chunk: str) -> list[Event]:
        """What is certain after these characters; nothing, while they may be part of a call."""
        at = 0
        while at < len(chunk):
            end = self._state(chunk, at)
            self.examined += max(1, end - at)
            at = end
        return self._take_events()

    def finish(self) -> list[Event]:
        """The end of the answer: what is still held becomes calls, where whole, and text."""
        if self._calls:
            self._accept(self._confirmed)
            # A fence's last line may lack ticks.
            if not "".join(self._held).strip(SPACES + SEPARATORS + STRAYS + "`"):
                self._gap.extend(self._held)
                self._held.clear()
        if self._held:
            self._reject()
        gap = "".join(self._gap)
        self._gap.clear()
        self._end_text()
        if gap:
            self._events.append(Markup(gap) if self._has_called else Text(gap))
        return self._take_events()

    @property
    def is_holding(self) -> bool:
        return bool(self._held or self._gap)

    def _take_events(self) -> list[Event]:
        self._end_text()
        events, self._events = self._events, []
        return events

    def _end_text(self) -> None:
        if self._text:
            self._events.append(Text("".join(self._text)))
            self._text.clear()

    # What leaves

    def _emit(self, text: str) -> None:
        if self._is_at_edge:
            text = "".join(self._gap) + text
            self._gap.clear()
            self._is_at_edge = False
            self._tag_kind = None
        line = text[text.rfind("\n") + 1 :]
        is_new_line = len(line) < len(text)
        self._is_line_blank = (is_new_line or self._is_line_blank) and not line.strip(SPACES)
        self._last = text[-1]
        self._text.append(text)

    def _reject(self) -> None:
        """What is held is text. In a fence it is code up to the fence's end."""
        text = "".join(self._held)
        self.examined += len(text)
        self._held.clear()
        self._calls.clear()
        self._tag_kind = None
        self._emit(text)
        self._end_ticks = 0 if self._is_line_blank else -1
        self._state = self._in_code if self._fence else self._in_text

    def _accept(self, count: int) -> None:
        """The calls found are calls; the first `count` parts of what is held are their source."""
        source = "".join(self._held[:count])
        self.examined += len(source)
        del self._held[:count]
        self._end_text()
        if self._gap:
            self._events.append(Markup("".join(self._gap)))
            self._gap.clear()
        for name, arguments in self._calls:
            self._events.append(Call(name, arguments, source))
            source = ""
        self._calls.clear()
        self._fence = 0
        self._is_at_edge = self._has_called = self._is_line_blank = True
        self._last = "\n"
        self._state = self._in_text

    # States

    def _in_plain(self, chunk: str, at: int) -> int:
        self._emit(chunk[at:])
        return len(chunk)

    def _in_text(self, chunk: str, at: int) -> int:
        character = chunk[at]
        if self._is_at_edge:
            is_between = self._has_called and character in SEPARATORS + STRAYS
            if character in SPACES or is_between:
                self._gap.append(character)
                return at + 1
        if character == "<" and self._last != "`":
            return self._open_tag(at)
        if self._is_line_blank and character in "{[":
            return self._open_value(at)
        if self._is_line_blank and character == "`":
            self._tick_count = 0
            self._state = self._in_ticks
            return at
        run = None if self._is_line_blank else TEXT_RUN.match(chunk, at)
        end = run.end() if run else at + 1
        self._emit(chunk[at:end])
        return end

    def _open_tag(self, at: int) -> int:
        self._tag = ""
        self._state = self._in_tag
        return at

    def _in_tag(self, chunk: str, at: int) -> int:
        tag = self._tag + chunk[at]
        is_after_call = bool(self._calls) or (self._is_at_edge and self._has_called)
        known = (*OPENERS, *CLOSERS) if is_after_call else tuple(OPENERS)
        if not any(one.startswith(tag) for one in known):
            self._reject()
            return at
        self._tag = tag
        self._held.append(chunk[at])
        if tag in known:
            self._end_tag(tag)
        return at + 1

    def _end_tag(self, tag: str) -> None:
        if self._fence:
            self._tag_kind = OPENERS.get(tag)
            self._state = self._in_fence
            return
        if self._calls:
            self._accept(self._confirmed)
        if tag in OPENERS:
            self._tag_kind = OPENERS[tag]
            self._state = self._in_tag_body
            return
        self._tag_kind = None
        # Right after a call, so that no text is waiting.
        self._events.append(Markup("".join((*self._gap, *self._held))))
        self._gap.clear()
        self._held.clear()
        self._state = self._in_text

    def _in_tag_body(self, chunk: str, at: int) -> int:
        character = chunk[at]
        if character in SPACES:
            self._held.append(character)
            return at + 1
        if character in "{[":
            return self._open_value(at)
        if character == "`":
            self._tick_count = 0
            self._state = self._in_ticks
            return at
        self._reject()
        return at

    def _in_ticks(self, chunk: str, at: int) -> int:
        if chunk[at] == "`":
            self._held.append("`")
            self._tick_count += 1
            return at + 1
        if self._tick_count < FENCE_MIN:
            self._reject()
            return at
        self._info = ""
        self._is_info_over = False
        self._state = self._in_info
        return at

    def _in_info(self, chunk: str, at: int) -> int:
        character = chunk[at]
        if character == "`":
            # Code within a line, in three ticks.
            self._reject()
            return at
        if INFO_CHARACTER.match(character) and not self._is_info_over:
            self._info += character
        elif character in " \t\r":
            self._is_info_over = bool(self._info) or self._is_info_over
        else:
            self._fence = self._tick_count
            if self._info.lower() not in CALL_FENCES or character not in "\n{[<":
                self._reject()
            else:
                self._state = self._in_fence
            return at
        self._held.append(character)
        return at + 1

    def _in_fence(self, chunk: str, at: int) -> int:
        character = chunk[at]
        if character in SPACES or (self._calls and character in SEPARATORS + STRAYS):
            self._held.append(character)
            return at + 1
        if character in "{[":
            return self._open_value(at)
        if character == "<":
            return self._open_tag(at)
        if character == "`":
            self._tick_count = 0
            self._state = self._in_end_ticks
            return at
        self._reject()
        return at

    def _in_end_ticks(self, chunk: str, at: int) -> int:
        if chunk[at] != "`":
            self._reject()
            return at
        self._held.append("`")
        self._tick_count += 1
        if self._tick_count < self._fence:
            return at + 1
        if self._calls:
            self._accept(len(self._held))
        else:
            self._fence = 0
            self._reject()
        return at + 1

    def _open_value(self, at: int) -> int:
        self._scanner = JsonScanner()
        self._value_from = len(self._held)
        self._value_length = 0
        self._is_doubled = False
        self._state = self._in_value
        return at

    def _in_value(self, chunk: str, at: int) -> int:
        end, stop = self._scanner.scan(chunk, at)
        if end > at:
            self._held.append(chunk[at:end])
            self._value_length += end - at
        if stop == "bad" and chunk[end] == "{" and self._value_length == 1 and not self._is_doubled:
            # Qwen2.5-Coder's own template shows a call as {{…}}: the second brace opens it.
            self._open_value(end)
            self._is_doubled = True
        elif stop == "bad":
            self._reject()
        elif stop == "head" and not self._may_be_call():
            is_in_fence = self._fence > 0
            self._reject()
            if not is_in_fence:
                self._scanner.is_in_line = True
                self._state = self._in_opaque
        elif stop == "done":
            self._end_value()
        return end

    def _may_be_call(self) -> bool:
        key, *name = self._scanner.heads
        if key not in FIRST_KEYS:
            return False
        if key != "name" or not name or self._tag_kind == "tool_call" or "\\" in name[0]:
            return True
        return name[0] in self._tools

    def _end_value(self) -> None:
        text = "".join(self._held[self._value_from :])
        self.examined += len(text)
        calls = read_calls(text, self._tools, self._tag_kind == "tool_call")
        if calls is None:
            self._reject()
            return
        self._calls.extend(calls)
        self._confirmed = len(self._held)
        if self._fence:
            self._state = self._in_fence
        elif self._tag_kind is not None:
            self._accept(self._confirmed)
        else:
            self._state = self._in_tail

    def _in_tail(self, chunk: str, at: int) -> int:
        character = chunk[at]
        if character == "\n" or character in "{[":
            self._accept(self._confirmed)
            self._gap.extend(self._held)
            self._held.clear()
            return at
        if character == "<":
            return self._open_tag(at)
        if character not in SPACES + SEPARATORS + STRAYS:
            self._reject()
            return at
        self._held.append(character)
        return at + 1

    def _in_code(self, chunk: str, at: int) -> int:
        character = chunk[at]
        if character == "\n":
            if self._end_ticks >= self._fence:
                self._fence = 0
                self._state = self._in_text
            self._end_ticks = 0
        elif character == "`" and self._end_ticks >= 0 and self._last in "`\n \t":
            self._end_ticks += 1
        elif character not in " \t\r":
            self._end_ticks = -1
        if self._end_ticks >= 0:
            self._emit(character)
            return at + 1
        run = LINE_RUN.match(chunk, at)
        end = run.end() if run else at + 1
        self._emit(chunk[at:end])
        return end

    def _in_opaque(self, chunk: str, at: int) -> int:
        end, stop = self._scanner.scan(chunk, at)
        if end > at:
            self._emit(chunk[at:end])
        if stop in ("bad", "done"):
            self._state = self._in_text
        return end
