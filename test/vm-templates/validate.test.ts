/**
 * Goal: the programs that will read the files find nothing wrong with them, and do find what is.
 *
 * Method: cloud-init, systemd-analyze, libvirt and nft check every golden's files and the units of
 * deploy/; the same checks are given broken files. A program that is not here is skipped by name.
 */
import assert from "node:assert/strict";
import { readdir, readFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { env } from "node:process";
import test from "node:test";
import { readCatalog } from "../../vm-templates/catalog.ts";
import { type RenderedFile, renderTemplate } from "../../vm-templates/render.ts";
import { runTool } from "../../vm-templates/tools.ts";
import { type Finding, validateFiles } from "../../vm-templates/validate.ts";
import { GOLDENS, NEEDED } from "./settings.ts";

const ROOT = resolve(import.meta.dirname, "../..");
/** No package of Debian's: its own words are checked where it is there. */
const OPTIONAL = /^nomad is not installed$|^nft asks the kernel as root$/;
/** What systemd-analyze counts from 0 (closed) to 10 (open), by unit. */
const EXPOSURE_MAX: Readonly<Record<string, number>> = {
  // It makes networks and mounts for trials (CAP_NET_ADMIN, CAP_SYS_ADMIN): 3.5 without.
  "autocode-worker.service": 4.3,
  "autocode-desktop.service": 1.5,
  "autocode.service": 2,
  "autocode-gateway.service": 2,
};

async function check(files: readonly RenderedFile[]): Promise<Finding[]> {
  return validateFiles(files, { signal: new AbortController().signal, onCheck() {} });
}

for (const { golden, template, layer } of GOLDENS) {
  test(`${golden}: every program that will read its files takes them`, async (t) => {
    const files = renderTemplate(await readCatalog([]), template, [layer]);
    judge(t, await check(files));
  });
}

test("the orchestrator's own units and firewall are right", async (t) => {
  const files: RenderedFile[] = [];
  for (const folder of ["deploy/systemd", "deploy/nftables"]) {
    for (const name of await readdir(join(ROOT, folder))) {
      const text = await readFile(join(ROOT, folder, name), "utf8");
      files.push({ name: name === "autocode.conf" ? "nftables.conf" : name, text, mode: 0o644 });
    }
  }
  assert.equal(files.length, 3);
  judge(t, await check(files));
});

test("what is wrong is found, in the program's own words", async (t) => {
  const files = renderTemplate(await readCatalog([]), "worker", [NEEDED]);
  const broken = new Map<string, [string, string, RegExp]>([
    ["user-data", ["manage_etc_hosts: true", "manage_etc_hosts: [1]", /manage_etc_hosts/]],
    ["autocode-worker.service", ["Restart=always", "Restart=forever", /restart/i]],
    ["domain.xml", ["<vcpu ", "<cpus ", /./]],
    ["nftables.conf", ["policy drop", "policy maybe", /error/i]],
    ["trust.sh", ["set -eu", "if true; then", /./]],
    ["network-config", ["ethernets:", "ethernets: [", /./]],
  ]);
  const findings = await check(
    files.map((file) => {
      const [from = "", to = ""] = broken.get(file.name) ?? [];
      return { ...file, text: file.text.replace(from, to) };
    }),
  );
  for (const [name, [, , words]] of broken) {
    const own = findings.filter(({ file, outcome }) => file === name && outcome !== "passed");
    const failed = own.filter(({ outcome }) => outcome === "failed");
    if (failed.length === 0 && own.length > 0) {
      t.diagnostic(`${name}: ${own.map(({ detail }) => detail).join(", ")}`);
      assert.notEqual(env["AUTOCODE_REQUIRE_ENGINES"], "all", `${name} was not checked`);
      continue;
    }
    assert.ok(failed.length > 0, `${name}: nothing was found`);
    assert.match(failed.map(({ detail }) => detail).join("; "), words, name);
  }
});

test("an absent program is a skip with its name; an interrupt ends what runs", async () => {
  assert.equal(await runTool("autocode-no-such-program", []), null);
  const interrupt = new AbortController();
  const sleeping = runTool("sleep", ["600"], { signal: interrupt.signal });
  interrupt.abort(new Error("enough"));
  await assert.rejects(sleeping, /enough/);
});

/** Nothing failed; what could not be asked is named, and is no pass where all engines must be. */
function judge(t: { diagnostic(message: string): void }, findings: readonly Finding[]): void {
  for (const { file, check: name, outcome, detail } of findings) {
    assert.notEqual(outcome, "failed", `${file}: ${name}: ${detail}`);
    if (outcome === "skipped") {
      t.diagnostic(`skipped: ${file}: ${name}: ${detail}`);
      const isRequired = env["AUTOCODE_REQUIRE_ENGINES"] === "all" && !OPTIONAL.test(detail);
      assert.ok(!isRequired, `${file}: ${name} is required, but ${detail}`);
    } else if (name === "systemd-analyze security" && file in EXPOSURE_MAX) {
      assert.ok(Number.parseFloat(detail) <= (EXPOSURE_MAX[file] ?? 0), `${file}: ${detail}`);
    }
  }
  assert.ok(findings.length > 0);
}
