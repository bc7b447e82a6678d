/** What the load asks: chat requests as coding agents send them, each with text of its own. */
import { randomBytes } from "node:crypto";

export interface RequestShape {
  /** About how long the body is. */
  bytes: number;
  isStream: boolean;
}

const CODE = "  const value = items.map((item) => item.price * item.count).reduce(sum, 0);\n";

/**
 * Bodies of `bytes`: a system prompt, a conversation, and a nonce in every message, so that no two
 * of them can be taken for one.
 */
export function chatBodies(count: number, { bytes, isStream }: RequestShape): Buffer[] {
  return Array.from({ length: count }, () => {
    const messages = [{ role: "system", content: `You write code. ${nonce()}` }];
    const request = {
      model: "normal",
      ...(isStream ? { stream: true, stream_options: { include_usage: true } } : {}),
      max_tokens: 256,
      messages,
    };
    const room = bytes - JSON.stringify(request).length;
    const turns = Math.max(1, Math.ceil(room / 4_000));
    for (let turn = 0; turn < turns; turn++) {
      const length = Math.max(32, Math.floor(room / turns) - 120);
      const text = nonce() + CODE.repeat(Math.ceil(length / CODE.length)).slice(0, length);
      messages.push({ role: turn % 2 === 0 ? "user" : "assistant", content: text });
    }
    return Buffer.from(JSON.stringify(request));
  });
}

/**
 * The requests of an agent at work: one conversation of about `bytes` that grows by a turn with
 * each request, as its client sends it, whole every time.
 */
export function conversation(count: number, { bytes, isStream }: RequestShape): Buffer[] {
  const [first] = chatBodies(1, { bytes, isStream });
  const request = JSON.parse((first as Buffer).toString()) as { messages: unknown[] };
  return Array.from({ length: count }, () => {
    request.messages.push(
      { role: "assistant", content: nonce() + CODE },
      { role: "user", content: nonce() + CODE.repeat(4) },
    );
    return Buffer.from(JSON.stringify(request));
  });
}

function nonce(): string {
  return randomBytes(24).toString("base64url");
}
