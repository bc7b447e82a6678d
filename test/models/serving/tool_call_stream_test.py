"""
What `models/serving/tool_call_stream.py` reads as tool calls, and what it leaves alone.

A table of outputs that people recorded of Qwen2.5-Coder (their sources are named; the words are
shortened), made cases for each form, and the properties: any cut into chunks gives the same, no
character is lost or doubled, the work is linear. Seeded, and the seed is printed on a failure.
"""

from __future__ import annotations

import json
import os
import random
import unittest

from tool_call_json import DEPTH_MAX
from tool_call_stream import Call, Markup, Text, ToolCallStream

SEED = int(os.environ.get("AUTOCODE_TEST_SEED", "20261122"))
TOOLS = ("get_weather", "read_file", "write_file", "bash", "glob", "search_web", "list")

# Where it is from, what the model wrote, the text that is left, the calls.
RECORDED = [
    (
        # Qwen2.5-Coder-7B-Instruct, its own template, vLLM 0.14, temperature 0.
        "hanXen/vllm-qwen2.5-coder-tool-parser results/output_format, default_results 7b",
        '```json\n{\n  "name": "get_weather",\n  "arguments": {\n    "city": "Seoul"\n  }\n}\n```',
        "",
        [("get_weather", {"city": "Seoul"})],
    ),
    (
        "the same, hermes_results 7b",
        '```json\n{"name": "search_web", "arguments": {"query": "Python async"}}\n```',
        "",
        [("search_web", {"query": "Python async"})],
    ),
    (
        "the same, default_results 14b",
        '{\n  "name": "get_weather",\n  "arguments": {\n    "city": "Seoul"\n  }\n}',
        "",
        [("get_weather", {"city": "Seoul"})],
    ),
    (
        "the same, hermes_results 14b",
        '\n{"name": "get_weather", "arguments": {"city": "Seoul"}}\n',
        "",
        [("get_weather", {"city": "Seoul"})],
    ),
    (
        # JSON within JSON, and a brace too many: three sizes of the model do it.
        "the same, edge_case_results complex_args 14b",
        '<tools>\n{"name": "write_file", "arguments": {"path": "output.json", '
        '"content": "{\\"name\\": \\"test\\", \\"value\\": 123}"}}}\n</tools>',
        "",
        [("write_file", {"path": "output.json", "content": '{"name": "test", "value": 123}'})],
    ),
    (
        "the same, edge_case_results parallel 14b",
        "I'll call the `get_weather` function twice, once for each city.\n"
        '<tools>\n{"name": "get_weather", "arguments": {"city": "Seoul"}}\n</tools>\n'
        '<tools>\n{"name": "get_weather", "arguments": {"city": "New York"}}\n</tools>',
        "I'll call the `get_weather` function twice, once for each city.\n",
        [("get_weather", {"city": "Seoul"}), ("get_weather", {"city": "New York"})],
    ),
    (
        "the same, edge_case_results parallel 32b-awq: text between calls",
        "First, I'll get the weather.\n\n"
        '<tools>\n{"name": "get_weather", "arguments": {"city": "Seoul"}}\n</tools>\n\n'
        "After that, I'll search.",
        "First, I'll get the weather.\n\n\n\nAfter that, I'll search.",
        [("get_weather", {"city": "Seoul"})],
    ),
    (
        "vllm-project/vllm#33083: an array in the tags",
        '<tools>\n[{"name": "get_weather", "arguments": {"city": "Oslo"}}, '
        '{"name": "glob", "arguments": {"pattern": "*"}}]\n</tools>',
        "",
        [("get_weather", {"city": "Oslo"}), ("glob", {"pattern": "*"})],
    ),
    (
        "vllm-project/vllm#32931: one object a line",
        '<tools>\n{"name": "read_file", "arguments": {"path": "a"}}\n'
        '{"name": "read_file", "arguments": {"path": "b"}}\n</tools>',
        "",
        [("read_file", {"path": "a"}), ("read_file", {"path": "b"})],
    ),
    (
        "vllm-project/vllm#29192, PR 29260: over several lines",
        '\n<tools>\n{\n    "name": "get_weather",\n    "arguments": { "city": "Oslo" }\n}\n'
        "</tools>\n",
        "",
        [("get_weather", {"city": "Oslo"})],
    ),
    (
        "anomalyco/opencode#46625, qwen2.5-coder:7b",
        '{"name":"glob","arguments":{"pattern":"*"}}',
        "",
        [("glob", {"pattern": "*"})],
    ),
    (
        "anomalyco/opencode#10402, qwen2.5-coder",
        '{"name": "write_file", "arguments": {"content": "hello\\n", "filePath": "/C:/todo.md"}}',
        "",
        [("write_file", {"content": "hello\n", "filePath": "/C:/todo.md"})],
    ),
    (
        "openai/codex#2229, qwen2.5-coder:14b",
        '{"name": "bash", "arguments": {"command": ["ls"]}}',
        "",
        [("bash", {"command": ["ls"]})],
    ),
    (
        "selfagency/opilot#149, qwen2.5-coder:7b: no indentation, a fence that nobody named",
        '```\n{\n"name": "read_file",\n"arguments": {\n"filePath": "/my/AGENTS.md"\n}\n}\n```',
        "",
        [("read_file", {"filePath": "/my/AGENTS.md"})],
    ),
    (
        "selfagency/opilot#149: one a line, bare",
        '{"name": "glob", "arguments": {}}\n{"name": "bash", "arguments": {"command": "ls"}}',
        "",
        [("glob", {}), ("bash", {"command": "ls"})],
    ),
    (
        "sgomez/ollama-ai-provider#11: two on one line",
        '{\n  "name": "get_weather",\n  "arguments": {\n    "location": "SF"\n  }\n} {\n'
        '  "name": "list",\n  "arguments": {\n    "city": "SF"\n  }\n}',
        "",
        [("get_weather", {"location": "SF"}), ("list", {"city": "SF"})],
    ),
    (
        "mark3labs/mcphost#12, Qwen2.5-Coder-32B-Instruct-AWQ",
        '\n\n  {"name": "list", "arguments": {"path": "."}}   \n',
        "",
        [("list", {"path": "."})],
    ),
]

READ = '{"name": "read_file", "arguments": {"path": "a.py"}}'
READ_CALL = ("read_file", {"path": "a.py"})
BASH = '{"name": "bash", "arguments": {"command": "ls"}}'
BASH_CALL = ("bash", {"command": "ls"})

MADE = [
    ("hermes", f"<tool_call>\n{READ}\n</tool_call>", "", [READ_CALL]),
    ("text before", f"I look.\n\n<tool_call>{READ}</tool_call>", "I look.\n\n", [READ_CALL]),
    ("text on both sides", f"A\n{READ}\nB", "A\n\nB", [READ_CALL]),
    ("a tag that is never closed", f"<tool_call>\n{READ}", "", [READ_CALL]),
    ("the wrong tag closes", f"<tool_call>\n{READ}\n</tools>", "", [READ_CALL]),
    ("an opening tag where one should close", f"<tool_call>{READ}<tool_call>{BASH}", "",
        [READ_CALL, BASH_CALL]),
    ("a closing tag alone, after a bare call", f"{READ}\n</tool_call>", "", [READ_CALL]),
    ("a fence in a tag", f"<tool_call>\n```json\n{READ}\n```\n</tool_call>", "", [READ_CALL]),
    ("a tag in a fence", f"```xml\n<tool_call>\n{READ}\n</tool_call>\n```", "", [READ_CALL]),
    ("two fences", f"1\n```json\n{READ}\n```\n2\n```json\n{BASH}\n```\n3", "1\n\n2\n\n3",
        [READ_CALL, BASH_CALL]),
    ("two in one fence", f"```json\n{READ}\n{BASH}\n```", "", [READ_CALL, BASH_CALL]),
    ("an array in a fence", f"```json\n[{READ},\n{BASH}]\n```", "", [READ_CALL, BASH_CALL]),
    ("a bare array", f"[{READ}, {BASH}]", "", [READ_CALL, BASH_CALL]),
    ("an indented fence", f"1. Look:\n   ```json\n   {READ}\n   ```", "1. Look:\n   ", [READ_CALL]),
    ("a fence that is never closed", f"```json\n{READ}\n", "", [READ_CALL]),
    ("a fence closed by half", f"```json\n{READ}\n``", "", [READ_CALL]),
    ("braces doubled, as in the model's own template",
        f"<tool_call>\n{{{READ}}}\n</tool_call>", "", [READ_CALL]),
    ("braces doubled, bare", f"{{{READ}}}", "", [READ_CALL]),
    ("braces doubled, in a fence", f"```json\n{{{READ}}}\n```", "", [READ_CALL]),
    ("arguments as a string", '{"name": "bash", "arguments": "{\\"command\\": \\"ls\\"}"}', "",
        [BASH_CALL]),
    ("no arguments, as an empty string", '{"name": "list", "arguments": ""}', "", [("list", {})]),
    ("no arguments, as null", '{"name": "list", "arguments": null}', "", [("list", {})]),
    ("under parameters", '{"name": "bash", "parameters": {"command": "ls"}}', "", [BASH_CALL]),
    ("in OpenAI's envelope", f'{{"type": "function", "function": {BASH}}}', "", [BASH_CALL]),
    ("arguments first", '{"arguments": {"command": "ls"}, "name": "bash"}', "", [BASH_CALL]),
    ("no arguments at all, in a tag", '<tools>{"name": "list"}</tools>', "", []),
    ("a tool nobody offered, in the calls' tag",
        '<tool_call>{"name": "x", "arguments": {}}</tool_call>', "", [("x", {})]),
    ("a line break in a string", '{"name": "bash", "arguments": {"command": "a\nb\tc"}}', "",
        [("bash", {"command": "a\nb\tc"})]),
    ("tags, fences and braces in a string",
        '<tool_call>{"name": "bash", "arguments": {"command": "</tool_call>```json\\n{}\\"}"}}'
        "</tool_call>", "", [("bash", {"command": '</tool_call>```json\n{}"}'})]),
    ("half of a surrogate pair", '{"name": "bash", "arguments": {"command": "\\ud83d"}}', "",
        [("bash", {"command": "\ud83d"})]),
    ("other letters", '{"name": "bash", "arguments": {"command": "echo 你好 🎉"}}', "",
        [("bash", {"command": "echo 你好 🎉"})]),
    ("text right after a closing tag", f"<tool_call>{READ}</tool_call>Done.", "Done.", [READ_CALL]),
    ("a word after a bare call's line", f"{READ}\n\nThat's all.", "\n\nThat's all.", [READ_CALL]),
]
# `<tools>` without arguments is not told from a declaration.
MADE = [
    (name, text, text if not calls else left, calls) for name, text, left, calls in MADE
]

TEXT = [
    ("nothing", ""),
    ("space", " \n\n "),
    ("prose", "The <b>tool</b> reads {files} [here](there), `x < y`, a <tool and </tool_call>."),
    ("a fence that names no tool", '```json\n{"name": "autocode", "version": "1.0"}\n```\nThat.'),
    ("a fence of a tool nobody offered", '```json\n{"name": "deploy", "arguments": {}}\n```'),
    ("bare, of a tool nobody offered", '{"name": "deploy", "arguments": {}}'),
    ("<tools> of a tool nobody offered", '<tools>{"name": "deploy", "arguments": {}}</tools>'),
    ("a call among other things in a fence", f'```json\n{READ}\n{{"a": 1}}\n```'),
    ("a call with words after it in a fence", f"```json\n{READ}\nand more\n```\nx"),
    ("a call in code", f"```python\ncall = 1\n{READ}\n```\n"),
    ("a tag in code", f"```python\n<tool_call>{READ}</tool_call>\n```\n"),
    ("a tag in inline code", f"Write `<tool_call>{READ}</tool_call>` then."),
    ("a call within a line", f"Write {READ} there."),
    ("a call that a line goes on after", f"{READ} is what I would write."),
    ("a call within other JSON", f'{{"tools": [\n{READ}\n]}}'),
    ("a call within a list of other things", f'["a",\n{READ}\n]'),
    ("a tool's declaration",
        '<tools>\n{"type": "function", "function": {"name": "bash", "description": "Runs it", '
        '"parameters": {"type": "object", "properties": {}}}}\n</tools>'),
    ("a declaration without words",
        '{"name": "bash", "parameters": {"type": "object", "properties": {"command": {}}}}'),
    ("arguments that are no object", '{"name": "bash", "arguments": "ls -la"}'),
    ("arguments that are a list", '{"name": "bash", "arguments": ["ls"]}'),
    ("both names for arguments", '{"name": "bash", "arguments": {}, "parameters": {}}'),
    ("a key that no call has", '{"name": "bash", "arguments": {}, "description": "x"}'),
    ("a name alone", '{"name": "bash"}'),
    ("a number too great", '{"name": "bash", "arguments": {"a": 1e999}}'),
    ("no number", '{"name": "bash", "arguments": {"a": NaN}}'),
    ("a comma too many", '{"name": "bash", "arguments": {"a": 1,}}'),
    ("an escape that JSON has not", '{"name": "bash", "arguments": {"a": "\\d"}}'),
    ("quotes of Python", "{'name': 'bash', 'arguments': {}}"),
    ("too deep", '{"name": "bash", "arguments": ' + '{"a":' * 200 + "1" + "}" * 201),
    ("an empty tag", "<tool_call></tool_call>"),
    ("two opening tags", "<tool_call><tools>"),
    ("a tag and words", "<tool_call>get_weather</tool_call>"),
    ("a name that is a placeholder",
        '<tool_call>{"name": "<function>", "arguments": {}}</tool_call>'),
    ("an empty fence", "```json\n```\nand"),
    ("an empty list", "[]"),
    ("a call that one letter follows", f"{READ} i"),
    ("a bare call of no tool, after a tag that held nothing",
        '<tool_call> x\n{"name": "deploy", "arguments": {}}'),
    ("a bare call of no tool, after a tag whose call was none",
        'x <tool_call>{"a": 1}\n{"name": "deploy", "arguments": {}}'),
    ("a template's braces", "{{ name }}\n{% if x %}"),
    ("a checkbox", "[ ] one\n[x] two"),
    ("short ticks", "``json\n" + READ + " x"),
    ("an unknown fence", "```json title=x\n" + READ + "\n```"),
]

CUT_OFF = [
    ("in a string", "<tool_call>\n" + READ[:-6], 0),
    ("before the last brace", READ[:-1], 0),
    ("in a tag's letters", "Look:\n<tool_c", 0),
    ("after a tag", "<tool_call>\n", 0),
    ("in a fence's letters", "``", 0),
    ("in a fence", "```json\n" + READ[:20], 0),
    ("in the second of two", f"<tool_call>{READ}</tool_call>\n<tool_call>{BASH[:-3]}", 1),
    ("in the second of a fence", f"```json\n{READ}\n{BASH[:-3]}", 1),
    ("in the second of bare ones", f"{READ}\n{BASH[:-3]}", 1),
    ("in the second of an array", f"[{READ}, {BASH[:-3]}", 0),
]


def read(chunks, tools=TOOLS):
    stream = ToolCallStream(tools)
    events = [event for chunk in chunks for event in stream.feed(chunk)]
    return stream, [*events, *stream.finish()]


def source_of(events):
    return "".join(event.source for event in events)


def content_of(events):
    return "".join(event.source for event in events if isinstance(event, Text))


def calls_of(events):
    return [(event.name, event.arguments) for event in events if isinstance(event, Call)]


def outcome_of(events):
    """Whatever the chunks: text that came in parts is one text."""
    merged = []
    for event in events:
        if merged and type(merged[-1]) is type(event) and not isinstance(event, Call):
            merged[-1] = type(event)(merged[-1].source + event.source)
        else:
            merged.append(event)
    return merged


def cut(text, rng):
    chunks = []
    while text:
        size = rng.choice((1, 1, 2, 3, 5, 8, 13, 40, 400))
        chunks.append(text[:size])
        text = text[size:]
    return chunks


class Reads(unittest.TestCase):
    def check(self, text, content, calls):
        for chunks in ([text], list(text)):
            _, events = read(chunks)
            called = [(name, json.loads(given)) for name, given in calls_of(events)]
            self.assertEqual((content_of(events), called), (content, calls))
            self.assertEqual(source_of(events), text)

    def test_what_was_recorded_of_the_models(self):
        for source, text, content, calls in RECORDED:
            with self.subTest(source):
                self.check(text, content, calls)

    def test_each_form(self):
        for name, text, content, calls in MADE:
            with self.subTest(name):
                self.check(text, content, calls)

    def test_what_is_no_call_stays_text(self):
        for name, text in TEXT:
            with self.subTest(name):
                self.check(text, text, [])

    def test_a_call_that_breaks_off_is_text(self):
        for name, text, count in CUT_OFF:
            with self.subTest(name):
                _, events = read([text])
                self.assertEqual(calls_of(events), calls_of(read([READ])[1]) * count)
                self.assertEqual(source_of(events), text)
                rest = text.split(READ)[-1] if count else text
                self.assertTrue(rest.endswith(content_of(events)), content_of(events))
                self.assertIn((BASH[:-3] if count else text).strip()[-8:], content_of(events))

    def test_without_tools_everything_is_text(self):
        for _, text, _, _ in RECORDED:
            self.assertEqual(content_of(read(cut(text, random.Random(1)), ())[1]), text)

    def test_arguments_can_be_sent(self):
        """Also half of a surrogate pair, which UTF-8 has no bytes for."""
        for _, text, _, calls in RECORDED + MADE:
            for _, given in calls_of(read([text])[1]):
                self.assertIsInstance(json.loads(given), dict)
                given.encode()

    def test_depth_has_a_limit_that_no_call_reaches(self):
        for depth, is_call in ((DEPTH_MAX - 1, True), (DEPTH_MAX, False), (50_000, False)):
            text = '{"name": "bash", "arguments": ' + '{"a":' * (depth - 1) + "{}" + "}" * depth
            self.assertEqual(bool(calls_of(read([text])[1])), is_call, depth)

    def test_it_says_while_it_holds_something(self):
        stream = ToolCallStream(TOOLS)
        held = []
        for chunk in ("Hello", " <", "tool_call>", READ[:9], READ[9:], "\n</tool_call>", "x"):
            stream.feed(chunk)
            held.append(stream.is_holding)
        self.assertEqual(held, [False, True, True, True, False, False, False])


PIECES = [
    *(text for _, text, _, _ in RECORDED),
    *(text for _, text, _, _ in MADE),
    *(text for _, text in TEXT),
    *(text for _, text, _ in CUT_OFF),
    *"<>{}[]`\"\\,;:\n\r\t xé🎉",
    *("<tool_call>", "</tool_call>", "<tools>", "</tools>", "```", "```json", "```python", "\n\n"),
    *('{"name": "', '"arguments": {', "read_file", "null", "1.5e3", "\\u00e9", "\\", "</", "<t"),
    *("A word. ", "def f():\n    return {}\n", "| a | b |\n", "<div>", "x < y && y > z"),
]


class Properties(unittest.TestCase):
    def test_cuts_change_nothing_and_nothing_is_lost(self):
        rng = random.Random(SEED)
        called = 0
        for round_number in range(1500):
            count = rng.randrange(1, 7)
            parts = [rng.choice(PIECES) for _ in range(count)]
            text = rng.choice(("", "\n", "\n\n", " ")).join(parts)
            if rng.random() < 0.3:
                text = text[: rng.randrange(len(text) + 1)]
            with self.subTest(seed=SEED, round=round_number, text=text):
                whole_stream, whole = read([text])
                self.assertEqual(source_of(whole), text)
                stream, parted = read(cut(text, rng))
                self.assertEqual(outcome_of(parted), outcome_of(whole))
                for _, given in calls_of(whole):
                    self.assertIsInstance(json.loads(given), dict)
                for one in (stream, whole_stream):
                    self.assertLessEqual(one.examined, 4 * len(text) + 4)
                called += bool(calls_of(whole))
        self.assertGreater(called, 250)

    def test_random_characters_are_kept(self):
        rng = random.Random(SEED)
        letters = "<>{}[]`\"\\,:;/ \n tolcanmergus_0-tf\ud800é"
        for round_number in range(1500):
            text = "".join(rng.choices(letters, k=rng.randrange(120)))
            with self.subTest(seed=SEED, round=round_number, text=text):
                _, whole = read([text])
                _, parted = read(cut(text, rng))
                self.assertEqual(source_of(whole), text)
                self.assertEqual(outcome_of(parted), outcome_of(whole))

    def test_calls_in_text_come_out_as_they_went_in(self):
        """The answer is known here, for it was put together from it."""
        rng = random.Random(SEED)
        for round_number in range(500):
            text, content, calls = "", "", []
            for _ in range(rng.randrange(1, 5)):
                words = rng.choice(("I look at it.\n", "Then, at once:\n\n", "Next `x`, see.\n"))
                name = rng.choice(TOOLS)
                words_given = "".join(rng.choices('x"\\\n{}<>`é🎉', k=rng.randrange(30)))
                given = {"a": words_given, "b": [1, {}]}
                call = json.dumps(
                    {"name": name, "arguments": given},
                    ensure_ascii=rng.random() < 0.5,
                    indent=rng.choice((None, 2)),
                )
                shape = rng.choice(
                    ("<tool_call>\n{}\n</tool_call>", "<tools>{}</tools>", "```json\n{}\n```", "{}")
                )
                text += words + shape.replace("{}", call, 1) + "\n"
                content += words
                # The space after a call is content only where more text follows.
                calls.append((name, given))
                content += "\n"
            with self.subTest(seed=SEED, round=round_number, text=text):
                _, events = read(cut(text, rng))
                self.assertEqual(content_of(events), content[:-1])
                self.assertEqual([(n, json.loads(a)) for n, a in calls_of(events)], calls)

    def test_the_work_is_linear(self):
        """Of what may not end, of what is rejected again and again, of one long call."""
        long = json.dumps({"name": "write_file", "arguments": {"content": "ab\n\"'{}<`" * 20_000}})
        hostile = [
            long,
            f"<tool_call>{long}</tool_call>",
            f"```json\n{long}\n```",
            long[:-1],
            '\n{"name":' * 20_000,
            '\n{"name":"read_file","arguments":' * 6_000,
            "<tool_call>" * 20_000,
            "<tool_call>{" * 20_000,
            "<" * 200_000,
            "`" * 200_000,
            "```json\n" * 25_000,
            "\n" * 200_000,
            " " * 200_000,
            "[" * 200_000,
            '{"name": "' + "a" * 200_000,
            f"{READ}\n" * 4_000,
            "a line of text\n" * 14_000,
        ]
        for text in hostile:
            with self.subTest(text[:40]):
                stream, events = read([text[at : at + 8] for at in range(0, len(text), 8)])
                self.assertEqual(source_of(events), text)
                self.assertLessEqual(stream.examined, 4 * len(text) + 4)
        self.assertEqual(len(calls_of(read([long])[1])), 1)


if __name__ == "__main__":
    unittest.main()
