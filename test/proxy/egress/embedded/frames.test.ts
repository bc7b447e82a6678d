/** Goal: messages end where RFC 6455 says, however their bytes arrive; nothing is lost or held. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { createFrames } from "../../../../proxy/egress/embedded/frames.ts";

const MAX = 1_000_000;

interface Frame {
  readonly isFinal: boolean;
  readonly isMasked: boolean;
  readonly length: number;
}

test("however a stream is cut, its messages are the same", () => {
  const frames = fc.array(
    fc.record({
      isFinal: fc.boolean(),
      isMasked: fc.boolean(),
      length: fc.oneof(fc.nat(130), fc.constantFrom(125, 126, 65_535, 65_536)),
    }),
    { minLength: 1, maxLength: 8 },
  );
  fc.assert(
    fc.property(
      frames,
      fc.array(fc.integer({ min: 1, max: 5_000 }), { minLength: 1 }),
      (all, cuts) => {
        const closed: Frame[] = [...all, { isFinal: true, isMasked: false, length: 1 }];
        const encoded = closed.map(encode);
        const expected = messagesOf(closed, encoded);
        const bytes = Buffer.concat(encoded);
        const read = createFrames(MAX);
        const seen: Buffer[] = [];
        for (let at = 0, index = 0; at < bytes.length; index++) {
          const next = at + (cuts[index % cuts.length] ?? 1);
          // Later bytes must not reach into what was given out before.
          seen.push(
            ...(read.push(Buffer.from(bytes.subarray(at, next))) ?? [Buffer.from("refused")]),
          );
          at = next;
        }
        assert.deepEqual(seen, expected);
      },
    ),
    { numRuns: 60 },
  );
});

test("a frame that is longer than may be held is refused at its head", () => {
  const read = createFrames(100);
  assert.equal(
    read.push(encode({ isFinal: true, isMasked: true, length: 101 }).subarray(0, 4)),
    null,
  );
});

/** An unfinished message goes with the frames that finish it. */
function messagesOf(frames: readonly Frame[], encoded: readonly Buffer[]): Buffer[] {
  const messages: Buffer[] = [];
  let open: Buffer[] = [];
  for (const [index, { isFinal }] of frames.entries()) {
    open.push(encoded[index] ?? Buffer.alloc(0));
    if (!isFinal) continue;
    messages.push(Buffer.concat(open));
    open = [];
  }
  return messages;
}

function encode({ isFinal, isMasked, length }: Frame): Buffer {
  const mask = isMasked ? 0x80 : 0;
  const first = isFinal ? 0x82 : 0x02;
  const head =
    length < 126
      ? Buffer.from([first, mask | length])
      : length < 65_536
        ? Buffer.from([first, mask | 126, length >> 8, length & 255])
        : Buffer.from([
            first,
            mask | 127,
            0,
            0,
            0,
            0,
            length >>> 24,
            (length >> 16) & 255,
            (length >> 8) & 255,
            length & 255,
          ]);
  return Buffer.concat([
    head,
    Buffer.alloc(isMasked ? 4 : 0, 7),
    Buffer.alloc(length, length % 251),
  ]);
}
