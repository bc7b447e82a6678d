/**
 * Where LLM calls are paid: public hosts of model APIs, and what the paths of calls end with. Pure.
 *
 * A call to one of these that did not go through the gateway has no reservation. The table names
 * who sells calls to anybody; a host that is lacking is found by the installation's and the
 * projects' own providers, which are added to it.
 */

/** A host, or `*.` and all below it. */
export const LLM_HOSTS: readonly string[] = [
  "api.openai.com",
  "api.anthropic.com",
  "generativelanguage.googleapis.com",
  "*.aiplatform.googleapis.com",
  "aiplatform.googleapis.com",
  "*.openai.azure.com",
  "*.services.ai.azure.com",
  "*.inference.ai.azure.com",
  "models.inference.ai.azure.com",
  "models.github.ai",
  "api.githubcopilot.com",
  "*.githubcopilot.com",
  "chatgpt.com",
  "*.amazonaws.com",
  "api.mistral.ai",
  "codestral.mistral.ai",
  "api.cohere.com",
  "api.cohere.ai",
  "api.groq.com",
  "api.together.xyz",
  "api.together.ai",
  "openrouter.ai",
  "api.deepseek.com",
  "api.x.ai",
  "api.fireworks.ai",
  "api.perplexity.ai",
  "api.cerebras.ai",
  "api.sambanova.ai",
  "api.hyperbolic.xyz",
  "api.novita.ai",
  "api.deepinfra.com",
  "api.ai21.com",
  "api.voyageai.com",
  "api.replicate.com",
  "api-inference.huggingface.co",
  "router.huggingface.co",
  "integrate.api.nvidia.com",
  "dashscope.aliyuncs.com",
  "dashscope-intl.aliyuncs.com",
  "api.moonshot.cn",
  "api.moonshot.ai",
  "open.bigmodel.cn",
  "api.z.ai",
  "api.minimax.io",
  "api.minimaxi.com",
  "ark.cn-beijing.volces.com",
];

/** Bedrock is one of very many hosts of that name. */
const AMAZON = /^bedrock-runtime[a-z-]*\.[a-z0-9-]+\.amazonaws\.com$/;

/** How the paths of calls end that cost something; counting tokens and listing models is free. */
const PAID_PATH = new RegExp(
  [
    "/(?:chat/completions|completions|responses|messages|embeddings|rerank|predictions)",
    "/(?:images/(?:generations|edits|variations)|audio/(?:speech|transcriptions|translations))",
    "/(?:converse|converse-stream|invoke|invoke-with-response-stream|realtime)",
    "[:/](?:generateContent|streamGenerateContent|predict|rawPredict|streamRawPredict)",
    "/text-generation/generation|/multimodal-generation/generation",
  ]
    .map((part) => `(?:${part})`)
    .join("|")
    .replace(/^(.*)$/, "(?:$1)/?$"),
);

/**
 * Whether `host` sells model calls.
 *
 * @param own addresses of providers: `http://10.0.0.7:8000`, with or without a path.
 */
export function isLlmHost(host: string, port: number, own: readonly string[]): boolean {
  const name = host.toLowerCase().replace(/\.$/, "");
  if (own.some((address) => isAt(address, name, port))) return true;
  if (name.endsWith(".amazonaws.com")) return AMAZON.test(name);
  return LLM_HOSTS.some((known) =>
    known.startsWith("*.") ? name.endsWith(known.slice(1)) : name === known,
  );
}

/** Whether a request to such a host is a call: telemetry and lists of models are none. */
export function isCallPath(path: string): boolean {
  return PAID_PATH.test(path);
}

function isAt(address: string, host: string, port: number): boolean {
  if (!URL.canParse(address)) return false;
  const url = new URL(address);
  const at = url.port === "" ? (url.protocol === "https:" ? 443 : 80) : Number(url.port);
  return url.hostname.toLowerCase() === host && at === port;
}
