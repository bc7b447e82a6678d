/** What is on the disk, for tests of what is rendered: one model's weights, and its plugin. */
import type { RenderFacts } from "../../models/serving/render.ts";
import { CARDS, CODER_CARD } from "./model-plan.ts";

export const RENDER_FACTS: RenderFacts = {
  cards: CARDS,
  weightsRoot: "/home/shared/model-weights",
  weightsDirs: new Map([
    [CODER_CARD.name, `/home/shared/model-weights/${CODER_CARD.name}/bf16/b693088`],
  ]),
  // With what HCL and consul-template would take for their own.
  plugins: new Map([
    // biome-ignore lint/suspicious/noTemplateCurlyInString: Python's
    ["qwen25_coder_tool_parser.py", 'NAME = f"${1}"\nLIMIT = "%{2}"\nPATH = "a\\\\b"\n'],
    ["tool_call_json.py", "BRACES = '{{ x }}'\n"],
  ]),
  python: "/opt/vllm/bin/python",
};
