// How far a task is: a bar, and the words beside it.

import type { JSX } from "preact";

import type { Progress } from "../plane/contract.ts";

export function ProgressBar({ progress, label }: { progress: Progress; label: string }): JSX.Element {
  const percentage = Math.min(100, Math.max(0, progress.percentage));
  const known = progress.total > 0;
  return (
    <div
      class={known ? "progress" : "progress progress-unknown"}
      role="progressbar"
      aria-label={label}
      aria-valuemin={0}
      aria-valuemax={100}
      {...(known ? { "aria-valuenow": Math.round(percentage) } : {})}
      {...(progress.message ? { "aria-valuetext": progress.message } : {})}
    >
      <div class="progress-done" style={{ width: `${percentage}%` }} />
    </div>
  );
}
