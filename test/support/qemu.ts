/** A real qemu with a blank disk: emulated, with no system on it, up in a second or so. */
import { type ChildProcess, execFileSync, type StdioOptions, spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openQmp } from "../../vm-templates/qmp.ts";
import { runTool } from "../../vm-templates/tools.ts";
import { eventually } from "./eventually.ts";

const MACHINE = ["-machine", "q35,accel=tcg", "-m", "64", "-nodefaults", "-display", "none"];

/** Why the tests that need qemu are skipped; false where they are not. */
export async function whyNoQemu(): Promise<string | false> {
  for (const program of ["qemu-system-x86_64", "qemu-img"]) {
    if ((await runTool(program, ["--version"])) !== null) continue;
    const reason = `${program} is not installed`;
    if (process.env["AUTOCODE_REQUIRE_ENGINES"] === "all") throw new Error(reason);
    return reason;
  }
  return false;
}

export interface Blank extends AsyncDisposable {
  folder: string;
  /** Starts qemu, its monitor at qmp.sock; resolves once it answers there. */
  start(...args: string[]): Promise<ChildProcess>;
  stop(): Promise<void>;
  /** What it printed since it was started, line by line. */
  said(): string;
}

/** A folder with a blank disk.qcow2, as `autocode vm build` names it. */
export async function openBlank(): Promise<Blank> {
  const folder = await mkdtemp(join(tmpdir(), "autocode-qemu-"));
  execFileSync("qemu-img", ["create", "-q", "-f", "qcow2", join(folder, "disk.qcow2"), "64M"]);
  let child: ChildProcess | null = null;
  let said = "";
  return {
    ...{ folder, start, stop, said: () => said },
    async [Symbol.asyncDispose]() {
      await stop();
      await rm(folder, { recursive: true });
    },
  };

  async function start(...args: string[]): Promise<ChildProcess> {
    const disk = ["-drive", "file=disk.qcow2,if=virtio,format=qcow2"];
    const monitor = ["-qmp", "unix:qmp.sock,server=on,wait=off"];
    const qemu = ["qemu-system-x86_64", ...MACHINE, ...disk, ...monitor, ...args];
    const stdio: StdioOptions = ["ignore", "pipe", "pipe"];
    const own = spawn("stdbuf", ["-oL", ...qemu], { cwd: folder, stdio });
    child = own;
    said = "";
    for (const stream of [own.stdout, own.stderr]) {
      stream?.on("data", (bytes: Buffer) => {
        said += bytes;
      });
    }
    await eventually(async () => {
      if (own.exitCode !== null) throw new Error(`qemu ended: ${said}`);
      const qmp = await openQmp(join(folder, "qmp.sock")).catch(() => null);
      await qmp?.[Symbol.asyncDispose]();
      return qmp !== null;
    }, Boolean);
    return own;
  }

  async function stop(): Promise<void> {
    const own = child;
    child = null;
    if (own === null || own.exitCode !== null || own.signalCode !== null) return;
    const ended = new Promise((done) => own.once("close", done));
    own.kill("SIGKILL");
    await ended;
  }
}
