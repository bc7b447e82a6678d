/**
 * A coding CLI that is installed in Qwen Code's place: it plans with one model call and executes
 * with three, the last of which is dear. A task that says "slowly" keeps it at work until it is
 * ended. It is copied to where it runs, so it imports nothing of ours.
 */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

const { env, argv } = process;
const SLOWLY_MS = 120_000;
/** Much more than what a small budget covers. */
const DEAR_BYTES = 200_000;
const PAUSE_MS = 150;

const sessionFile = join(env["HOME"] ?? "", ".qwen/projects/session.txt");
const isPlan = argv.includes("--approval-mode");
const prompt = argv.at(-1) ?? "";

if (argv.includes("--version")) {
  process.stdout.write("0.24.4\n");
} else if (isPlan) {
  await ask("Plan it.");
  mkdirSync(join(sessionFile, ".."), { recursive: true });
  writeFileSync(sessionFile, prompt);
  finish();
} else {
  await ask("Begin.");
  if (/slowly/.test(readFileSync(sessionFile, "utf8"))) await sleep(SLOWLY_MS);
  writeFileSync("mended.txt", "yes\n");
  await sleep(PAUSE_MS);
  await ask("Go on.");
  await ask("x".repeat(DEAR_BYTES));
  finish();
}

async function ask(content: string): Promise<void> {
  const response = await fetch(`${env["OPENAI_BASE_URL"]}/chat/completions`, {
    method: "POST",
    headers: {
      authorization: `Bearer ${env["OPENAI_API_KEY"]}`,
      "content-type": "application/json",
    },
    body: JSON.stringify({
      model: env["OPENAI_MODEL"],
      max_tokens: 64,
      messages: [{ role: "user", content }],
    }),
  });
  const said = await response.text();
  if (response.ok) return;
  const failed = { type: "result", subtype: "error", is_error: true };
  const error = { message: said.slice(0, 500), status: response.status };
  process.stdout.write(`${JSON.stringify({ ...failed, error })}\n`);
  process.exit(1);
}

function finish(): void {
  const done = { type: "result", subtype: "success", is_error: false, result: "It is done." };
  process.stdout.write(`${JSON.stringify({ ...done, session_id: "small" })}\n`);
}
