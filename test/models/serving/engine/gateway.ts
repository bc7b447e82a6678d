/** A gateway of ours before the engine. */
import { createUndiciUpstream } from "../../../../proxy/gateway/undici.ts";
import {
  openTestGateway,
  type TestGateway,
  type TestGatewayOptions,
} from "../../../support/gateway.ts";
import { TINY_CARD, type Vllm } from "../../../support/vllm.ts";

/** The machine may be busy: an answer of a few tokens then takes seconds. */
const SLOW = { connectTimeoutMs: 10_000, headTimeoutMs: 60_000, chunkTimeoutMs: 60_000 };

export type OpenGateway = (more?: TestGatewayOptions) => Promise<TestGateway>;

export function gatewayTo(
  { url }: Pick<Vllm, "url">,
  more: TestGatewayOptions = {},
): Promise<TestGateway> {
  return openTestGateway({
    fundedNanos: 1_000_000_000_000n,
    provider: {
      baseUrl: url,
      apiKey: null,
      ...{ hasContinuousUsage: true, hasTokenCount: true, hasTokenize: true },
    },
    deps: { upstream: createUndiciUpstream(SLOW) },
    ...more,
    model: {
      upstreamName: TINY_CARD.name,
      contextTokens: TINY_CARD.contextTokens,
      maxOutputTokens: TINY_CARD.maxOutputTokens,
      ...more.model,
    },
  });
}
