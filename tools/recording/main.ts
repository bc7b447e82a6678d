/**
 * Records what a newcomer sees: `npm start` on an empty data folder, then Ctrl-C, as an asciicast
 * v2 file. Run it with: node tools/recording/main.ts docs/first-run.cast
 */
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { spawn } from "@lydell/node-pty";

const [file = "docs/first-run.cast"] = process.argv.slice(2);
const size = { cols: 96, rows: 20 };
const home = mkdtempSync(join(tmpdir(), "autocode-recording-"));
chmodSync(home, 0o711);

const startedMs = Date.now();
const events: string[] = [];
let text = "";
let isStopping = false;
const terminal = spawn("npm", ["start", "--silent"], {
  ...size,
  name: "xterm-256color",
  env: { ...process.env, AUTOCODE_HOME: home },
});
terminal.onData((data) => {
  text += data;
  // The link works once and for minutes only; its secret is kept out all the same.
  const shown = data
    .replaceAll(/autocode_login_link_[\w-]+/g, "…")
    .replaceAll(home, "~/autocode/.autocode");
  events.push(JSON.stringify([(Date.now() - startedMs) / 1000, "o", shown]));
  if (isStopping || !text.includes("Ctrl-C stops everything")) return;
  isStopping = true;
  setTimeout(() => terminal.write("\u0003"), 2_000);
});
terminal.onExit(({ exitCode }) => {
  const header = { version: 2, width: size.cols, height: size.rows, title: "autocode: npm start" };
  writeFileSync(file, `${[JSON.stringify(header), ...events].join("\n")}\n`);
  rmSync(home, { recursive: true, force: true });
  console.log(`${file}: ${events.length} events, exit status ${exitCode}`);
});
