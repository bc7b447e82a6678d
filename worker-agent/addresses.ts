/**
 * Where the orchestrators are: one address at first, all that live as soon as one has answered.
 * One that does not answer is left for the next in turn; a trial needs any of them.
 */

export interface Addresses {
  current(): string;
  /** The current one did not answer: from now on, the next. */
  turn(): void;
  /** What an orchestrator said in its header; the one that answered stays the current one. */
  learn(header: string | null): void;
}

/** @param text addresses with commas between them; the first is tried first. */
export function createAddresses(text: string): Addresses {
  let all = split(text);
  let at = 0;
  return { current, turn, learn };

  function current(): string {
    return all[at] ?? "";
  }

  function turn(): void {
    at = (at + 1) % all.length;
  }

  function learn(header: string | null): void {
    const told = split(header ?? "").filter((url) => /^https?:\/\//.test(url));
    if (told.length === 0) return;
    // As we know it: it may go by another address among its own.
    const mine = current();
    all = [mine, ...told.filter((url) => url !== mine)];
    at = 0;
  }
}

function split(text: string): string[] {
  return text
    .split(",")
    .map((url) => url.trim().replace(/\/+$/, ""))
    .filter((url) => url !== "");
}
