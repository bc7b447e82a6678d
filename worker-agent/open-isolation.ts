/** Takes the closest isolation that this host gives. */
import { messageOf } from "./faults.ts";
import type { Isolation, IsolationRequest, OpenIsolation } from "./isolate/isolate.ts";
import { openNamespace } from "./isolate/namespace.ts";
import { openSandbox } from "./isolate/sandbox.ts";

/**
 * Opens the first of `ways` that this host gives, and has tried it. Never throws for want of rights
 * or programs: `none` says why.
 */
export async function openIsolation(
  request: IsolationRequest,
  ways: readonly OpenIsolation[] = [openNamespace, openSandbox],
): Promise<Isolation> {
  if (process.platform !== "linux") return openNone(request, `this is ${process.platform}`);
  const reasons: string[] = [];
  for (const open of ways) {
    try {
      return await open(request);
    } catch (error) {
      reasons.push(messageOf(error));
    }
  }
  return openNone(request, reasons.join("; "));
}

function openNone({ proxyUrl, gatewayUrl }: IsolationRequest, why: string): Isolation {
  return {
    kind: "none",
    detail: `egress is advisory: programs are told of the proxy, and not forced to use it (${why})`,
    proxyUrl,
    gatewayUrl,
    wrap: (command) => command,
    [Symbol.asyncDispose]: async () => {},
  };
}
