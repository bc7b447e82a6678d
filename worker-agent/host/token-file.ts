/** The worker token of a host, kept across its restarts in a file that its user alone may read. */
import { readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { makePassage } from "../rooms.ts";

export interface TokenFile {
  read(): Promise<string | null>;
  write(token: string): Promise<void>;
  forget(): Promise<void>;
}

export function createTokenFile(dir: string): TokenFile {
  const path = join(dir, "worker-token");
  return { read, write, forget };

  async function read(): Promise<string | null> {
    const text = (await readFile(path, "utf8").catch(() => "")).trim();
    return text === "" ? null : text;
  }

  /** Whole or not at all: a host that is killed meanwhile has the one before. */
  async function write(token: string): Promise<void> {
    await makePassage(dir);
    await rm(`${path}.new`, { force: true });
    await writeFile(`${path}.new`, `${token}\n`, { mode: 0o600, flag: "wx", flush: true });
    await rename(`${path}.new`, path);
  }

  async function forget(): Promise<void> {
    await rm(path, { force: true });
  }
}
