/** Goal: agents are told with what is installed of them; a failed installation is one line. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { type AgentInstaller, createAgents } from "../../../orchestrator/agents/installed.ts";
import type { InstallProgress } from "../../../orchestrator/contract/agents.ts";
import { AGENTS } from "../../../worker-agent/agents/registry.ts";

const FACTS = AGENTS.map(({ facts }) => facts);

/** Stands where npm and pip are: installs by word of mouth, and fails for `broken`. */
function createInstaller(broken: Record<string, string> = {}) {
  const installed = new Map<string, string>();
  const installer: AgentInstaller = {
    facts: FACTS,
    install: async (agent, onProgress) => {
      onProgress({ agent, step: "installing", detail: "1.2.3" });
      const fault = broken[agent];
      if (fault !== undefined) throw new Error(fault);
      installed.set(agent, "1.2.3");
      onProgress({ agent, step: "installed", detail: "1.2.3" });
    },
    installedVersion: async (agent) => installed.get(agent) ?? null,
  };
  return installer;
}

test("every agent of the registry is listed, with its version once it is installed", async () => {
  const agents = createAgents(createInstaller());
  const progress: InstallProgress[] = [];
  const versions = async () =>
    (await agents.list()).map(({ facts, installed_version }) => [facts.name, installed_version]);

  assert.deepEqual(
    await versions(),
    FACTS.map(({ name }) => [name, null]),
  );
  await agents.install("aider", (step) => void progress.push(step));
  assert.deepEqual(
    await versions(),
    FACTS.map(({ name }) => [name, name === "aider" ? "1.2.3" : null]),
  );
  assert.deepEqual(
    progress.map(({ agent, step }) => `${agent} ${step}`),
    ["aider installing", "aider installed"],
  );
});

test("an unknown agent is refused with the names of those there are", async () => {
  const names = FACTS.map(({ name }) => name).join(", ");
  await assert.rejects(
    createAgents(createInstaller()).install("nobody", () => {}),
    { code: "not_found", message: `No agent "nobody"; known: ${names}` },
  );
});

test("a failed installation is one bounded line, with its cause for the log", async () => {
  const words = `npm error code E404\n  npm error ${"x".repeat(2_000)}\n`;
  const agents = createAgents(createInstaller({ aider: words }));
  await assert.rejects(
    agents.install("aider", () => {}),
    (error: Error & { code?: string }) => {
      assert.equal(error.code, "unavailable");
      assert.match(error.message, /^aider could not be installed: npm error code E404 npm error x/);
      assert.ok(error.message.length <= 1_000 && !error.message.includes("\n"));
      assert.equal((error.cause as Error).message, words);
      return true;
    },
  );
});
