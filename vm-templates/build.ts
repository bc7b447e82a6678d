/**
 * Makes a VM that can be started: its disk, a seed disk with what cloud-init reads and the worker's
 * programs, and the rendered files beside them.
 *
 * Invariant: a folder has all of a VM or nothing. Files are made in a folder beside it, which takes
 * its name in the end, and is removed when anything fails or a person interrupts. Nobody but its
 * maker reads it: the seed has the join token.
 */
import { chmod, copyFile, mkdir, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { packWorker } from "./pack.ts";
import type { RenderedFile } from "./render.ts";
import { makeRoot, type RootOptions } from "./root.ts";
import { isThere, lastWords, runTool } from "./tools.ts";
import { TemplateFault } from "./variables.ts";

export interface BuildOptions {
  /** The folder to make; it must not exist, or be empty. */
  outDir: string;
  files: readonly RenderedFile[];
  diskGib: number;
  /** An image, or a folder that an earlier build made. */
  from: { image: string } | { root: Omit<RootOptions, "rootDir"> };
  /** The checkout that the worker's programs are taken from; null: the image has them. */
  checkoutDir: string | null;
  signal: AbortSignal;
  /** @param step changes when the next thing begins; @param detail is for people. */
  onProgress: (step: string, detail: string) => void;
}

const DISK = "disk.qcow2";
const BOOT_FILES = ["vmlinuz", "initrd.img"] as const;
const SEED = "seed.iso";
const SEED_FILES = ["user-data", "meta-data", "network-config"];
const GIB = 1024 ** 3;

/**
 * Builds, and says what there is then.
 *
 * @throws TemplateFault: the folder is taken, a program is absent, the image does not fit.
 */
export async function buildVm(options: BuildOptions): Promise<string[]> {
  const { outDir, files, signal, onProgress } = options;
  const there = await readdir(outDir).catch(() => []);
  if (there.length > 0) throw new TemplateFault(`${outDir}: is not empty; name another folder`);
  const partial = `${outDir}.partial-${process.pid}`;
  await mkdir(dirname(partial), { recursive: true });
  await mkdir(partial, { recursive: true, mode: 0o700 });
  try {
    onProgress("files", "writing the rendered files");
    for (const { name, text, mode } of files) await writeFile(join(partial, name), text, { mode });
    if ("image" in options.from) await diskOfImage(options, options.from.image, partial);
    else await diskOfRoot(options, options.from.root, partial);
    await makeSeed(options, partial);
    // Their programs make them as the umask says; the folder may be opened to others, or copied.
    for (const name of [DISK, SEED]) await chmod(join(partial, name), 0o600);
    signal.throwIfAborted();
    await rm(outDir, { recursive: true, force: true });
    await rename(partial, outDir);
    return (await readdir(outDir)).sort();
  } finally {
    await rm(partial, { recursive: true, force: true });
  }
}

async function diskOfImage(options: BuildOptions, given: string, dir: string): Promise<void> {
  const isFolder = await isThere(join(given, DISK));
  const image = isFolder ? join(given, DISK) : given;
  if (!(await isThere(image))) throw new TemplateFault(`${image}: there is no such image`);
  const { format, virtualSize } = await imageFacts(options, image);
  const wantedBytes = options.diskGib * GIB;
  if (virtualSize > wantedBytes) {
    const needed = Math.ceil(virtualSize / GIB);
    throw new TemplateFault(
      `disk_gib: ${options.diskGib} GiB cannot hold ${image}; set disk_gib to ${needed} or more`,
    );
  }
  options.onProgress("disk", `copying ${image}`);
  const disk = join(dir, DISK);
  await must(options, "qemu-img", ["convert", "-f", format, "-O", "qcow2", image, disk]);
  await must(options, "qemu-img", ["resize", "-q", disk, String(wantedBytes)]);
  if (!isFolder) return;
  for (const name of BOOT_FILES) {
    if (await isThere(join(given, name))) await copyFile(join(given, name), join(dir, name));
  }
}

async function imageFacts(
  options: BuildOptions,
  image: string,
): Promise<{ format: string; virtualSize: number }> {
  const output = await must(options, "qemu-img", ["info", "--output=json", image]);
  const facts = JSON.parse(output) as { format: string; "virtual-size": number };
  return { format: facts.format, virtualSize: facts["virtual-size"] };
}

/** A file system without a partition table or a boot loader: qemu is given the kernel itself. */
async function diskOfRoot(
  options: BuildOptions,
  root: Omit<RootOptions, "rootDir">,
  dir: string,
): Promise<void> {
  const rootDir = join(dir, "root");
  const raw = join(dir, "disk.raw");
  await makeRoot({ ...root, rootDir, signal: options.signal, onProgress: options.onProgress });
  for (const name of BOOT_FILES) {
    const versions = await readdir(join(rootDir, "boot"));
    const [newest] = versions
      .filter((each) => each.startsWith(`${name}-`))
      .sort((a, b) => (a < b ? 1 : -1));
    if (newest === undefined) throw new TemplateFault(`the packages brought no ${name}`);
    await copyFile(join(rootDir, "boot", newest), join(dir, name));
  }
  options.onProgress("disk", "making the file system");
  const size = `${Math.min(options.diskGib, 4)}G`;
  await must(options, "mke2fs", ["-q", "-t", "ext4", "-L", "autocode", "-d", rootDir, raw, size]);
  await rm(rootDir, { recursive: true });
  const disk = join(dir, DISK);
  await must(options, "qemu-img", ["convert", "-f", "raw", "-O", "qcow2", raw, disk]);
  await rm(raw);
  await must(options, "qemu-img", ["resize", "-q", disk, `${options.diskGib}G`]);
}

/** cloud-init finds a disk labelled `cidata` and reads these names on it. */
async function makeSeed(options: BuildOptions, dir: string): Promise<void> {
  const seedDir = join(dir, "seed");
  await mkdir(seedDir);
  for (const name of SEED_FILES) {
    await writeFile(join(seedDir, name), await readFile(join(dir, name)), { mode: 0o600 });
  }
  if (options.checkoutDir !== null) {
    options.onProgress("programs", "packing Node and the worker-agent");
    const archive = join(seedDir, "autocode.tgz");
    await packWorker(options.checkoutDir, archive, options.signal);
  }
  options.onProgress("seed", "making the seed disk");
  const target = join(dir, SEED);
  const iso = ["-quiet", "-V", "cidata", "-J", "-r", "-o", target, seedDir];
  const makers = [
    ["xorriso", ["-as", "mkisofs", ...iso]],
    ["genisoimage", iso],
    ["mkisofs", iso],
  ] as const;
  for (const [file, args] of makers) {
    const ended = await runTool(file, args, { signal: options.signal });
    if (ended === null) continue;
    if (ended.exit !== 0) throw new TemplateFault(`${file}: ${lastWords(ended.output)}`);
    await rm(seedDir, { recursive: true });
    return;
  }
  throw new TemplateFault("neither xorriso, genisoimage nor mkisofs is installed; install xorriso");
}

async function must(
  { signal }: Pick<BuildOptions, "signal">,
  file: string,
  args: readonly string[],
): Promise<string> {
  const ended = await runTool(file, args, { signal });
  if (ended === null) throw new TemplateFault(`${file} is not installed; install it and try again`);
  if (ended.exit !== 0) throw new TemplateFault(`${file}: ${lastWords(ended.output)}`);
  return ended.output;
}
