/**
 * Goal: whatever an agent makes of its checkout comes back in another one, file for file; and
 * neither what it puts in a file's place nor a forged manifest reads or writes anything else.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";
import fc from "fast-check";
import type { Manifest, WorkEntry } from "../../orchestrator/contract/checkpoints.ts";
import { restoreTree } from "../../worker-agent/checkpoint-restore.ts";
import { createTree, keep } from "../../worker-agent/checkpoint-tree.ts";
import { createGit } from "../../worker-agent/git.ts";
import { checkOut } from "../../worker-agent/workspace.ts";
import { makeRepository, openFolder } from "../support/worker-world.ts";

const BASE = {
  "a.txt": "a\n",
  "b/c.txt": "c\n",
  "b/d/e.txt": "e\n",
  "run.sh": "#!/bin/sh\n",
  ".gitignore": "ignored/\n",
};
const SIGNAL = new AbortController().signal;

function openTrees() {
  const folder = openFolder();
  const source = makeRepository(folder.path, BASE);
  const home = join(folder.path, "git-home");
  mkdirSync(home);
  const git = createGit("/usr/local/bin:/usr/bin:/bin", home);
  let count = 0;
  return { ...folder, source, git, checkout, treeOf, [Symbol.dispose]: folder[Symbol.dispose] };

  async function checkout(): Promise<string> {
    count += 1;
    const dir = join(folder.path, `checkout-${count}`);
    await checkOut(git, source, dir);
    return dir;
  }

  function treeOf(workspace: string, uid: number | null = null) {
    const options = { source, workspace, litter: ["*.litter"], fileBytesMax: 10_000, uid };
    const scratchDir = `${workspace}.compare`;
    const clock = { now: () => Date.now() };
    return createTree(git, clock, { ...options, scratchDir });
  }
}

async function snapshot(tree: ReturnType<typeof createTree>) {
  const contents = new Map<string, Buffer>();
  const work = await tree.read(async (sha256, content) => {
    contents.set(sha256, content);
  }, SIGNAL);
  return { work, contents };
}

function fetched(work: WorkEntry[], contents: Map<string, Buffer>) {
  const manifest: Manifest = { version: 1, base_commit: "b".repeat(40), work, session: null };
  const contentOf = async (sha256: string) => contents.get(sha256) ?? Buffer.of();
  return { manifest, contentOf };
}

/** Every file below a folder: its kind, mode and content. */
function listing(root: string, at = ""): Record<string, string> {
  const found: Record<string, string> = {};
  for (const entry of readdirSync(join(root, at), { withFileTypes: true })) {
    const path = join(at, entry.name);
    if (path === ".git") continue;
    if (entry.isDirectory()) Object.assign(found, listing(root, path));
    else if (entry.isSymbolicLink()) found[path] = `-> ${readlinkSync(join(root, path))}`;
    else {
      const isExecutable = (lstatSync(join(root, path)).mode & 0o100) !== 0;
      found[path] = `${isExecutable} ${readFileSync(join(root, path)).toString("base64")}`;
    }
  }
  return found;
}

const part = fc.constantFrom("a.txt", "b", "c.txt", "d", "new", "é ü", "-x", "n\nl", "run.sh");
const path = fc.array(part, { minLength: 1, maxLength: 3 }).map((parts) => parts.join("/"));
const step = fc.oneof(
  fc.record({ do: fc.constant("write" as const), path, bytes: fc.uint8Array({ maxLength: 40 }) }),
  fc.record({ do: fc.constant("remove" as const), path }),
  fc.record({ do: fc.constant("link" as const), path, to: path }),
  fc.record({ do: fc.constant("chmod" as const), path, mode: fc.constantFrom(0o755, 0o644) }),
);

/** Does it where it can be done. */
function take(root: string, action: typeof step extends fc.Arbitrary<infer Step> ? Step : never) {
  const at = join(root, action.path);
  try {
    if (action.do === "remove") return rmSync(at, { recursive: true, force: true });
    if (action.do === "chmod") {
      return lstatSync(at).isFile() ? chmodSync(at, action.mode) : undefined;
    }
    mkdirSync(dirname(at), { recursive: true });
    if (action.do === "write") writeFileSync(at, action.bytes);
    else symlinkSync(action.to, at);
  } catch {
    // A file where a folder is needed, or the other way round.
  }
}

test("any tree of files comes back in another checkout, also in several steps", async () => {
  using trees = openTrees();
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 12 }), async (steps) => {
      const agents = await trees.checkout();
      const tree = trees.treeOf(agents);
      const contents = new Map<string, Buffer>();
      let work: WorkEntry[] = [];
      for (const half of [steps.slice(0, steps.length / 2), steps.slice(steps.length / 2)]) {
        for (const action of half) take(agents, action);
        work = await tree.read(async (sha256, content) => {
          contents.set(sha256, content);
        }, SIGNAL);
      }
      const next = await trees.checkout();
      await restoreTree(next, fetched(work, contents));
      assert.deepEqual(listing(next), inside(listing(agents)));
      assert.deepEqual(
        (await snapshot(trees.treeOf(next))).work.toSorted(byPath),
        work.toSorted(byPath),
        "and is the same checkpoint again",
      );
    }),
    { numRuns: 25 },
  );

  /** Without links that leave the work tree. */
  function inside(all: Record<string, string>): Record<string, string> {
    const kept = Object.entries(all).filter(([at, what]) => {
      if (!what.startsWith("-> ")) return true;
      const resolved = join(dirname(at), what.slice(3));
      return !resolved.startsWith("..");
    });
    return Object.fromEntries(kept);
  }
});

test("ignored files, litter and large ones are no part; deletions and modes are", async () => {
  using trees = openTrees();
  const agents = await trees.checkout();
  mkdirSync(join(agents, "ignored"));
  writeFileSync(join(agents, "ignored/x"), "x");
  writeFileSync(join(agents, "y.litter"), "y");
  writeFileSync(join(agents, "large"), Buffer.alloc(10_001));
  rmSync(join(agents, "b"), { recursive: true });
  chmodSync(join(agents, "run.sh"), 0o755);
  const { work } = await snapshot(trees.treeOf(agents));
  assert.deepEqual(
    work.map((entry) => [entry.path, entry.type, "is_executable" in entry && entry.is_executable]),
    [
      ["b/c.txt", "deleted", false],
      ["b/d/e.txt", "deleted", false],
      ["run.sh", "file", true],
    ],
  );
});

test("the agent's own git is neither read nor locked", async () => {
  using trees = openTrees();
  const agents = await trees.checkout();
  writeFileSync(join(agents, ".git/index.lock"), "");
  writeFileSync(join(agents, ".git/info/exclude"), "*\n");
  writeFileSync(join(agents, ".gitattributes"), "*.txt filter=evil\n");
  const mark = join(trees.path, "mark");
  execFileSync("git", ["-C", agents, "config", "filter.evil.clean", `touch ${mark}`]);
  writeFileSync(join(agents, "a.txt"), "changed\n");
  const before = readFileSync(join(agents, ".git/index"));
  const { work } = await snapshot(trees.treeOf(agents));
  assert.deepEqual(
    work.map((entry) => entry.path),
    ["a.txt", ".gitattributes"],
  );
  assert.deepEqual(readFileSync(join(agents, ".git/index")), before);
  assert.equal(existsSync(mark), false);
});

test("nothing is read through a link, and nothing that is not the agent's", async () => {
  using trees = openTrees();
  const agents = await trees.checkout();
  const foreign = join(trees.path, "foreign");
  mkdirSync(join(foreign, "d"), { recursive: true });
  writeFileSync(join(foreign, "c.txt"), "theirs");
  writeFileSync(join(foreign, "d/e.txt"), "theirs");
  rmSync(join(agents, "b"), { recursive: true });
  symlinkSync(foreign, join(agents, "b"));
  symlinkSync("/etc/passwd", join(agents, "new"));
  execFileSync("mkfifo", [join(agents, "pipe")]);
  const { work, contents } = await snapshot(trees.treeOf(agents));
  assert.deepEqual(work, [
    { path: "b/c.txt", type: "deleted" },
    { path: "b/d/e.txt", type: "deleted" },
  ]);
  assert.equal(contents.size, 0);

  writeFileSync(join(agents, "a.txt"), "as somebody else's");
  const uid = (process.getuid?.() ?? 0) + 1;
  const others = await snapshot(trees.treeOf(agents, uid));
  assert.equal(others.contents.size, 0);
});

test("a file that is written while it is read is what was read of it", async () => {
  using trees = openTrees();
  const agents = await trees.checkout();
  const tree = trees.treeOf(agents);
  const writing = setInterval(() => {
    writeFileSync(join(agents, "a.txt"), "x".repeat(1 + Math.floor(performance.now() % 5_000)));
  }, 1);
  try {
    for (let round = 0; round < 5; round++) {
      const { work, contents } = await snapshot(tree);
      for (const entry of work) {
        if (entry.type !== "file") continue;
        assert.equal(contents.get(entry.sha256)?.byteLength, entry.byte_count);
      }
    }
  } finally {
    clearInterval(writing);
  }
});

test("a forged manifest writes nothing outside of the checkout, nor through its links", async () => {
  using trees = openTrees();
  const outside = join(trees.path, "outside");
  mkdirSync(outside);
  const content = await keep(Buffer.from("evil"), async () => {});
  const contents = new Map<string, Buffer>([[content.sha256, Buffer.from("evil")]]);
  const link = await keep(Buffer.from(outside), async (sha256, bytes) => {
    contents.set(sha256, bytes);
  });
  const file = (at: string): WorkEntry => {
    return { path: at, type: "file", is_executable: false, ...content };
  };
  const checkout = await trees.checkout();
  symlinkSync(outside, join(checkout, "door"));
  for (const work of [
    [file("door/evil")],
    [file("a.txt/evil")],
    [{ path: "way", type: "link" as const, ...link }],
  ]) {
    await assert.rejects(restoreTree(checkout, fetched(work, contents)), /WorkspaceFault/);
  }
  const deletion = { path: "door/evil", type: "deleted" } as const;
  writeFileSync(join(outside, "evil"), "theirs");
  await restoreTree(checkout, fetched([deletion], contents));
  assert.deepEqual(readdirSync(outside), ["evil"]);
  assert.equal(readFileSync(join(outside, "evil"), "utf8"), "theirs");
});

function byPath(a: { path: string }, b: { path: string }): number {
  return a.path < b.path ? -1 : 1;
}
