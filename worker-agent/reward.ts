/** Harbor's reward files: what a test script says of the work, from 0 to 1. Pure. */

export type Reward =
  | { readonly outcome: "none" }
  | { readonly outcome: "bad"; readonly detail: string }
  | { readonly outcome: "reward"; readonly reward: number };

/**
 * The reward that the files state; null stands for a file that is not there. `reward.json` holds a
 * number by name: the one called `reward` if there is one, else the least of them, so that
 * nothing passes that failed in part. `reward.txt` comes first.
 */
export function readReward(text: string | null, json: string | null): Reward {
  if (text !== null) return toReward("reward.txt", text.trim() === "" ? Number.NaN : Number(text));
  if (json === null) return { outcome: "none" };
  let parsed: unknown;
  try {
    parsed = JSON.parse(json);
  } catch {
    return { outcome: "bad", detail: "reward.json is not JSON" };
  }
  if (typeof parsed === "number") return toReward("reward.json", parsed);
  if (typeof parsed !== "object" || parsed === null) return toReward("reward.json", Number.NaN);
  const rewards: Record<string, unknown> = { ...parsed };
  const numbers = "reward" in rewards ? [rewards["reward"]] : Object.values(rewards);
  const least = Math.min(
    ...numbers.map((value) => (typeof value === "number" ? value : Number.NaN)),
  );
  return toReward("reward.json", least);
}

function toReward(file: string, reward: number): Reward {
  if (reward >= 0 && reward <= 1) return { outcome: "reward", reward };
  return { outcome: "bad", detail: `${file} holds no number from 0 to 1` };
}
