/** The arguments of the programs that serve: they take none, so each is help or a mistake. */
import { EXIT, type Exit } from "./failure.ts";
import { print, printError } from "./print.ts";

interface Program {
  /** How people start it: "npm start". */
  name: string;
  /** What it does, in one line. */
  summary: string;
  /** What it is told by, most asked for first. */
  variables: Readonly<Record<string, string>>;
}

/**
 * Answers `args`, where there are any: how the program is to end, without having started. Null
 * where there are none.
 */
export function answerArguments(args: readonly string[], program: Program): Exit | null {
  const [first] = args;
  if (first === undefined) return null;
  if (args.every((each) => each === "--help" || each === "-h")) {
    print(help(program));
    return EXIT.done;
  }
  const wrong = args.find((each) => each !== "--help" && each !== "-h");
  const { name } = program;
  const mend = "variables of the environment say what it does";
  printError(`${name}: unexpected argument "${wrong}": it takes none, ${mend} (${name} -- --help)`);
  return EXIT.usage;
}

function help({ name, summary, variables }: Program): string {
  const width = Math.max(...Object.keys(variables).map(({ length }) => length));
  return [
    summary,
    "",
    `Usage: ${name}`,
    "",
    ...Object.entries(variables).map(([each, what]) => `  ${each.padEnd(width)}  ${what}`),
    "",
    "It takes no arguments. All variables are in docs/operating.md; `npx autocode --help` lists the",
    "commands that ask a running server.",
  ].join("\n");
}
