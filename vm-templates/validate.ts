/**
 * Has the rendered files checked by the programs that will read them. A program that is not on this
 * machine is a named skip: nobody should believe that a file was checked when it was not.
 */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { RenderedFile } from "./render.ts";
import { type Ended, lastWords, runTool } from "./tools.ts";

export interface Finding {
  file: string;
  /** The program, and what it was asked. */
  check: string;
  outcome: "passed" | "failed" | "skipped";
  /** The program's own words, or why it was not asked. */
  detail: string;
}

interface Check {
  of: RegExp;
  name: string;
  file: string;
  args: (path: string, dir: string) => string[];
  /** What is wrong by its words, where its exit status is not all; null: nothing. */
  judge?: (ended: Ended, path: string) => Pick<Finding, "outcome" | "detail"> | null;
}

const CHECKS: readonly Check[] = [
  {
    of: /^user-data$/,
    name: "cloud-init schema",
    file: "cloud-init",
    args: (path) => ["schema", "--config-file", path],
    // It exits 0 on what it only warns of, and says "Valid" when all is well.
    judge: ({ exit, output }) => {
      const isValid = exit === 0 && /valid/i.test(output) && !/invalid|deprecat/i.test(output);
      return { outcome: isValid ? "passed" : "failed", detail: lastWords(output) };
    },
  },
  {
    of: /^network-config$/,
    name: "cloud-init net-convert",
    file: "cloud-init",
    args: (path, dir) => [
      ...["devel", "net-convert", "--network-data", path, "--kind", "yaml"],
      ...["--directory", join(dir, "net"), "--distro", "ubuntu", "--output-kind", "networkd"],
    ],
  },
  {
    of: /\.service$/,
    name: "systemd-analyze verify",
    file: "systemd-analyze",
    args: (path) => ["verify", "--man=no", path],
    judge: ({ output }, path) => {
      // Its programs are in the VM, not here; of other units of this machine nothing is asked.
      const own = output
        .split("\n")
        .filter((line) => line.includes(path.split("/").at(-1) ?? path))
        .filter((line) => !/is not executable: No such file or directory/.test(line));
      return { outcome: own.length === 0 ? "passed" : "failed", detail: own.join("; ") };
    },
  },
  {
    of: /\.service$/,
    name: "systemd-analyze security",
    file: "systemd-analyze",
    args: (path) => ["security", "--offline=true", "--no-pager", path],
    judge: ({ exit, output }) => ({
      outcome: exit === 0 ? "passed" : "failed",
      detail: /Overall exposure level.*?: ([\d.]+ \w+)/.exec(output)?.[1] ?? lastWords(output),
    }),
  },
  {
    of: /^domain\.xml$/,
    name: "virt-xml-validate",
    file: "virt-xml-validate",
    args: (path) => [path, "domain"],
  },
  { of: /\.xml$/, name: "xmllint", file: "xmllint", args: (path) => ["--noout", path] },
  {
    of: /^nftables\.conf$/,
    name: "nft --check",
    file: "nft",
    args: (path) => ["--check", "--file", path],
    judge: ({ exit, output }) => {
      if (!/Operation not permitted|must be root/.test(output)) return null;
      return { outcome: exit === 0 ? "passed" : "skipped", detail: "nft asks the kernel as root" };
    },
  },
  { of: /\.sh$/, name: "sh -n", file: "sh", args: (path) => ["-n", path] },
  {
    of: /\.hcl$/,
    name: "nomad config validate",
    file: "nomad",
    args: (path) => ["config", "validate", path],
  },
];

/** Every check of every file, in their order. @throws the signal's reason when it is aborted. */
export async function validateFiles(
  files: readonly RenderedFile[],
  { signal, onCheck }: { signal: AbortSignal; onCheck: (what: string) => void },
): Promise<Finding[]> {
  const dir = await mkdtemp(join(tmpdir(), "autocode-vm-"));
  const findings: Finding[] = [];
  try {
    for (const { name, text, mode } of files) {
      const path = join(dir, name);
      await writeFile(path, text, { mode });
      for (const check of CHECKS.filter(({ of }) => of.test(name))) {
        onCheck(`${name}: ${check.name}`);
        const ended = await runTool(check.file, check.args(path, dir), { signal });
        findings.push({ file: name, check: check.name, ...outcomeOf(check, ended, path) });
      }
    }
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
  return findings;
}

function outcomeOf(
  check: Check,
  ended: Ended | null,
  path: string,
): Pick<Finding, "outcome" | "detail"> {
  if (ended === null) return { outcome: "skipped", detail: `${check.file} is not installed` };
  const judged = check.judge?.(ended, path);
  if (judged !== undefined && judged !== null) return judged;
  return ended.exit === 0
    ? { outcome: "passed", detail: "" }
    : { outcome: "failed", detail: lastWords(ended.output) };
}
