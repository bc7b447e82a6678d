/** A package registry of one package on loopback: what npm asks of a real one, and no more. */
import { createHash } from "node:crypto";
import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { gzipSync } from "node:zlib";
import { pack } from "tar-stream";

export interface TestRegistry extends AsyncDisposable {
  readonly url: string;
  /** Paths that were asked for. */
  readonly requests: readonly string[];
  readonly firstRequest: Promise<void>;
}

export interface TestPackage {
  readonly name: string;
  readonly version: string;
  /** Contents by path; `package.json` is made here. */
  readonly files: Readonly<Record<string, string>>;
  readonly manifest: Readonly<Record<string, unknown>>;
  /** Takes the request for the package and never answers it. */
  readonly isStuck?: boolean;
}

export async function openRegistry(served: TestPackage): Promise<TestRegistry> {
  const { name, version, manifest } = served;
  const description = { name, version, ...manifest };
  const tarball = await tarballOf({
    ...served.files,
    "package.json": JSON.stringify(description),
  });
  const requests: string[] = [];
  const first = Promise.withResolvers<void>();
  const server = createServer(({ url: path = "" }, response) => {
    requests.push(path);
    first.resolve();
    if (path === `/${name}`) return served.isStuck ? undefined : answerPackument(response);
    if (path === "/package.tgz") return response.end(tarball);
    response.writeHead(404).end("{}");
  });
  await new Promise<void>((resolve) => {
    server.listen(0, "127.0.0.1", resolve);
  });
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return { url, requests, firstRequest: first.promise, [Symbol.asyncDispose]: close };

  function answerPackument(response: ServerResponse): void {
    const integrity = `sha512-${createHash("sha512").update(tarball).digest("base64")}`;
    const dist = { tarball: `${url}/package.tgz`, integrity };
    const versions = { [version]: { ...description, dist } };
    response.setHeader("content-type", "application/json");
    response.end(JSON.stringify({ name, "dist-tags": { latest: version }, versions }));
  }

  async function close(): Promise<void> {
    const closed = new Promise((resolve) => server.close(resolve));
    server.closeAllConnections();
    await closed;
  }
}

async function tarballOf(files: Readonly<Record<string, string>>): Promise<Buffer> {
  const archive = pack();
  for (const [path, content] of Object.entries(files)) {
    archive.entry({ name: `package/${path}`, mode: 0o644 }, content);
  }
  archive.finalize();
  const chunks: Buffer[] = [];
  for await (const chunk of archive) chunks.push(chunk as Buffer);
  return gzipSync(Buffer.concat(chunks));
}
