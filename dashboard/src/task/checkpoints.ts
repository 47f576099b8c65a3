// Where a task's work was saved, and which attempt was given what an earlier one had left.

import { bytes } from "../parts/format.ts";
import type { Checkpoint, TaskEvent } from "../plane/contract.ts";

/**
 * Return the state that each attempt was given to go on from, by the attempt's number: as the ledger decides it.
 *
 * A state that an attempt was given, and failed without saving a newer one, is not given again.
 */
export function statesGiven(facts: readonly TaskEvent[]): ReadonlyMap<number, Checkpoint> {
  const given = new Map<number, Checkpoint>();
  let failures = 0;
  let saved: { readonly checkpoint: Checkpoint; readonly failures: number } | undefined;
  for (const { event } of facts) {
    if (event.case === "attemptFailed") failures += 1;
    else if (event.case === "checkpointSaved" && event.value.checkpoint) saved = { checkpoint: event.value.checkpoint, failures };
    else if (event.case === "attemptStarted" && saved !== undefined && failures <= saved.failures + 1) given.set(event.value.attempt, saved.checkpoint);
  }
  return given;
}

/** Return where the work stood, such as step 30 of 50; of an attempt's further renderings also which it was. */
export function placeOf({ step, of, part }: Checkpoint): string {
  return `step ${step} of ${of}${part === 0 ? "" : ` of rendering ${part + 1}`}`;
}

/** Return what was saved, in words. */
export function savedWords(checkpoint: Checkpoint): string {
  return `state saved behind ${placeOf(checkpoint)}, ${bytes(checkpoint.sizeBytes)}`;
}

/** Return what an attempt was given, in words. */
export function givenWords(checkpoint: Checkpoint): string {
  return `given the state behind ${placeOf(checkpoint)}`;
}
