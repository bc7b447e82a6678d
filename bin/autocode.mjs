#!/usr/bin/env node
// The `autocode` command. Plain JavaScript, because an old Node may be what starts it: the Node
// that the package brings (node_modules/.bin/node) then takes over, with the same arguments.
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const NEEDED = [24, 12];
const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const [major, minor] = process.versions.node.split(".").map(Number);

if (major > NEEDED[0] || (major === NEEDED[0] && minor >= NEEDED[1])) {
  await import(pathToFileURL(join(root, "orchestrator", "cli", "main.ts")).href);
} else {
  const own = join(root, "node_modules", ".bin", "node");
  if (process.env.AUTOCODE_REEXECUTED === "1" || !existsSync(own)) {
    process.stderr.write(
      `autocode needs Node ${NEEDED.join(".")} or later, this is ${process.versions.node}: ` +
        "run `npm ci` in the checkout, which brings one\n",
    );
    process.exit(1);
  }
  const child = spawn(own, [fileURLToPath(import.meta.url), ...process.argv.slice(2)], {
    stdio: "inherit",
    env: { ...process.env, AUTOCODE_REEXECUTED: "1" },
  });
  // A terminal sends Ctrl-C to the child as well; it decides when to end.
  process.on("SIGINT", () => {});
  process.on("SIGTERM", () => child.kill("SIGTERM"));
  child.on("error", (error) => {
    process.stderr.write(`autocode: ${own} did not start: ${error.message}\n`);
    process.exit(1);
  });
  child.on("exit", (code, signal) => process.exit(signal === null ? code : 1));
}
