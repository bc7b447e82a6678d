/** A model's card as a file has it, right in every way: a test spoils what it is about. */
export const CARD_TEXT = `title: Coder 1B
source: a test
licence:
  id: apache-2.0
  url: https://hub.test/licence
  needs_acceptance: false
parameters:
  total: 1200000000
architecture:
  layers: 2
  hidden: 64
  intermediate: 128
  heads: 4
  kv_heads: 2
  head_dim: 16
  vocabulary: 1024
  context_tokens: 16384
  dtype: bf16
  has_tied_embeddings: true
quantisations:
  - name: bf16
    repository: Org/Coder-1B
    revision: 0123456789abcdef0123456789abcdef01234567
    weight_bytes: 2400000000
  - name: fp8
    repository: Org/Coder-1B
    revision: 0123456789abcdef0123456789abcdef01234567
    is_at_load: true
    weight_bytes: 1300000000
calls_tools: true
tool_parser:
  name: hermes
sampling:
  temperature: 0.7
  top_p: 0.8
context_tokens: 8192
max_output_tokens: 2048
`;
