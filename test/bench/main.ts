/**
 * Runs one bench: `npm run bench -- <name> [--json] [options of its own]`. A bench is a file beside
 * this one; with `--json` it prints one line for each bar it is held to.
 */
import { readdir } from "node:fs/promises";
import { basename } from "node:path";

const [name, ...options] = process.argv.slice(2);
const files = await readdir(import.meta.dirname);
const names = files
  .filter((file) => file.endsWith(".ts") && file !== basename(import.meta.filename))
  .map((file) => basename(file, ".ts"))
  .sort();

if (name === undefined || !names.includes(name)) {
  const wrong = name === undefined ? "" : `no bench "${name}"; `;
  process.stderr.write(`${wrong}usage: npm run bench -- <${names.join("|")}> [--json]\n`);
  process.exit(2);
}
process.argv.splice(2, process.argv.length, ...options);
await import(`./${name}.ts`);
