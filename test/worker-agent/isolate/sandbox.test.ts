/**
 * Goal: bubblewrap alone, without any right of the host, closes a trial's network and hides what is
 * not its own.
 *
 * Method: the conformance suite with the real bubblewrap; as root, for a slot's user.
 */
import { execFileSync } from "node:child_process";
import { openSandbox } from "../../../worker-agent/isolate/sandbox.ts";
import { testIsolation } from "./conformance.ts";

const isRoot = process.getuid?.() === 0;
testIsolation("sandbox", {
  open: openSandbox,
  runAs: isRoot ? { uid: 3_000_041, gid: 3_000_041 } : null,
  skip: whyNot(),
});

function whyNot(): string | false {
  if (process.env["AUTOCODE_REQUIRE_ENGINES"] === "all") return false;
  try {
    execFileSync("bwrap", ["--unshare-all", "--ro-bind", "/", "/", "true"], { stdio: "ignore" });
    return false;
  } catch {
    return "bubblewrap is not installed, or may make no namespace here";
  }
}
