/** The programs that workers run, unmodified, with the variables a worker has. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import type { IncomingMessage, ServerResponse } from "node:http";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { gzipSync } from "node:zlib";
import { pack } from "tar-stream";
import { runAs } from "../clients.ts";
import { type OpenEngine, openWorld, startUpstream, type World } from "../world.ts";

type Serve = (request: IncomingMessage, response: ServerResponse, port: number) => void;

const TRUST = ["CURL_CA_BUNDLE", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "GIT_SSL_CAINFO"];
const MORE_TRUST = ["NODE_EXTRA_CA_CERTS", "PIP_CERT", "npm_config_cafile"];

/** One server, allowed, and what a worker is told to trust. */
async function openScene(open: OpenEngine, serve: Serve) {
  const stack = new AsyncDisposableStack();
  const server = stack.use(
    await startUpstream((request, response) => serve(request, response, server.port)),
  );
  const rules = [
    { action: "allow" as const, hosts: ["api.test"], ports: [server.port], is_private: true },
  ];
  const world = stack.use(await openWorld(open, { policy: { rules } }));
  const env = Object.fromEntries([...TRUST, ...MORE_TRUST].map((name) => [name, world.caFile]));
  return {
    ...{ world, env, base: `https://api.test:${server.port}` },
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
}

export function testClients(name: string, open: OpenEngine): void {
  test(`${name}: git clones over https`, async (t) => {
    if (isAbsent(t, "git")) return;
    let bare = "";
    await using scene = await openScene(open, (request, response) => {
      // The "dumb" protocol: files, as any server has them.
      const path = (request.url ?? "").split("?")[0] ?? "";
      readFile(join(bare, path)).then(
        (bytes) => response.end(bytes),
        () => response.writeHead(404).end(),
      );
    });
    const { world, env, base } = scene;
    bare = world.folder;
    await makeRepository(world.folder);
    const clone = join(world.folder, "clone");
    const ran = await runAs(world, "git", ["clone", "-q", `${base}/made.git`, clone], {
      env: { ...env, GIT_TERMINAL_PROMPT: "0" },
    });
    assert.equal(ran.status, 0, ran.stderr);
    assert.equal(await readFile(join(clone, "file.txt"), "utf8"), "content\n");
    assertHttp(world);
  });

  test(`${name}: npm installs a package`, async (t) => {
    if (isAbsent(t, "npm")) return;
    const archive = await packPackage();
    const integrity = `sha512-${createHash("sha512").update(archive).digest("base64")}`;
    await using scene = await openScene(open, (request, response, port) => {
      if (request.url?.endsWith(".tgz")) return void response.end(archive);
      const tarball = `https://api.test:${port}/tiny/-/tiny-1.0.0.tgz`;
      const version = { name: "tiny", version: "1.0.0", dist: { tarball, integrity } };
      const document = { name: "tiny", "dist-tags": { latest: "1.0.0" } };
      response.setHeader("content-type", "application/json");
      response.end(JSON.stringify({ ...document, versions: { "1.0.0": version } }));
    });
    const { world, env, base } = scene;
    const cwd = join(world.folder, "npm");
    await mkdir(cwd);
    await writeFile(join(cwd, "package.json"), '{"name":"here","version":"1.0.0"}');
    const args = ["install", "tiny", "--registry", base, "--no-audit", "--no-fund"];
    const ran = await runAs(world, "npm", args, {
      cwd,
      env: { ...env, npm_config_fetch_retries: "0" },
    });
    assert.equal(ran.status, 0, ran.stderr);
    assert.equal(await readFile(join(cwd, "node_modules/tiny/x.js"), "utf8"), "1\n");
    assertHttp(world);
  });

  test(`${name}: pip downloads a package`, async (t) => {
    if (isAbsent(t, "python3", ["-m", "pip", "--version"])) return;
    const archive = gzipSync("not really a package");
    await using scene = await openScene(open, (request, response) => {
      if (request.url?.endsWith(".tar.gz")) return void response.end(archive);
      response.setHeader("content-type", "text/html");
      response.end('<a href="/files/tiny-1.0.0.tar.gz">tiny-1.0.0.tar.gz</a>');
    });
    const { world, env, base } = scene;
    const index = [
      "--index-url",
      `${base}/simple`,
      "--disable-pip-version-check",
      "--retries",
      "0",
    ];
    const ran = await runAs(
      world,
      "python3",
      ["-m", "pip", "index", "versions", "tiny", ...index],
      {
        env,
      },
    );
    assert.match(ran.stdout, /tiny \(1\.0\.0\)/, ran.stderr);
    assertHttp(world);
  });

  test(`${name}: Node's fetch`, async () => {
    await using scene = await openScene(open, (_, response) => response.end("by fetch"));
    const { world, env, base } = scene;
    const program = `process.stdout.write(await (await fetch("${base}/x")).text())`;
    const ran = await runAs(world, process.execPath, ["--input-type=module", "-e", program], {
      env: { ...env, NODE_USE_ENV_PROXY: "1" },
    });
    assert.equal(ran.stdout, "by fetch", ran.stderr);
    assertHttp(world);
  });

  test(`${name}: Python's urllib`, async (t) => {
    if (isAbsent(t, "python3")) return;
    await using scene = await openScene(open, (_, response) => response.end("by python"));
    const { world, env, base } = scene;
    const program = `import urllib.request as u; print(u.urlopen("${base}/x").read().decode(), end="")`;
    const ran = await runAs(world, "python3", ["-c", program], { env });
    assert.equal(ran.stdout, "by python", ran.stderr);
    assertHttp(world);
  });
}

function isAbsent(t: TestContext, file: string, args: readonly string[] = ["--version"]): boolean {
  try {
    execFileSync(file, args, { stdio: "ignore" });
    return false;
  } catch {
    t.skip(`${file} is not installed`);
    return true;
  }
}

/** All that it asked for was forwarded and recorded with what was answered. */
function assertHttp({ guard }: World): void {
  const asked = guard.drafts.filter(({ kind }) => kind === "http");
  assert.ok(asked.length > 0);
  for (const { decision, response, trialId } of asked) {
    assert.deepEqual([decision.action, trialId], ["allow", "trial_1"]);
    assert.ok((response?.status ?? 0) >= 200);
  }
}

async function makeRepository(folder: string): Promise<void> {
  const made = join(folder, "made");
  await mkdir(made);
  await writeFile(join(made, "file.txt"), "content\n");
  const git = (...args: string[]) => {
    const who = ["-c", "user.name=a", "-c", "user.email=a@b.test", "-c", "init.defaultBranch=main"];
    execFileSync("git", [...who, ...args], { cwd: made, stdio: "ignore" });
  };
  git("init", "-q");
  git("add", ".");
  git("commit", "-q", "-m", "made");
  git("clone", "-q", "--bare", made, `${made}.git`);
  execFileSync("git", ["update-server-info"], { cwd: `${made}.git`, stdio: "ignore" });
}

async function packPackage(): Promise<Buffer> {
  const tar = pack();
  tar.entry({ name: "package/package.json" }, '{"name":"tiny","version":"1.0.0"}');
  tar.entry({ name: "package/x.js" }, "1\n");
  tar.finalize();
  const chunks: Buffer[] = [];
  for await (const chunk of tar) chunks.push(chunk as Buffer);
  return gzipSync(Buffer.concat(chunks));
}
