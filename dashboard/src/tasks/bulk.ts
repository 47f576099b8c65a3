// One wish for many tasks: carried out a few at a time, with a count of how far it is and of what was refused, and why.

import { Code } from "@connectrpc/connect";

import type { Task } from "../plane/contract.ts";
import { passes, problemOf } from "../plane/errors.ts";
import { pause, wait } from "../plane/follow.ts";

/** As many as are under way at once: a browser opens six connections to an origin, and one is the stream's. */
export const AT_ONCE = 5;
const MOST_TRIES = 4;
/** As many different reasons as are told apart; the others are counted together. */
const MOST_REASONS = 8;
const OTHER = "for other reasons";

/** Why some were refused, and how many. */
export interface Refused {
  readonly reason: string;
  readonly count: number;
}

export interface Tally {
  readonly done: number;
  readonly total: number;
  /** The most frequent reason first. */
  readonly refused: readonly Refused[];
  /** Whether somebody stopped it before all had their turn. */
  readonly isStopped: boolean;
}

/** Return how many of them were refused. */
export function refusals(tally: Tally): number {
  return tally.refused.reduce((sum, each) => sum + each.count, 0);
}

/**
 * Carry the wish out for each task; what passes is tried again, and a refused one does not stop the rest.
 *
 * Once *stop* is aborted no further one is begun; what is under way comes to its end, so that all that happened is counted.
 */
export async function carryOut(
  tasks: readonly Task[],
  act: (task: Task) => Promise<unknown>,
  { onTally, stop, rest = pause }: { onTally: (tally: Tally) => void; stop: AbortSignal; rest?: typeof pause },
): Promise<Tally> {
  const reasons = new Map<string, number>();
  let done = 0;
  let next = 0;
  const tally = (): Tally => ({
    done,
    total: tasks.length,
    refused: [...reasons].map(([reason, count]) => ({ reason, count })).toSorted((one, other) => other.count - one.count),
    isStopped: stop.aborted && next < tasks.length,
  });
  async function work(): Promise<void> {
    for (let task = tasks[next]; task !== undefined && !stop.aborted; task = tasks[next]) {
      next += 1;
      const reason = await refusal(() => act(task), stop, rest);
      if (reason === "") done += 1;
      else {
        const kept = reasons.has(reason) || reasons.size < MOST_REASONS ? reason : OTHER;
        reasons.set(kept, (reasons.get(kept) ?? 0) + 1);
      }
      onTally(tally());
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  return tally();
}

/** Act, again while that may help; return why it was refused, or "". */
async function refusal(act: () => Promise<unknown>, stop: AbortSignal, rest: typeof pause): Promise<string> {
  for (let tries = 1; ; tries += 1) {
    try {
      await act();
      return "";
    } catch (thrown) {
      const problem = problemOf(thrown);
      if (stop.aborted || tries >= MOST_TRIES || !passes(thrown)) return reasonOf(problem);
      await rest(Math.max(wait(tries), problem.retryAfter ?? 0), stop);
    }
  }
}

/** The reason in words that are the same for every task: messages name the task. */
function reasonOf({ reason, code }: { reason: string; code: Code }): string {
  return (reason || (Code[code] ?? "unknown").replaceAll(/(?<=[a-z])(?=[A-Z])/g, "_")).toLowerCase().replaceAll("_", " ");
}
