/** What a test of isolation needs: rooms, two servers to be reached, and a shell inside. */
import { once } from "node:events";
import { chmodSync, mkdirSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import type { RunAs } from "../../../worker-agent/config.ts";
import type {
  Dropped,
  Isolation,
  IsolationRequest,
} from "../../../worker-agent/isolate/isolate.ts";
import { type ProcessEnd, runProcess } from "../../../worker-agent/process.ts";
import { makeRooms, type Rooms } from "../../../worker-agent/rooms.ts";
import { allocationId, openFolder } from "../../support/worker-world.ts";

export const PATH = process.env["PATH"] ?? "";

export interface IsolatedWorld extends AsyncDisposable {
  readonly isolation: Isolation;
  readonly rooms: Rooms;
  /** The folder that is hidden but for the rooms; others' files lie in it. */
  readonly home: string;
  readonly allocationId: string;
  readonly drops: readonly Dropped[];
  /** Why its closing was lost. */
  readonly losses: readonly string[];
  /** What the shell printed, and how it ended. */
  sh(script: string, options?: ShellOptions): Promise<{ said: string; end: ProcessEnd }>;
}

interface ShellOptions {
  readonly terminal?: boolean;
  readonly env?: Readonly<Record<string, string>>;
  readonly stop?: AbortSignal;
  readonly onOutput?: (said: string) => void;
}

export interface WorldOptions {
  readonly open: (request: IsolationRequest) => Promise<Isolation>;
  readonly runAs: RunAs | null;
  /** In place of the world's own two servers. */
  readonly proxyUrl?: string;
  readonly gatewayUrl?: string;
}

/** A world whose servers answer with their name and the path that was asked. */
export async function openIsolatedWorld(options: WorldOptions): Promise<IsolatedWorld> {
  const { open, runAs } = options;
  await using opening = new AsyncDisposableStack();
  const folder = opening.use(openFolder());
  const home = join(folder.path, "home");
  mkdirSync(join(home, "agents"), { recursive: true });
  mkdirSync(join(home, "others"));
  chmodSync(home, 0o755);
  // Open to everybody, so that its rights alone hide nothing.
  writeFileSync(join(home, "others/secret.txt"), "theirs", { mode: 0o666 });
  writeFileSync(join(home, "agents/program.txt"), "an agent");
  const rooms = await makeRooms(join(home, "allocation"), runAs);
  const proxyUrl = options.proxyUrl ?? (await serve("proxy", opening));
  const gatewayUrl = options.gatewayUrl ?? `${await serve("gateway", opening)}/v1`;
  const drops: Dropped[] = [];
  const losses: string[] = [];
  const id = allocationId();
  const isolation = opening.use(
    await open({
      allocationId: id,
      rooms,
      hidden: [home],
      kept: [join(home, "agents")],
      runAs,
      proxyUrl,
      gatewayUrl,
      onDropped: (dropped) => drops.push(dropped),
      onLost: (why) => losses.push(why),
    }),
  );
  const opened = opening.move();
  return {
    isolation,
    rooms,
    home,
    allocationId: id,
    drops,
    losses,
    sh,
    [Symbol.asyncDispose]: () => opened.disposeAsync(),
  };

  async function sh(script: string, { terminal = false, ...given }: ShellOptions = {}) {
    let said = "";
    const end = await runProcess(
      { now: () => Date.now() },
      {
        file: "/bin/bash",
        args: ["-c", script],
        env: {
          PATH,
          HOME: rooms.home,
          PROXY: isolation.proxyUrl,
          GATEWAY: isolation.gatewayUrl ?? "",
          ...given.env,
        },
        cwd: rooms.home,
        wrap: isolation.wrap,
        terminal,
        runAs,
        marker: id,
        wallMs: 30_000,
        idleMs: null,
        graceMs: 2_000,
        onOutput: (bytes) => {
          said += String(bytes);
          given.onOutput?.(said);
        },
      },
      given.stop ?? new AbortController().signal,
    );
    return { said: said.replaceAll("\r\n", "\n"), end };
  }
}

async function serve(name: string, opening: AsyncDisposableStack): Promise<string> {
  const server: Server = createServer((request, response) => {
    response.end(`${name} ${request.url}\n`);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  opening.defer(async () => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}
