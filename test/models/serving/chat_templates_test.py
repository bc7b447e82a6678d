"""
What the templates of `models/serving/*.jinja` make of a talk with tools: whole prompts, and
that a call in a prompt is one that the parser reads. Rendered as transformers and vLLM do it
(a sandbox with loop controls, blocks trimmed). Needs jinja2.
"""

from __future__ import annotations

import json
import unittest
from pathlib import Path

from jinja2.sandbox import ImmutableSandboxedEnvironment
from tool_call_stream import Call, ToolCallStream

TEMPLATES = Path(__file__).parents[3] / "models/serving"
TOOL = {
    "type": "function",
    "function": {"name": "read_file", "parameters": {"type": "object", "properties": {"path": {}}}},
}
CALL = {"function": {"name": "read_file", "arguments": {"path": "<ä>.py"}}}
TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Look."},
    {"role": "assistant", "content": None, "tool_calls": [CALL, CALL]},
    {"role": "tool", "content": "one"},
    {"role": "tool", "content": "two"},
    {"role": "assistant", "content": "And again.", "tool_calls": [
        {"function": {"name": "read_file", "arguments": '{"path": "b"}'}}
    ]},
    {"role": "tool", "content": "three"},
]
CALL_TEXT = '<tools>\n{"name": "read_file", "arguments": {"path": "<ä>.py"}}\n</tools>'
TALK_TEXT = (
    "<|im_start|>user\nLook.<|im_end|>\n"
    f"<|im_start|>assistant\n{CALL_TEXT}\n{CALL_TEXT}<|im_end|>\n"
    "<|im_start|>user\n<tool_response>\none\n</tool_response>"
    "\n<tool_response>\ntwo\n</tool_response><|im_end|>\n"
    "<|im_start|>assistant\nAnd again.\n"
    '<tools>\n{"name": "read_file", "arguments": {"path": "b"}}\n</tools><|im_end|>\n'
    "<|im_start|>user\n<tool_response>\nthree\n</tool_response><|im_end|>\n"
    "<|im_start|>assistant\n"
)
QWEN = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."


def render(name, messages, tools=None, **more):
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
    template = environment.from_string((TEMPLATES / f"{name}.jinja").read_text())
    given = {"messages": messages, "tools": tools, "add_generation_prompt": True, **more}
    return template.render(given)


class Templates(unittest.TestCase):
    def test_a_talk_with_tools(self):
        for name in ("qwen2.5-coder", "yi-coder"):
            with self.subTest(name):
                prompt = render(name, TALK, [TOOL])
                self.assertTrue(prompt.startswith("<|im_start|>system\nBe brief.\n\n# Tools\n\n"))
                self.assertIn(f"\n{json.dumps(TOOL['function'])}\n", prompt)
                self.assertTrue(prompt.endswith(f"</tools><|im_end|>\n{TALK_TEXT}"), prompt)

    def test_without_tools_a_prompt_is_chatml(self):
        talk = [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Yes?"},
            {"role": "user", "content": "Go"},
        ]
        rest = (
            "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nYes?<|im_end|>\n"
            "<|im_start|>user\nGo<|im_end|>\n"
        )
        qwen = f"<|im_start|>system\n{QWEN}<|im_end|>\n{rest}"
        self.assertEqual(render("qwen2.5-coder", talk), f"{qwen}<|im_start|>assistant\n")
        self.assertEqual(render("yi-coder", talk), f"{rest}<|im_start|>assistant\n")
        self.assertEqual(render("yi-coder", talk, add_generation_prompt=False), rest)
        told = [{"role": "developer", "content": "Be brief."}, *talk]
        for name in ("qwen2.5-coder", "yi-coder"):
            prompt = render(name, told, add_generation_prompt=False)
            self.assertEqual(prompt, f"<|im_start|>system\nBe brief.<|im_end|>\n{rest}")

    def test_the_parser_reads_what_a_prompt_shows(self):
        for name in ("qwen2.5-coder", "yi-coder"):
            prompt = render(name, TALK, [TOOL])
            tools = ["get_weather", "read_file"]
            stream = ToolCallStream(tools)
            events = [*stream.feed(prompt), *stream.finish()]
            names = [event.name for event in events if isinstance(event, Call)]
            self.assertEqual(names, ["get_weather"] * 3 + ["read_file"] * 3, name)

    def test_both_say_the_same_but_for_the_default(self):
        names = ("qwen2.5-coder.jinja", "yi-coder.jinja")
        texts = [(TEMPLATES / name).read_text() for name in names]
        first, second = (text.split("{#- The same in both files. -#}") for text in texts)
        self.assertEqual((first[1], len(first), len(second)), (second[1], 2, 2))


if __name__ == "__main__":
    unittest.main()
