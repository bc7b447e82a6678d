/** What every protocol of the scripted model must do, besides its own golden sequence. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import {
  type Answer,
  type Block,
  type Dialect,
  ScriptedProblem,
  type StreamEvent,
} from "../../../models/scripted/dialect.ts";
import { parseBody } from "./requests.ts";

/** What a client makes of a stream: the blocks of an answer, without their ids. */
export type Reader = (events: readonly StreamEvent[]) => { kind: string; text: string }[];

export const ANSWER: Answer = {
  blocks: [
    { kind: "thinking", text: "The word is wrong." },
    { kind: "text", text: "I read the file first." },
    {
      kind: "tool_use",
      id: "call_x_0",
      name: "read_file",
      input: '{"path":"src/greet.js"}',
      isFreeform: false,
    },
    {
      kind: "tool_use",
      id: "call_x_1",
      name: "bash",
      input: '{"command":"ls"}',
      isFreeform: false,
    },
  ],
  stop: "tool_use",
  usage: { inputTokens: 100, outputTokens: 27, reasoningTokens: 5 },
};

const block: fc.Arbitrary<Block> = fc.oneof(
  fc.record({
    kind: fc.constant("text" as const),
    text: fc.string({ unit: "binary", minLength: 1 }),
  }),
  fc.record({ kind: fc.constant("thinking" as const), text: fc.string({ minLength: 1 }) }),
  fc.record({
    kind: fc.constant("tool_use" as const),
    id: fc.constant("call_x_0"),
    name: fc.constant("bash"),
    input: fc.object().map((args) => JSON.stringify(args)),
    isFreeform: fc.constant(false),
  }),
);

/** `order`: whether the protocol keeps the order of blocks of different kinds. */
export function testDialect(
  dialect: Dialect,
  body: object,
  read: Reader,
  { isOrdered }: { isOrdered: boolean },
): void {
  const request = parseBody(dialect, body);

  test("its whole answer and its stream are the ones we reviewed", (t) => {
    t.assert.snapshot(dialect.json(request, ANSWER));
    t.assert.snapshot(dialect.events(request, ANSWER));
  });

  test("its answer without usage, and its answer that was cut, are the ones we reviewed", (t) => {
    const blocks: Block[] = [{ kind: "text", text: "I re" }];
    const cut: Answer = { blocks, stop: "length", usage: null };
    t.assert.snapshot(dialect.json(request, cut));
    t.assert.snapshot(dialect.events(request, cut));
  });

  test("a stream's deltas make up the answer, and the same request has the same bytes", () => {
    fc.assert(
      fc.property(fc.array(block, { maxLength: 5 }), (blocks) => {
        const answer: Answer = { ...ANSWER, blocks, stop: "end" };
        const events = dialect.events(request, answer);
        assert.deepEqual(dialect.events(request, answer), events);
        const given = blocks.map((one) => ({
          kind: one.kind,
          text: one.kind === "tool_use" ? one.input : one.text,
        }));
        const got = read(events);
        if (isOrdered) assert.deepEqual(got, given);
        else {
          for (const kind of ["text", "thinking", "tool_use"]) {
            const joined = (all: typeof got) =>
              all.map((one) => (one.kind === kind ? one.text : "")).join("");
            assert.equal(joined(got), joined(given));
          }
        }
      }),
    );
  });

  test("a body that is no request is refused", () => {
    for (const bad of [null, 5, [], {}, { model: 5 }, { model: "scripted-normal" }]) {
      assert.throws(() => parseBody(dialect, bad as object), ScriptedProblem);
    }
  });
}
