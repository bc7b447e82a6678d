/** Goal: an account is named by what people know it as, and never loses what it is. */
import assert from "node:assert/strict";
import test from "node:test";

interface OwnerText {
  ownerText(
    owner: string,
    project: { id: string; name: string },
  ): { text: string; href: string | null };
}
const path = new URL("../../../dashboards/web/app/owner-text.js", import.meta.url);
const { ownerText }: OwnerText = await import(path.href);

const PROJECT = { id: "project_01kah27zs8e4rsk0ncyqjpys5f", name: "tidy-cli" };

test("the accounts around a budget have names", () => {
  const trial = "trial_01kah27zs8e4rsk0ncyqjpys5f";
  const texts: [string, string, string | null][] = [
    [`project/${PROJECT.id}`, "tidy-cli", null],
    [`tokens/project/${PROJECT.id}`, "tidy-cli, tokens", null],
    [`trial/${trial}`, "trial …jpys5f", `/trials/${trial}`],
    [`day/${PROJECT.id}/2026-11-21`, "day 2026-11-21", null],
    ["organisation/CAD", "organisation", null],
    ["project/project_01kah27zs8e4rsk0ncyqjpyxyz", "project jpyxyz", null],
    [`spend/${PROJECT.id}`, "spend", null],
    ["exchange/CAD", "exchange/CAD", null],
    ["", "", null],
  ];
  for (const [owner, text, href] of texts) {
    assert.deepEqual(ownerText(owner, PROJECT), { text, href }, owner);
  }
});
