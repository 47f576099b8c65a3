// Follows a stream for as long as somebody wants it: opens it again after a break, from where it was.

import { Code, ConnectError } from "@connectrpc/connect";

import { passes } from "./errors.ts";

export type Connection = "connecting" | "live" | "broken";

export interface Following<Response> {
  /** Open the stream from where the reader is; call *opened* once the server has begun to answer. */
  readonly open: (signal: AbortSignal, opened: () => void) => AsyncIterable<Response>;
  readonly onResponse: (response: Response) => void;
  readonly onConnection: (connection: Connection) => void;
  /** The place the reader remembers is gone: forget it, and what was built on it. */
  readonly onLost: () => void;
  /** Whether the stream never ends by itself, so that an end is a break. */
  readonly isEndless?: boolean;
  /** It ended for a reason that no further try mends. */
  readonly onRefused: (error: ConnectError) => void;
}

const FIRST_WAIT = 250;
const LONGEST_WAIT = 5_000;

/** Follow until the signal is aborted, the stream ends by itself, or it is refused for good. */
export async function follow<Response>(following: Following<Response>, signal: AbortSignal, rest: typeof pause = pause): Promise<void> {
  let failures = 0;
  while (!signal.aborted) {
    following.onConnection(failures === 0 ? "connecting" : "broken");
    try {
      const opened = (): void => following.onConnection("live");
      for await (const response of following.open(signal, opened)) {
        if (signal.aborted) return;
        failures = 0;
        following.onConnection("live");
        following.onResponse(response);
      }
      if (!following.isEndless) return;
    } catch (thrown) {
      if (signal.aborted) return;
      const error = ConnectError.from(thrown);
      if (error.code === Code.DataLoss || error.code === Code.OutOfRange) following.onLost();
      else if (!passes(error)) return following.onRefused(error);
    }
    if (signal.aborted) return;
    failures += 1;
    following.onConnection("broken");
    await rest(wait(failures), signal);
  }
}

/** Return how long to wait after so many failures in a row, in milliseconds: spread, so that pages do not come at once. */
export function wait(failures: number, chance: number = Math.random()): number {
  const longest = Math.min(LONGEST_WAIT, FIRST_WAIT * 2 ** Math.min(failures - 1, 10));
  return longest * (0.5 + chance / 2);
}

/** Wait, or less if the signal is aborted or the machine is online again. */
export async function pause(milliseconds: number, signal: AbortSignal): Promise<void> {
  await new Promise<void>((resolve) => {
    const timer = setTimeout(done, milliseconds);
    function done(): void {
      clearTimeout(timer);
      removeEventListener("online", done);
      signal.removeEventListener("abort", done);
      resolve();
    }
    addEventListener("online", done);
    signal.addEventListener("abort", done);
    if (signal.aborted) done();
  });
}
