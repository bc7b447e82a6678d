/**
 * Goal: every tool that a trial may use believes the egress proxy's authority by what
 * `prepareTrust` made, and by nothing else of this machine.
 *
 * Method: a TLS server whose certificate is of an authority made for the test; each tool, with an
 * environment of its own, asks it with and without what was prepared; the server tells what came.
 */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { mkdir, readFile, stat, writeFile } from "node:fs/promises";
import { createServer } from "node:https";
import type { AddressInfo } from "node:net";
import { homedir } from "node:os";
import { delimiter, join } from "node:path";
import { test } from "node:test";
import { rootCertificates } from "node:tls";
import { prepareTrust } from "../../worker-agent/trust.ts";
import { openFolder, runToEnd } from "../support/installation.ts";
import { createTestAuthority, type TestAuthority } from "../support/test-authority.ts";

const PATH = [process.env["PATH"] ?? "/usr/bin:/bin", "/usr/local/go/bin"].join(delimiter);

interface Tool {
  readonly name: string;
  readonly program: string;
  /** What is further needed. */
  readonly needs?: readonly string[];
  readonly args: (url: string, dir: string) => readonly string[];
  readonly env?: (url: string) => Record<string, string>;
}

const JAVA = `public class Fetch {
  public static void main(String[] given) throws Exception {
    new java.net.URL(given[0]).openStream().readAllBytes();
  }
}
`;

const TOOLS: readonly Tool[] = [
  { name: "curl", program: "curl", args: (url) => ["-sS", url] },
  { name: "wget", program: "wget", args: (url) => ["-q", "--tries=1", "-O", "-", url] },
  { name: "git", program: "git", args: (url) => ["ls-remote", `${url}/repository.git`] },
  {
    name: "node",
    program: process.execPath,
    args: (url) => ["-e", `fetch("${url}").then((answer) => answer.text())`],
  },
  {
    name: "python",
    program: "python3",
    args: (url) => ["-c", `import urllib.request as u; u.urlopen("${url}").read()`],
  },
  {
    name: "pip",
    program: "python3",
    args: (url, dir) => [
      ...["-m", "pip", "--isolated", "download", "--no-deps", "--retries=0", "--dest", dir],
      ...["--disable-pip-version-check", "--index-url", url, "demo"],
    ],
  },
  {
    name: "npm",
    program: "npm",
    args: (url) => ["view", "demo", `--registry=${url}/`, "--fetch-retries=0"],
  },
  {
    name: "cargo",
    program: "cargo",
    args: (url) => ["search", "demo", "--index", `sparse+${url}/`],
    // A version manager's, which is found by the home that it was installed in.
    env: () => ({ CARGO_NET_RETRY: "0", RUSTUP_HOME: join(homedir(), ".rustup") }),
  },
  {
    name: "go",
    program: "go",
    args: () => ["list", "-m", "-versions", "example.invalid/demo"],
    env: (url) => ({ GOPROXY: url, GOFLAGS: "-mod=mod", GONOSUMDB: "*", GOTOOLCHAIN: "local" }),
  },
  {
    name: "java",
    program: "java",
    args: (url, dir) => [join(dir, "Fetch.java"), url],
  },
  {
    name: "chromium",
    program: "chromium",
    needs: ["certutil"],
    args: (url) => [
      ...["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
      ...["--no-first-run", "--disable-background-networking", "--dump-dom", url],
    ],
  },
];

for (const tool of TOOLS) {
  test(`${tool.name} believes the proxy's authority, and only by what was prepared`, {
    skip: whyNot(tool),
  }, async () => {
    await using world = await openWorld();
    assert.deepEqual(await world.run(tool, false), [], `${tool.name} asked it without`);
    const seen = await world.run(tool, true);
    assert.ok(seen.length > 0, `${tool.name} did not ask: ${world.said()}`);
  });
}

test("an image's own variables lead no tool past the bundle", {
  skip: whyNot(TOOLS[0]),
}, async () => {
  await using world = await openWorld();
  const seen = await world.run(
    { name: "curl", program: "curl", args: (url) => ["-sS", url] },
    true,
    { CURL_CA_BUNDLE: "/nonexistent", SSL_CERT_FILE: "/nonexistent" },
  );
  assert.equal(seen.length, 1, world.said());
});

test("the bundle holds the system's authorities and ours, and can be read by everybody", async () => {
  await using folder = await openFolder("autocode-trust-");
  const authority = await createTestAuthority();
  const systemBundle = join(folder.path, "system.pem");
  await writeFile(systemBundle, `${rootCertificates[0]}\n`);
  const dir = join(folder.path, "trust");
  const { env, files } = await prepareTrust({ dir, authorityPem: authority.cert, systemBundle });

  const bundle = await readFile(env["SSL_CERT_FILE"] ?? "", "utf8");
  assert.equal(bundle, `${rootCertificates[0]?.trim()}\n${authority.cert.trim()}\n`);
  assert.equal(
    await readFile(env["NODE_EXTRA_CA_CERTS"] ?? "", "utf8"),
    `${authority.cert.trim()}\n`,
  );
  for (const file of files) assert.equal((await stat(file)).mode & 0o777, 0o644, file);
});

test("without a bundle of the system's named, the one of this machine is taken", async () => {
  await using folder = await openFolder("autocode-trust-");
  const { cert } = await createTestAuthority();
  const dir = join(folder.path, "trust");
  const { env } = await prepareTrust({ dir, authorityPem: cert, systemBundle: null });
  const bundle = await readFile(env["CURL_CA_BUNDLE"] ?? "", "utf8");
  assert.ok(bundle.split("BEGIN CERTIFICATE").length > 50);
});

test("what is no certificate is refused, and a bundle that is not there", async () => {
  await using folder = await openFolder("autocode-trust-");
  const { cert } = await createTestAuthority();
  const dir = join(folder.path, "trust");
  await assert.rejects(
    prepareTrust({ dir, authorityPem: "no", systemBundle: null }),
    /no certificate/,
  );
  const systemBundle = join(folder.path, "absent.pem");
  await assert.rejects(prepareTrust({ dir, authorityPem: cert, systemBundle }), /ENOENT.*absent/);
});

async function openWorld() {
  const folder = await openFolder("autocode-trust-");
  const authority: TestAuthority = await createTestAuthority();
  const server = createServer(await authority.issue("localhost", "127.0.0.1"));
  let seen: string[] = [];
  let said = "";
  server.on("request", (request, response) => {
    seen.push(request.url ?? "");
    response.setHeader("connection", "close").end("{}");
  });
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  const url = `https://localhost:${(server.address() as AddressInfo).port}`;
  await writeFile(join(folder.path, "Fetch.java"), JAVA);
  await writeFile(join(folder.path, "go.mod"), "module example.invalid/own\n");
  return { run, said: () => said, [Symbol.asyncDispose]: close };

  /** The paths that the tool asked for. */
  async function run(tool: Tool, isPrepared: boolean, image: Record<string, string> = {}) {
    seen = [];
    const home = join(folder.path, isPrepared ? "home" : "bare-home");
    await mkdir(home, { recursive: true });
    const dir = join(folder.path, "trust");
    const trust = isPrepared
      ? await prepareTrust({
          dir,
          authorityPem: authority.cert,
          systemBundle: null,
          home,
          path: PATH,
        })
      : { env: {} };
    const base = {
      PATH,
      HOME: home,
      GIT_TERMINAL_PROMPT: "0",
      XDG_DATA_HOME: `${home}/.local/share`,
    };
    const env = { ...base, ...image, ...trust.env, ...tool.env?.(url) };
    const ended = await runToEnd(tool.program, tool.args(url, folder.path), {
      cwd: folder.path,
      env,
    });
    said = `${ended.exit} ${ended.out} ${ended.err}`;
    return seen;
  }

  async function close(): Promise<void> {
    server.closeAllConnections();
    await new Promise((done) => server.close(done));
    await folder[Symbol.asyncDispose]();
  }
}

function whyNot(tool: Tool | undefined): string | false {
  const absent = [tool?.program ?? "", ...(tool?.needs ?? [])].find(
    (program) =>
      !PATH.split(delimiter).some((dir) => existsSync(join(dir, program))) && !existsSync(program),
  );
  return absent === undefined ? false : `there is no ${absent} here`;
}
