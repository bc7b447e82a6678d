/** Goal: mitmproxy with our addon does what every engine does. */
import { join } from "node:path";
import { systemClock } from "../../../orchestrator/runtime/clock.ts";
import { openMitmproxy } from "../../../proxy/egress/mitmproxy.ts";
import { testEgressProxy } from "./conformance.ts";
import { ids, log, type OpenEngine } from "./world.ts";

const open: OpenEngine = ({ guard, sink, authority, extraCa, folder, idleTimeoutMs }) =>
  openMitmproxy(
    { guard, sink, authority, ids, clock: systemClock, log },
    {
      ...{ mitmdump: null, host: "127.0.0.1", port: 0, mode: "regular", extraCa },
      dir: join(folder, "mitmproxy"),
      ...(idleTimeoutMs === undefined ? {} : { idleTimeoutMs }),
    },
  );

testEgressProxy("mitmproxy", open);
