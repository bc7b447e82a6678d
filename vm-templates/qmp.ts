/**
 * A connection to a running qemu: its machine protocol, QMP (docs/interop/qmp-spec of qemu).
 * Lines of JSON; a greeting, then the capabilities, then commands that are answered by their id,
 * with events between.
 *
 * Invariant: what is not of the protocol ends the connection; nothing is guessed. A refusal of
 * qemu's is told in its own words.
 */
import { connect, type Socket } from "node:net";
import { type Static, type TSchema, Type } from "typebox";
import { Compile } from "typebox/compile";

export interface Qmp extends AsyncDisposable {
  /** As the greeting says it: "7.2.22". */
  version: string;
  /**
   * Has qemu carry out a command, and checks its answer.
   *
   * @throws MonitorFault: qemu refuses (its own words), the answer is none, the connection is gone.
   */
  execute<Schema extends TSchema>(
    command: string,
    args: Readonly<Record<string, unknown>>,
    answer: Schema,
  ): Promise<Static<Schema>>;
  /**
   * The first event that `matches`, of those that came since the connection was made and were not
   * told yet; without a limit of time.
   *
   * @throws MonitorFault when the connection ends before.
   */
  event(matches: (event: QmpEvent) => boolean): Promise<QmpEvent>;
}

export type QmpEvent = Static<typeof QmpEvent>;
const QmpEvent = Type.Object({
  event: Type.String(),
  data: Type.Optional(Type.Record(Type.String(), Type.Unknown())),
  timestamp: Type.Object({ seconds: Type.Number(), microseconds: Type.Number() }),
});

/** What a command answers that has nothing to tell. */
export const Nothing = Type.Object({}, { additionalProperties: false });

/** A VM that cannot be reached by its monitor, or that refuses: one line, in qemu's own words. */
export class MonitorFault extends Error {
  override readonly name = "MonitorFault";
}

const Greeting = Type.Object({
  QMP: Type.Object({
    version: Type.Object({
      qemu: Type.Object({ major: Type.Integer(), minor: Type.Integer(), micro: Type.Integer() }),
    }),
    capabilities: Type.Array(Type.String()),
  }),
});
const Reply = Type.Object({ return: Type.Unknown(), id: Type.Integer() });
const Refusal = Type.Object({
  error: Type.Object({ class: Type.String(), desc: Type.String() }),
  id: Type.Integer(),
});
const isGreeting = Compile(Greeting);
const isReply = Compile(Reply);
const isRefusal = Compile(Refusal);
const isEvent = Compile(QmpEvent);

/** What an address of a socket has room for (`sun_path`, less its end). */
const PATH_BYTES_MAX = 107;
const LINE_CHARS_MAX = 16_777_216;
/** Events that nobody asked after: far more than any command of ours brings about. */
const EVENTS_MAX = 10_000;

interface Options {
  /** How long the greeting may take: a monitor that serves another program gives none. */
  greetingMs?: number;
  /** How long a command may take: while qemu writes a VM's memory, it answers nothing at all. */
  answerMs?: number;
}

/**
 * Connects to the monitor behind a Unix socket, and agrees on no capabilities.
 *
 * @throws MonitorFault; its `cause` has the code ENOENT or ECONNREFUSED where no qemu listens.
 */
export async function openQmp(path: string, options: Options = {}): Promise<Qmp> {
  const { greetingMs = 5_000, answerMs = 600_000 } = options;
  const byteCount = Buffer.byteLength(path);
  if (byteCount > PATH_BYTES_MAX) {
    const limit = `a socket's path may have ${PATH_BYTES_MAX}`;
    throw new MonitorFault(`${path}: has ${byteCount} bytes, and ${limit}; move the folder`);
  }
  const wire = openWire(path, await connected(path));
  try {
    const { version } = await wire.greeting(greetingMs);
    await execute("qmp_capabilities", {}, Nothing);
    return { version, execute, event: wire.event, [Symbol.asyncDispose]: wire.close };
  } catch (error) {
    await wire.close();
    throw error;
  }

  async function execute<Schema extends TSchema>(
    command: string,
    args: Readonly<Record<string, unknown>>,
    answer: Schema,
  ): Promise<Static<Schema>> {
    const value = await wire.command(command, args, answerMs);
    if (Compile(answer).Check(value)) return value as Static<Schema>;
    throw new MonitorFault(`${path}: ${command}: the answer has another form than qemu documents`);
  }
}

async function connected(path: string): Promise<Socket> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const socket = connect(path, resolve);
  socket.once("error", reject);
  try {
    await promise;
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    throw Object.assign(new MonitorFault(`${path}: no qemu answers there (${code})`), { cause });
  }
  return socket.off("error", reject).setEncoding("utf8");
}

type Waiting = PromiseWithResolvers<unknown>;

/** Lines in and out; everything that waits fails once the connection does. */
function openWire(path: string, socket: Socket) {
  const greeted = Promise.withResolvers<{ version: string }>();
  const answers = new Map<number, Waiting>();
  const listeners = new Set<{ matches(event: QmpEvent): boolean; found: Waiting }>();
  const events: QmpEvent[] = [];
  let failure: Error | null = null;
  let isGreeted = false;
  let pending = "";
  let lastId = 0;
  greeted.promise.catch(() => {
    // Whoever waits for it is told; nobody may, once something else failed.
  });
  socket.on("data", (text: string) => receive(text));
  socket.on("error", (error) => fail(fault(`the connection broke: ${error.message}`)));
  socket.on("close", () => fail(fault("qemu ended the connection")));
  return { greeting, command, event, fail, close };

  async function greeting(limitMs: number): Promise<{ version: string }> {
    const busy = "no greeting: another program has this monitor, which serves one at a time";
    return within(limitMs, greeted.promise, busy);
  }

  async function command(
    name: string,
    args: Readonly<Record<string, unknown>>,
    limitMs: number,
  ): Promise<unknown> {
    if (failure !== null) throw failure;
    const id = ++lastId;
    const waiting = Promise.withResolvers<unknown>();
    answers.set(id, waiting);
    socket.write(`${JSON.stringify({ execute: name, arguments: args, id })}\n`);
    try {
      return await within(limitMs, waiting.promise, `${name}: no answer in ${limitMs} ms`);
    } catch (error) {
      // The words are qemu's own: they name no command.
      if (!(error instanceof Refused)) throw error;
      throw fault(`${name}: ${error.message}`);
    }
  }

  async function event(matches: (event: QmpEvent) => boolean): Promise<QmpEvent> {
    const index = events.findIndex(matches);
    const [known] = index === -1 ? [] : events.splice(index, 1);
    if (known !== undefined) return known;
    if (failure !== null) throw failure;
    const found = Promise.withResolvers<unknown>();
    listeners.add({ matches, found });
    return (await found.promise) as QmpEvent;
  }

  async function within<Value>(ms: number, promise: Promise<Value>, words: string): Promise<Value> {
    const timer = setTimeout(() => fail(fault(words)), ms);
    try {
      return await promise;
    } finally {
      clearTimeout(timer);
    }
  }

  function receive(text: string): void {
    const lines = (pending + text).split("\n");
    pending = lines.pop() ?? "";
    if (pending.length > LINE_CHARS_MAX) fail(fault("a line of it does not end"));
    for (const line of lines) {
      if (failure === null && line.trim() !== "") take(line);
    }
  }

  function take(line: string): void {
    let message: unknown;
    try {
      message = JSON.parse(line);
    } catch {
      fail(fault(`what listens there is no qemu's QMP: it says ${line.trim().slice(0, 80)}`));
      return;
    }
    if (!isGreeted) takeGreeting(message);
    else if (isReply.Check(message)) answerOf(message.id)?.resolve(message.return);
    else if (isRefusal.Check(message))
      answerOf(message.id)?.reject(new Refused(message.error.desc));
    else if (isEvent.Check(message)) takeEvent(message);
    else fail(fault(`a message that QMP has not: ${line.trim().slice(0, 200)}`));
  }

  function takeGreeting(message: unknown): void {
    if (!isGreeting.Check(message)) {
      fail(fault("what listens there is no qemu's QMP: it greets otherwise"));
      return;
    }
    isGreeted = true;
    const { major, minor, micro } = message.QMP.version.qemu;
    greeted.resolve({ version: `${major}.${minor}.${micro}` });
  }

  function answerOf(id: number): Waiting | undefined {
    const waiting = answers.get(id);
    answers.delete(id);
    if (waiting === undefined) fail(fault(`an answer to nothing that was asked (id ${id})`));
    return waiting;
  }

  function takeEvent(message: QmpEvent): void {
    for (const listener of listeners) {
      if (!listener.matches(message)) continue;
      listeners.delete(listener);
      listener.found.resolve(message);
      return;
    }
    events.push(message);
    if (events.length > EVENTS_MAX) events.shift();
  }

  function fault(words: string): MonitorFault {
    return new MonitorFault(`${path}: ${words}`);
  }

  /** The first failure is everybody's. */
  function fail(error: Error): void {
    if (failure !== null) return;
    failure = error;
    for (const { reject } of answers.values()) reject(error);
    for (const { found } of listeners) found.reject(error);
    greeted.reject(error);
    socket.destroy();
  }

  async function close(): Promise<void> {
    fail(fault("the connection was closed"));
    if (!socket.closed) await new Promise<void>((resolve) => socket.once("close", () => resolve()));
  }
}

/** qemu's answer to a command that it does not carry out. */
class Refused extends Error {
  override readonly name = "Refused";
}
