/**
 * Runs git for the orchestrator: no hooks, no host configuration, no prompts, no transport but
 * files, nothing fetched that a repository says it lacks, bounded output.
 */
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
    GIT_ALLOW_PROTOCOL: "file",
    // A partial clone's configuration names the command that fetches what is missing.
    GIT_NO_LAZY_FETCH: "1",
    GIT_OPTIONAL_LOCKS: "0",
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

const COMMAND_SETTING = /^(filter\..+)\.(clean|smudge|process|required)$/is;
const PROGRAM_SETTING = /^remote\..+\.uploadpack$/is;

/**
 * The environment in which no command of this repository's own configuration is run: it may come
 * from a stranger, and its filters would run as us when files are compared.
 */
export async function withoutCommands(repository: string): Promise<Record<string, string>> {
  const listed = await git(["config", "--list", "--includes", "--name-only", "-z"], {
    cwd: repository,
  });
  const overrides = new Map<string, string>();
  for (const name of listed.split("\0")) {
    if (PROGRAM_SETTING.test(name)) overrides.set(name, "false");
    const [, filter] = COMMAND_SETTING.exec(name) ?? [];
    if (filter === undefined) continue;
    for (const command of ["clean", "smudge", "process"]) overrides.set(`${filter}.${command}`, "");
    overrides.set(`${filter}.required`, "false");
  }
  // Not as `-c`: a filter's name may hold an equals sign.
  const entries = [...overrides].flatMap(([name, value], index) => [
    [`GIT_CONFIG_KEY_${index}`, name],
    [`GIT_CONFIG_VALUE_${index}`, value],
  ]);
  return { ...Object.fromEntries(entries), GIT_CONFIG_COUNT: String(overrides.size) };
}
