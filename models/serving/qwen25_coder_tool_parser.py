"""
vLLM's tool-parser plugin for Qwen2.5-Coder and Yi-Coder, of which vLLM has none of its own:

    --tool-parser-plugin <this file> --tool-call-parser qwen25_coder --enable-auto-tool-choice

The reading is `tool_call_stream.py`'s; here it meets vLLM 0.29 to 0.33. A call goes out in one
delta, whole. While one may be coming in, empty deltas go out: they carry the running usage by which
a cut stream is settled, and keep idle connections open.

vLLM loads this file by its path, so that what lies beside it is not on Python's path. It is put
there, rather than all of it into one file: the reading is tested without vLLM.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from vllm.entrypoints.generate.base.protocol import (
    DeltaFunctionCall,
    DeltaMessage,
    DeltaToolCall,
    ExtractedToolCallInformation,
    FunctionCall,
    ToolCall,
)
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.tool_parsers.abstract_tool_parser import ToolParser, ToolParserManager

sys.path.append(str(Path(__file__).resolve().parent))

from tool_call_stream import Call, Event, Text, ToolCallStream  # noqa: E402


class Qwen25CoderToolParser(ToolParser):
    """One for each answer. A call that is required, vLLM lets be written as JSON, and reads it."""

    def __init__(self, tokenizer: Any, tools: list[Any] | None = None) -> None:
        super().__init__(tokenizer, tools)
        self._stream: ToolCallStream | None = None

    def extract_tool_calls(
        self, model_output: str, request: ChatCompletionRequest
    ) -> ExtractedToolCallInformation:
        stream = ToolCallStream(tool_names(request))
        events = [*stream.feed(model_output), *stream.finish()]
        calls = [event for event in events if isinstance(event, Call)]
        return ExtractedToolCallInformation(
            tools_called=bool(calls),
            tool_calls=[tool_call(call) for call in calls],
            content=content_of(events),
        )

    def extract_tool_calls_streaming(
        self,
        previous_text: str,
        current_text: str,
        delta_text: str,
        previous_token_ids: Sequence[int],
        current_token_ids: Sequence[int],
        delta_token_ids: Sequence[int],
        request: ChatCompletionRequest,
    ) -> DeltaMessage | None:
        if self._stream is None:
            self._stream = ToolCallStream(tool_names(request))
            # Has vLLM call `finish_streaming` at the end, for what is still held then. Not before:
            # a parser that is made so gets no text where a call is required, nor does vLLM.
            self.engine_based_streaming = True
        delta = self._delta(self._stream.feed(delta_text))
        return DeltaMessage() if delta is None and self._stream.is_holding else delta

    def finish_streaming(self) -> DeltaMessage | None:
        return None if self._stream is None else self._delta(self._stream.finish())

    def _delta(self, events: Sequence[Event]) -> DeltaMessage | None:
        content = content_of(events)
        calls = [self._call(event) for event in events if isinstance(event, Call)]
        if calls:
            return DeltaMessage(content=content, tool_calls=calls)
        return None if content is None else DeltaMessage(content=content)

    def _call(self, call: Call) -> DeltaToolCall:
        self.current_tool_id += 1
        # vLLM compares what was parsed with what was sent, and sends the rest: there is none.
        self.prev_tool_call_arr.append({"name": call.name, "arguments": call.arguments})
        self.streamed_args_for_tool.append(call.arguments)
        return DeltaToolCall(
            index=self.current_tool_id,
            id=tool_call(call).id,
            type="function",
            function=DeltaFunctionCall(name=call.name, arguments=call.arguments),
        )


def tool_call(call: Call) -> ToolCall:
    """With an id of vLLM's making."""
    return ToolCall(function=FunctionCall(name=call.name, arguments=call.arguments))


def content_of(events: Iterable[Event]) -> str | None:
    return "".join(event.source for event in events if isinstance(event, Text)) or None


def tool_names(request: Any) -> list[str]:
    """The functions a request offers, of chat or of responses; none where it wants no call."""
    if request.tool_choice == "none":
        return []
    named = [getattr(tool, "function", tool) for tool in request.tools or ()]
    return [tool.name for tool in named if isinstance(getattr(tool, "name", None), str)]


ToolParserManager.register_module("qwen25_coder", module=Qwen25CoderToolParser)
