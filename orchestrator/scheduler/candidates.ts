/**
 * A binary heap of candidates whose load only grows: an entry's place is mended when it comes to
 * the top, so that taking the best stays O(log n) however many heaps share the candidates.
 */

/** Lower ones first: by rank, then by load, then by order, which no two have in common. */
export interface Candidate {
  readonly rank: number;
  readonly order: number;
  load: number;
}

export function createCandidates<Each extends Candidate>(candidates: readonly Each[]) {
  const heap = candidates.slice();
  // Their loads when they were put where they are: at most what they are now.
  const loads = Float64Array.from(candidates, ({ load }) => load);
  let length = heap.length;
  for (let at = (length >> 1) - 1; at >= 0; at--) sink(at);
  return { best };

  /** The best that `fits`; one that does not never will again, and is let go. Null: none left. */
  function best(fits: (candidate: Each) => boolean): Each | null {
    for (;;) {
      const top = heap[0];
      if (length === 0 || top === undefined) return null;
      if (!fits(top)) {
        length -= 1;
        heap[0] = heap[length] as Each;
        loads[0] = loads[length] as number;
      } else if (top.load === loads[0]) {
        return top;
      } else {
        loads[0] = top.load;
      }
      sink(0);
    }
  }

  function sink(from: number): void {
    const moved = heap[from] as Each;
    const load = loads[from] as number;
    let at = from;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= length) break;
      if (child + 1 < length && isBefore(child + 1, heap[child] as Each, loads[child] as number)) {
        child += 1;
      }
      if (!isBefore(child, moved, load)) break;
      heap[at] = heap[child] as Each;
      loads[at] = loads[child] as number;
      at = child;
    }
    heap[at] = moved;
    loads[at] = load;
  }

  function isBefore(at: number, other: Each, otherLoad: number): boolean {
    const one = heap[at] as Each;
    if (one.rank !== other.rank) return one.rank < other.rank;
    const load = loads[at] as number;
    return load === otherLoad ? one.order < other.order : load < otherLoad;
  }
}
