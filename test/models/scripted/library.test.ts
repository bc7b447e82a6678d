/** Goal: the script is chosen by the request alone, and a folder's changes count at once. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, unlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { ScriptedProblem } from "../../../models/scripted/dialect.ts";
import { fixedLibrary, folderLibrary } from "../../../models/scripted/library.ts";
import { openaiChat } from "../../../models/scripted/openai-chat.ts";
import { ScriptError } from "../../../models/scripted/script.ts";
import { chatBody, parseBody, script } from "./requests.ts";

function saying(content: string) {
  return parseBody(openaiChat, chatBody([], { messages: [{ role: "user", content }] }));
}

test("by its match, else by its plan, else the one without a match", async () => {
  const greeting = script();
  const other = script("match: something else\nsteps: []\n", "other");
  const fallback = script("steps: []\n", "fallback");
  const library = fixedLibrary([fallback, other, greeting]);
  assert.equal(await library.select(saying("Please fix the greeting.")), greeting);
  assert.equal(await library.select(saying(`Do this: ${greeting.planText}`)), greeting);
  assert.equal(await library.select(saying("fix")), fallback);
  await assert.rejects(
    fixedLibrary([other, greeting]).select(saying("fix")),
    new ScriptedProblem(
      400,
      "no_script_matches",
      "no script matches this request; scripts: other, greeting",
    ),
  );
});

test("what tools or the model said chooses no script", async () => {
  const library = fixedLibrary([script("match: secret\nsteps: []\n"), script("steps: []\n", "b")]);
  const { name } = await library.select(parseBody(openaiChat, chatBody(["the secret"])));
  assert.equal(name, "b");
});

test("a folder is read again when a file comes, changes, breaks or goes", async () => {
  const folder = mkdtempSync(join(tmpdir(), "scripts-"));
  const file = join(folder, "one.yaml");
  try {
    const library = folderLibrary(folder);
    const chosen = async () =>
      library.select(saying("hello")).then(
        ({ commitMessage }) => commitMessage,
        (error: Error) => error.message,
      );
    assert.equal(await chosen(), "no script matches this request; scripts: none");
    writeFileSync(file, "steps: []\n");
    assert.equal(await chosen(), "fix: one");
    writeFileSync(file, 'steps: []\ncommit_message: "fix: it"\n');
    assert.equal(await chosen(), "fix: it");
    writeFileSync(file, "steps: []\nfoo: a bit longer than before\n");
    const fault = "one.yaml:2: foo: is not a key of a script";
    const refusal = "no script matches this request; scripts: none";
    assert.equal(await chosen(), `${refusal}; unreadable: ${fault}`);
    assert.deepEqual(await library.faults(), [fault]);
    unlinkSync(file);
    assert.equal(await chosen(), refusal);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("a folder that is not there is an error that names it", async () => {
  const message = "/nonexistent/scripts: the folder of scripts cannot be read";
  await assert.rejects(folderLibrary("/nonexistent/scripts").faults(), (error) => {
    assert.ok(error instanceof ScriptError);
    assert.equal(error.message, message);
    return true;
  });
});
