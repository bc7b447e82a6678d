/** Nomad's event stream: a buffer in one server's memory, which forgets the oldest; its readers. */
import type { ServerResponse } from "node:http";
import type { StubAllocation } from "./state.ts";

interface Frame {
  Index: number;
  Events: readonly object[];
}

export function createEvents({ kept, heartbeatMs }: { kept: number; heartbeatMs: number }) {
  const buffer: Frame[] = [];
  const readers = new Set<ServerResponse>();
  return { publish, subscribe, cut, readers: () => readers.size };

  /** @param row as Nomad writes it down. */
  function publish(type: string, allocation: StubAllocation, row: object): void {
    const event = {
      Topic: "Allocation",
      Type: type,
      Key: allocation.ID,
      Namespace: "default",
      FilterKeys: [allocation.JobID],
      Index: allocation.ModifyIndex,
      // To keep events small (nomad/state/events.go).
      Payload: { Allocation: { ...row, Job: null } },
    };
    const frame = { Index: allocation.ModifyIndex, Events: [event] };
    buffer.push(frame);
    if (buffer.length > kept) buffer.shift();
    for (const reader of readers) reader.write(`${JSON.stringify(frame)}\n`);
  }

  /** From the nearest to `index` that is still there. */
  function subscribe(response: ServerResponse, index: number): void {
    response.writeHead(200, { "content-type": "application/json" });
    response.write("{}\n");
    for (const frame of buffer) {
      if (frame.Index >= index) response.write(`${JSON.stringify(frame)}\n`);
    }
    readers.add(response);
    const beat = setInterval(() => response.write("{}\n"), heartbeatMs);
    // The request's own end comes with its body's.
    response.once("close", () => {
      clearInterval(beat);
      readers.delete(response);
    });
  }

  function cut(): void {
    for (const reader of readers) reader.destroy();
  }
}
