/** The installation: start it, log in, ask it how it is. */
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import type { DoctorReport, Finding, LoginLink } from "../../contract/system.ts";
import { type Command, JSON_OPTION } from "../command.ts";
import { EXIT, type Exit, Failure } from "../failure.ts";

export const up: Command = {
  name: "up",
  summary: "Start everything, in the foreground; Ctrl-C stops it",
  async run({ config }) {
    // In this process, so that a signal sent to it stops it: `main.ts` sets the exit status.
    await import(pathToFileURL(join(config.rootDir, "orchestrator/main.ts")).href);
    return (process.exitCode ?? EXIT.done) as Exit;
  },
};

export const login: Command = {
  name: "login",
  summary: "Print a link that logs one browser in, once",
  options: { json: JSON_OPTION },
  async run({ options, print, connect }) {
    const client = await connect();
    const link = await client.post<LoginLink>("login-links");
    if (options.flag("json")) print.json(link);
    else print.line(link.url);
    return EXIT.done;
  },
};

export const doctor: Command = {
  name: "doctor",
  summary: "Say what is in force, what is missing, and what to do about it",
  options: { json: JSON_OPTION },
  async run({ options, print, connect }) {
    const client = await connect();
    const { findings } = await client.get<DoctorReport>("doctor");
    if (options.flag("json")) print.json(findings);
    else {
      const width = Math.max(...findings.map(({ part }) => part.length));
      for (const finding of findings)
        for (const line of findingLines(finding, width)) print.line(line);
    }
    return findings.some(({ status }) => status === "missing") ? EXIT.failed : EXIT.done;
  },
};

/** A completion script names every command; it is printed by `main.ts`, which knows them. */
export function completionScript(shell: string, commands: readonly Command[]): string {
  const nouns = new Map<string, string[]>();
  for (const { name } of commands) {
    const [noun = "", verb] = name.split(" ");
    nouns.set(noun, [...(nouns.get(noun) ?? []), ...(verb === undefined ? [] : [verb])]);
  }
  const first = [...nouns.keys()].join(" ");
  const cases = [...nouns].filter(([, verbs]) => verbs.length > 0);
  if (shell === "bash") {
    const arms = cases.map(([noun, verbs]) => `    ${noun}) words="${verbs.join(" ")}" ;;`);
    return `_autocode() {
  local words=""
  if [ "$COMP_CWORD" = 1 ]; then words="${first}"; fi
  if [ "$COMP_CWORD" = 2 ]; then case "\${COMP_WORDS[1]}" in
${arms.join("\n")}
  esac; fi
  COMPREPLY=($(compgen -W "$words" -- "\${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _autocode autocode
`;
  }
  if (shell === "zsh") {
    const arms = cases.map(([noun, verbs]) => `      ${noun}) compadd ${verbs.join(" ")} ;;`);
    return `#compdef autocode
_autocode() {
  case $CURRENT in
    2) compadd ${first} ;;
    3) case $words[2] in
${arms.join("\n")}
    esac ;;
    *) _files ;;
  esac
}
compdef _autocode autocode
`;
  }
  if (shell === "fish") {
    const lines = cases.map(
      ([noun, verbs]) =>
        `complete -c autocode -f -n "__fish_seen_subcommand_from ${noun}" -a "${verbs.join(" ")}"`,
    );
    const top = `complete -c autocode -f -n "__fish_use_subcommand" -a "${first}"`;
    return `${[top, ...lines].join("\n")}\n`;
  }
  throw new Failure(EXIT.usage, `there is no completion for "${shell}": bash, zsh or fish`);
}

function findingLines({ part, status, detail, next_step: next }: Finding, width: number): string[] {
  const head = `${status.padEnd(7)}  ${part.padEnd(width)}  ${detail}`;
  return next === null ? [head] : [head, `${" ".repeat(width + 11)}→ ${next}`];
}
