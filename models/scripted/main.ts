/** The scripted model as a process of its own: `node models/scripted/main.ts --scripts DIR`. */
import { parseArgs } from "node:util";
import { folderLibrary } from "./library.ts";
import { ScriptError } from "./script.ts";
import { createScriptedModel } from "./server.ts";

const USAGE = "usage: node models/scripted/main.ts --scripts DIR [--port N] [--log]";

try {
  process.exitCode = await main();
} catch (error) {
  const isTold = error instanceof ScriptError;
  process.stderr.write(
    `${isTold ? error.message : error instanceof Error ? error.stack : error}\n`,
  );
  process.exitCode = 1;
}

async function main(): Promise<number> {
  const options = read();
  if (options === null) {
    process.stderr.write(`${USAGE}\n`);
    return 2;
  }
  const faults = await folderLibrary(options.scripts).faults();
  if (faults.length > 0) throw new ScriptError(faults.join("\n"));
  const model = createScriptedModel({
    scriptsDir: options.scripts,
    ...(options.log && { log: (summary) => process.stdout.write(`${JSON.stringify(summary)}\n`) }),
  });
  const { url } = await model.listen(options.port);
  process.stdout.write(`scripted model on ${url}\n`);
  await new Promise<void>((resolve) => {
    process.once("SIGINT", resolve);
    process.once("SIGTERM", resolve);
  });
  await model.close();
  return 0;
}

function read(): { scripts: string; port: number; log: boolean } | null {
  try {
    const { values } = parseArgs({
      options: {
        scripts: { type: "string" },
        port: { type: "string", default: "0" },
        log: { type: "boolean", default: false },
      },
    });
    const port = Number(values.port);
    if (values.scripts === undefined || !Number.isInteger(port) || port < 0 || port > 65_535) {
      return null;
    }
    return { scripts: values.scripts, port, log: values.log };
  } catch {
    return null;
  }
}
