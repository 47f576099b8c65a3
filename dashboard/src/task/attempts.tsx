// Attempts that failed, and the failure of the task itself.

import type { JSX } from "preact";

import { now } from "../parts/clock.ts";
import { clock, millis, seconds, span, words } from "../parts/format.ts";
import { FailureReason, type Failure, type Task } from "../plane/contract.ts";

export function Failed({ task }: { task: Task }): JSX.Element | null {
  if (task.result.case !== "failure") return null;
  const failure = task.result.value;
  return (
    <section class="card failed-card" aria-label="Why it failed">
      <h2>{reasonOf(failure)}</h2>
      <p class="pre">{failure.message}</p>
      <p class="muted">{failure.retryable ? "Another try may succeed." : "Another try of the same will not succeed."}</p>
    </section>
  );
}

export function Attempts({ task }: { task: Task }): JSX.Element | null {
  if (task.endedAttempts.length === 0) return null;
  return (
    <section class="card" aria-labelledby="attempts-title">
      <h2 id="attempts-title">Attempts that failed</h2>
      <table class="table">
        <thead>
          <tr>
            <th scope="col">Attempt</th>
            <th scope="col">Reason</th>
            <th scope="col">What happened</th>
            <th scope="col">Next after</th>
            <th scope="col">Ended</th>
          </tr>
        </thead>
        <tbody>
          {task.endedAttempts.map((ended) => (
            <tr key={ended.attempt}>
              <td class="number">
                {ended.attempt} of {task.maxAttempts}
              </td>
              <td class="failure-word">{ended.failure ? reasonOf(ended.failure) : ""}</td>
              <td class="pre">{ended.failure?.message}</td>
              <td class="number">{delayOf(ended.failure)}</td>
              <td class="number">{clock(millis(ended.endTime) ?? 0, { now: now.value })}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}

export function reasonOf(failure: Failure): string {
  return words(FailureReason[failure.reason] ?? `reason ${failure.reason}`);
}

function delayOf(failure: Failure | undefined): string {
  const delay = seconds(failure?.retryDelay);
  return delay === undefined ? "" : span(delay);
}
