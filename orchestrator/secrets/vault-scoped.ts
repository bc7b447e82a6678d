/**
 * A token for one purpose, with the secrets in its own cubbyhole: the place in Vault that belongs
 * to a token and ends with it. So the orchestrator needs no right to write policies, and the token
 * reads what it was made for and nothing else.
 */
import type { ScopedGrant, ScopedToken } from "./secrets.ts";
import { type VaultClient, VaultFault } from "./vault-client.ts";

export async function issueFromCubbyhole({
  client,
  token,
  place,
  grant,
  values,
}: {
  client: VaultClient;
  token: string;
  /** Where tokens of the role are made. */
  place: string;
  grant: ScopedGrant;
  values: readonly { path: string; value: string }[];
}): Promise<ScopedToken> {
  const seconds = Math.max(1, Math.ceil(grant.ttlMs / 1000));
  const created = await client.write(
    place,
    {
      ttl: `${seconds}s`,
      explicit_max_ttl: `${seconds}s`,
      renewable: false,
      // We write with it, and wrap it, before its holder reads.
      num_uses: grant.uses + values.length,
      display_name: "autocode",
      meta: { purpose: grant.purpose },
    },
    { token },
  );
  const scoped = created.auth?.client_token;
  if (scoped === undefined) throw new VaultFault("refused", `${place} gave no token`);
  const places = values.map(({ path }) => ({ path, place: `cubbyhole/${path}` }));
  for (const { path, value } of values) {
    await client.write(`cubbyhole/${path}`, { value }, { token: scoped });
  }
  if (!grant.isWrapped) return { token: scoped, isWrapped: false, places };
  const wrapped = await client.write(
    "sys/wrapping/wrap",
    { token: scoped },
    { token, wrapTtlMs: grant.ttlMs },
  );
  const wrapping = wrapped.wrap_info?.token;
  if (wrapping === undefined) throw new VaultFault("refused", "sys/wrapping/wrap gave no token");
  return { token: wrapping, isWrapped: true, places };
}
