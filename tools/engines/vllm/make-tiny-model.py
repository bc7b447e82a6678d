"""Makes a model of the Qwen2 kind that is small enough to be made on the spot: 336,000 random
weights, a byte-level tokenizer learnt from the texts it is given, a ChatML template with tools.

What it writes is noise, and the same noise each time: the weights are seeded. It is served as any
model is, so that streams, counts, tools, aborts and ends are an engine's own.

python make-tiny-model.py FOLDER TEXT...
"""

import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

VOCABULARY = 4096
# Agents' first prompts are long, and a small vocabulary makes them longer.
CONTEXT_TOKENS = 131072
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
# So many rare tokens end an answer as well.
ENDS = 31
# What parsers look for by the token.
MARKS = ["<think>", "</think>", "<tool_call>", "</tool_call>"]
# As Qwen2.5's own does it, with parts of text read as one.
TEMPLATE = """
{%- macro text(content) -%}
{%- if content is string %}{{ content }}
{%- elif content %}{% for part in content %}{{ part.text or '' }}{% endfor %}{% endif -%}
{%- endmacro -%}
{%- set first = messages[0] -%}
{{- '<|im_start|>system\\n' }}
{%- if first.role == 'system' %}{{ text(first.content) }}{% else %}You are helpful.{% endif -%}
{%- if tools %}
{{- '\\n\\n# Tools\\n\\n<tools>' }}
{%- for tool in tools %}{{ '\\n' ~ (tool | tojson) }}{% endfor -%}
{{- '\\n</tools>\\n\\nCall one as <tool_call>\\n{"name": ..., "arguments": ...}\\n</tool_call>' }}
{%- endif -%}
{{- '<|im_end|>\\n' }}
{%- for message in messages -%}
{%- if message.role == 'tool' -%}
{{- '<|im_start|>user\\n<tool_response>\\n' ~ text(message.content) }}
{{- '\\n</tool_response><|im_end|>\\n' }}
{%- elif not (loop.first and message.role == 'system') -%}
{{- '<|im_start|>' ~ message.role ~ '\\n' ~ text(message.content) }}
{%- for call in message.tool_calls or [] -%}
{%- set asked = call.function or call -%}
{{- '\\n<tool_call>\\n{"name": "' ~ asked.name ~ '", "arguments": ' }}
{{- (asked.arguments if asked.arguments is string else asked.arguments | tojson) }}
{{- '}\\n</tool_call>' }}
{%- endfor -%}
{{- '<|im_end|>\\n' }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|im_start|>assistant\\n' }}
{%- if not enable_thinking %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif -%}
{%- endif -%}
""".strip()


def make_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(MARKS),
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_tokens(MARKS)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        model_max_length=CONTEXT_TOKENS,
        chat_template=TEMPLATE,
    )


def make_model(eos: int) -> Qwen2ForCausalLM:
    torch.manual_seed(1)
    # Of noise one token in 4096 would be its end, and agents take an answer that was cut for none.
    ends = [eos, *range(VOCABULARY - len(MARKS) - ENDS, VOCABULARY - len(MARKS))]
    config = Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        # Heads of 32: vLLM's attention on a CPU has no smaller ones.
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=CONTEXT_TOKENS,
        tie_word_embeddings=True,
        eos_token_id=eos,
        bos_token_id=None,
    )
    model = Qwen2ForCausalLM(config).to(torch.bfloat16)
    model.generation_config.eos_token_id = ends
    return model


def main(folder: str, *files: str) -> None:
    tokenizer = make_tokenizer([Path(file).read_text(encoding="utf-8") for file in files])
    tokenizer.save_pretrained(folder)
    make_model(tokenizer.convert_tokens_to_ids("<|im_end|>")).save_pretrained(folder)


main(*sys.argv[1:])
