/** Goal: the embedded engine does what every engine does. */
import { systemClock } from "../../../orchestrator/runtime/clock.ts";
import { openEmbeddedProxy } from "../../../proxy/egress/embedded.ts";
import { testEgressProxy } from "./conformance.ts";
import { ids, log, type OpenEngine } from "./world.ts";

const open: OpenEngine = ({ guard, sink, authority, extraCa, idleTimeoutMs }) =>
  openEmbeddedProxy(
    { guard, sink, authority, ids, clock: systemClock, log },
    {
      ...{ host: "127.0.0.1", port: 0, extraCa, headTimeoutMs: 3_000 },
      ...(idleTimeoutMs === undefined ? {} : { idleTimeoutMs }),
    },
  );

testEgressProxy("embedded", open);
