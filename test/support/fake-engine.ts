/**
 * A model server as the launcher starts one: a process that is healthy after a while, lists its
 * model, answers chats with a fixed text and counts as vLLM does. What it is to do wrong comes in
 * its arguments: `--die <ms>` ends it as it loads, `POST /crash` later. A chat whose body names a
 * file as `hold_until` is answered once that is there. `POST /miss?looks=2` fails so many looks at
 * it; each answer of that path is how many are left.
 */
import { appendFileSync, existsSync } from "node:fs";
import { createServer } from "node:http";
import { parseArgs } from "node:util";

const { values } = parseArgs({
  // vLLM's own arguments are passed over: `models/serving/vllm-command.ts` has them.
  strict: false,
  options: {
    /** The first of several. */
    "served-model-name": { type: "string" },
    model: { type: "string", default: "m" },
    host: { type: "string", default: "127.0.0.1" },
    port: { type: "string", default: "0" },
    "load-ms": { type: "string", default: "0" },
    die: { type: "string" },
    /** A file with a line a start: its pid. */
    starts: { type: "string" },
  },
});
const text = (name: keyof typeof values) => String(values[name]);
const model = text(values["served-model-name"] === undefined ? "model" : "served-model-name");
const PROMPT_TOKENS = 100;
const OUTPUT_TOKENS = 20;
let isAsleep = false;
let missing = 0;
let running = 0;
let prompts = 0;
let outputs = 0;

if (values.starts !== undefined) appendFileSync(text("starts"), `${process.pid}\n`);
process.stdout.write(`loading the weights of ${model}\n`);
if (values.die !== undefined) {
  setTimeout(
    () => {
      process.stderr.write("torch.OutOfMemoryError: CUDA out of memory. Tried 2.00 GiB\n");
      process.exit(1);
    },
    Number(text("die")),
  );
} else {
  setTimeout(listen, Number(text("load-ms")));
}

function listen(): void {
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const json = (status: number, body: unknown) => {
      response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
    };
    const [path = "", query] = (request.url ?? "").split("?");
    switch (path) {
      case "/health":
        // A look ends with it, where what comes before it has failed.
        if (missing > 0) {
          missing -= 1;
          return json(503, {});
        }
        return json(200, {});
      case "/v1/models":
        return json(200, { object: "list", data: [{ id: model, object: "model" }] });
      case "/metrics":
        return missing > 0 ? json(503, {}) : void response.end(metrics());
      case "/miss":
        if (request.method === "POST") missing = Number(new URLSearchParams(query).get("looks"));
        return json(200, missing);
      case "/sleep":
        isAsleep = true;
        return json(200, {});
      case "/wake_up":
        isAsleep = false;
        return json(200, {});
      case "/is_sleeping":
        return json(200, { is_sleeping: isAsleep });
      case "/crash":
        return process.exit(9);
      case "/v1/chat/completions":
        // A real engine would answer from no weights at all.
        if (isAsleep) return json(500, { error: { message: "asleep" } });
        return answer(JSON.parse(Buffer.concat(chunks).toString("utf8")), json);
      default:
        return json(404, { error: { message: path } });
    }
  });
  server.listen(Number(text("port")), text("host"), () =>
    process.stdout.write("Application startup complete.\n"),
  );
}

function answer(
  { hold_until: path }: { hold_until?: string },
  json: (status: number, body: unknown) => void,
): void {
  running += 1;
  const end = () => {
    if (path !== undefined && !existsSync(path)) return void setTimeout(end, 10);
    running -= 1;
    prompts += PROMPT_TOKENS;
    outputs += OUTPUT_TOKENS;
    const message = { role: "assistant", content: `from ${model}` };
    json(200, {
      id: "chatcmpl-1",
      object: "chat.completion",
      model,
      choices: [{ index: 0, message, finish_reason: "stop" }],
      usage: {
        prompt_tokens: PROMPT_TOKENS,
        completion_tokens: OUTPUT_TOKENS,
        total_tokens: PROMPT_TOKENS + OUTPUT_TOKENS,
      },
    });
  };
  end();
}

function metrics(): string {
  const labels = `{engine="0",model_name="${model}"}`;
  return [
    "# TYPE vllm:num_requests_running gauge",
    `vllm:num_requests_running${labels} ${running}`,
    `vllm:num_requests_waiting${labels} 0.0`,
    `vllm:kv_cache_usage_perc${labels} ${running > 0 ? 0.25 : 0}`,
    `vllm:prompt_tokens_total${labels} ${prompts}`,
    `vllm:generation_tokens_total${labels} ${outputs}`,
    "",
  ].join("\n");
}
