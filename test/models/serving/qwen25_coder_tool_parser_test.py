"""
The plugin in vLLM itself, without an engine: loaded by its path as `--tool-parser-plugin` does, and
driven through the parser that vLLM's server makes of it for each answer.
"""

from __future__ import annotations

import json
import sys
import unittest
from pathlib import Path

from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.parser.parser_manager import ParserManager
from vllm.tool_parsers import ToolParserManager

SERVING = Path(__file__).parents[3] / "models/serving"
PLUGIN = SERVING / "qwen25_coder_tool_parser.py"
SCHEMA = {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}
TOOL = {"type": "function", "function": {"name": "read_file", "parameters": SCHEMA}}
CALL = '{"name": "read_file", "arguments": {"path": "a.py"}}'
# Its fence is never closed: what is held comes out at the end alone.
ANSWER = f"Look:\n```json\n{CALL}\n"


class Tokenizer:
    """The plugin reads text alone."""

    def get_vocab(self):
        return {}


def request_of(tool_choice="auto"):
    said = [{"role": "user", "content": "x"}]
    return ChatCompletionRequest(
        model="m", messages=said, tools=[TOOL], tool_choice=tool_choice
    )


def parser_of(request):
    made = ParserManager.get_parser(tool_parser_name="qwen25_coder", enable_auto_tools=True)
    return made(Tokenizer(), request.tools)


def stream(text, request):
    """The text, the calls by their index, and how many deltas were empty."""
    parser, content, calls, empty = parser_of(request), "", {}, 0
    for at in range(0, len(text), 4):
        delta = parser.parse_delta(
            text[at : at + 4], [1], request, prompt_token_ids=[0], finished=at + 4 >= len(text)
        )
        if delta is None:
            continue
        content += delta.content or ""
        empty += not delta.content and not delta.tool_calls
        for one in delta.tool_calls:
            call = calls.setdefault(one.index, ["", "", one.id])
            call[0] += one.function.name or ""
            call[1] += one.function.arguments or ""
    named = [(name, json.loads(given), bool(id)) for name, given, id in calls.values()]
    return content, named, empty


class Plugin(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        # vLLM finds the file, and the file what lies beside it, by its path alone.
        sys.path[:] = [path for path in sys.path if path != str(SERVING)]
        ToolParserManager.import_tool_parser(str(PLUGIN))

    def test_it_is_registered(self):
        self.assertIn("qwen25_coder", ToolParserManager.list_registered())

    def test_a_whole_answer(self):
        request = request_of()
        _, content, calls = parser_of(request).parse(ANSWER, request, enable_auto_tools=True)
        self.assertEqual(content, "Look:\n")
        self.assertEqual([(one.name, one.arguments) for one in calls], [
            ("read_file", '{"path": "a.py"}')
        ])

    def test_a_streamed_answer(self):
        content, calls, empty = stream(ANSWER, request_of())
        self.assertEqual((content, calls), ("Look:\n", [("read_file", {"path": "a.py"}, True)]))
        self.assertGreater(empty, 5)
        self.assertEqual(stream(ANSWER[:-6], request_of())[:2], (ANSWER[:-6], []))

    def test_without_a_wish_for_calls_all_is_text(self):
        request = request_of("none")
        _, content, calls = parser_of(request).parse(ANSWER, request, enable_auto_tools=True)
        self.assertEqual((content, calls), (ANSWER, []))
        self.assertEqual(stream(ANSWER, request)[:2], (ANSWER, []))

    def test_a_required_call_is_vllms_own(self):
        written = '[{"name": "read_file", "parameters": {"path": "a.py"}}]'
        request = request_of("required")
        adjusted = parser_of(request).adjust_request(request)
        self.assertEqual(adjusted.structured_outputs.json["type"], "array")
        _, _, calls = parser_of(request).parse(written, request, enable_auto_tools=True)
        self.assertEqual([json.loads(one.arguments) for one in calls], [{"path": "a.py"}])
        self.assertEqual(stream(written, request)[1], [("read_file", {"path": "a.py"}, True)])


if __name__ == "__main__":
    unittest.main()
