/** Runs git for the orchestrator: no hooks, no host configuration, no prompts, bounded output. */
import { execFile } from "node:child_process";

export interface GitOptions {
  cwd: string;
  /** Added to a minimal environment. */
  env?: Readonly<Record<string, string>>;
}

const ISOLATION = [
  ...["-c", "core.hooksPath=/dev/null"],
  ...["-c", "core.fsmonitor=false"],
  ...["-c", "protocol.ext.allow=never"],
  ...["-c", "safe.directory=*"],
];

/** What git prints on standard output, without the last newline. @throws Error with its stderr. */
export function git(args: readonly string[], { cwd, env = {} }: GitOptions): Promise<string> {
  const environment = {
    PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    LANG: "C.UTF-8",
    HOME: "/nonexistent",
    GIT_CONFIG_GLOBAL: "/dev/null",
    GIT_CONFIG_NOSYSTEM: "1",
    GIT_TERMINAL_PROMPT: "0",
    ...env,
  };
  return new Promise((resolve, reject) => {
    const options = { cwd, env: environment, maxBuffer: 64 * 1024 * 1024 };
    execFile("git", [...ISOLATION, ...args], options, (error, stdout, stderr) => {
      if (error === null) resolve(stdout.replace(/\n$/, ""));
      else reject(new Error(`git ${args[0]}: ${stderr.trim() || error.message}`, { cause: error }));
    });
  });
}
