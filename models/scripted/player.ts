/** One model call: its script's answer, or the fault that stands in its place. */
import type { ServerResponse } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { answerTo, sideOf } from "./answer.ts";
import { type Answer, type Dialect, type ModelRequest, ScriptedProblem } from "./dialect.ts";
import { createFaults } from "./faults.ts";
import type { Library } from "./library.ts";
import type { RequestSummary } from "./requests.ts";
import { cutBody, headersOf, sendBody, sendEvents } from "./send.ts";

export const SCRIPTED_MODELS = ["scripted-normal", "scripted-thinking"] as const;

export interface Player {
  /**
   * Writes the response to `request` and tells `summary` what it was.
   *
   * @throws ScriptedProblem before anything is written: no such model, no script, no tool for it.
   */
  play(
    dialect: Dialect,
    request: ModelRequest,
    response: ServerResponse,
    summary: RequestSummary,
    signal: AbortSignal,
  ): Promise<void>;
}

export function createPlayer(library: Library): Player {
  const faults = createFaults();
  return { play };

  async function play(
    dialect: Dialect,
    request: ModelRequest,
    response: ServerResponse,
    summary: RequestSummary,
    signal: AbortSignal,
  ): Promise<void> {
    const { model, isStream, tools } = request;
    const side = sideOf(model);
    Object.assign(summary, { wire: dialect.wire, model, side, isStream });
    summary.tools = tools.map(({ name }) => name);
    if (!model.startsWith("scripted")) {
      const served = SCRIPTED_MODELS.join(", ");
      const message = `there is no model ${model}; served: ${served}`;
      throw new ScriptedProblem(404, "model_not_found", message);
    }
    const script = await library.select(request);
    summary.script = script.name;
    const { answer, position } = answerTo(script, request, dialect.toolUseIdPrefix);
    summary.step = position.step + 1;
    const fault = faults.next(script, side, position.turns, request);
    if (fault?.status !== undefined) {
      summary.fault = "status";
      const message = `script ${script.name} fails this call`;
      const body = fault.body ?? dialect.error(fault.status, "scripted_fault", message);
      return sendBody(response, fault.status, body, fault.headers);
    }
    if (fault?.stall_ms !== undefined) {
      summary.fault = "stall";
      await sleep(fault.stall_ms, undefined, { signal });
    }
    if (fault?.no_usage) summary.fault = "no_usage";
    const given: Answer = fault?.no_usage ? { ...answer, usage: null } : answer;
    if (fault?.cut_after_events !== undefined) summary.fault = "cut";
    summary.usage = given.usage;
    if (isStream) {
      const events = dialect.events(request, given);
      await sendEvents(response, events, {
        cutAfterEvents: fault?.cut_after_events,
        delayMsPerEvent: script.delayMsPerEvent,
        digest: request.digest,
        signal,
      });
      return;
    }
    const body = JSON.stringify(dialect.json(request, given));
    await sleep(script.delayMsPerEvent, undefined, { signal });
    if (fault?.cut_after_events !== undefined) {
      return cutBody(response, body, request.digest);
    }
    response.writeHead(200, headersOf("application/json", request.digest));
    response.end(body);
  }
}
