// What is asked again and again while somebody looks.

import { ConnectError } from "@connectrpc/connect";
import { signal, type ReadonlySignal } from "@preact/signals";

import { problemOf, sentence } from "../plane/errors.ts";
import { pause } from "../plane/follow.ts";
import { whileWatched } from "../plane/visible.ts";

export interface Polled<Answer> {
  /** The latest answer; undefined before the first. */
  readonly answer: ReadonlySignal<Answer | undefined>;
  /** Why the latest question had no answer; "" when it had. */
  readonly problem: ReadonlySignal<string>;
  /** Ask at once. */
  readonly again: () => Promise<void>;
  /** Stop for good. */
  readonly stop: () => void;
}

/** Ask every *period* milliseconds, or later when the server asks for patience, while the page is looked at. */
export function poll<Answer>(ask: (signal: AbortSignal) => Promise<Answer>, period: number): Polled<Answer> {
  const answer = signal<Answer | undefined>(undefined);
  const problem = signal("");
  let latest = 0;

  async function once(until: AbortSignal): Promise<number> {
    const turn = (latest += 1);
    try {
      const found = await ask(until);
      if (turn !== latest) return period; // a later question was answered meanwhile
      answer.value = found;
      problem.value = "";
      return period;
    } catch (thrown) {
      if (until.aborted) return period;
      problem.value = sentence(ConnectError.from(thrown));
      return Math.max(period, problemOf(thrown).retryAfter ?? 0);
    }
  }

  const stop = whileWatched(async (until) => {
    while (!until.aborted) await pause(await once(until), until);
  });
  return { answer, problem, stop, again: async () => void (await once(new AbortController().signal)) };
}
