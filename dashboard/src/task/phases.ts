// What an attempt was at, and when, as its progress told.

import { ProgressPhase } from "../plane/contract.ts";

/** A stretch of time in one phase. */
export interface Stay {
  readonly phase: ProgressPhase;
  readonly from: number;
  /** Undefined: it goes on. */
  readonly to: number | undefined;
}

/** As many stretches as are kept: of a task with many images, the newest. */
const KEPT = 100;

/** Return the stretches after one more word of progress; times in milliseconds since 1970. */
export function enter(stays: readonly Stay[], { phase, time }: { phase: ProgressPhase; time: number }): readonly Stay[] {
  const last = stays.at(-1);
  if (last !== undefined && last.to === undefined && last.phase === phase) return stays;
  const ended = last === undefined || last.to !== undefined ? stays : [...stays.slice(0, -1), { ...last, to: time }];
  if (phase === ProgressPhase.UNSPECIFIED) return ended;
  return [...ended, { phase, from: time, to: undefined }].slice(-KEPT);
}
