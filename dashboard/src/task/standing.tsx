// How far a task is: its progress and when it will be done, or why it waits.

import type { JSX } from "preact";

import { now } from "../parts/clock.ts";
import { counted, millis, percent, span, words } from "../parts/format.ts";
import { ProgressBar } from "../parts/progress.tsx";
import { TaskState, WaitReason, type Task } from "../plane/contract.ts";
import { estimate } from "./eta.ts";
import { Preview } from "./preview.tsx";
import type { Story } from "./story.ts";

export function Standing({ story, task }: { story: Story; task: Task }): JSX.Element | null {
  if (task.state === TaskState.RUNNING) return <Running story={story} task={task} />;
  if (task.state === TaskState.PENDING) return <Waiting task={task} />;
  return null;
}

function Running({ story, task }: { story: Story; task: Task }): JSX.Element {
  const { progress } = task;
  const eta = estimate(story.samples.value, now.value);
  const since = millis(task.startTime);
  return (
    <section class="card standing-card" aria-label="Progress">
      {progress ? (
        <>
          <div class="standing-line">
            <strong class="big-number">{percent(progress.percentage / 100)}</strong>
            <span>
              {progress.message || "running"}
              {progress.total > 0 && <span class="muted number"> · {progress.current} of {progress.total}</span>}
            </span>
            <span class="gap" />
            <span class="number muted">
              {eta === undefined ? "" : eta.seconds < 0.5 ? "any moment" : `about ${span(Math.max(1, Math.round(eta.seconds)))} left`}
            </span>
          </div>
          <ProgressBar progress={progress} label="Progress of the task" />
          {progress.preview && <Preview key={task.attempt} taskId={task.id} artifact={progress.preview} />}
        </>
      ) : (
        <p>
          Attempt {task.attempt} runs{since === undefined ? "" : `, for ${span(Math.max(0, (now.value - since) / 1000))}`}; it has told no progress yet.
        </p>
      )}
      {task.cancelRequested && <p class="muted">Asked to stop{task.cancelReason === "" ? "" : `: ${task.cancelReason}`}.</p>}
    </section>
  );
}

const WHY: Readonly<Record<number, string>> = {
  [WaitReason.NO_WORKER]: "No live worker serves its queue.",
  [WaitReason.BUSY]: "All slots of its queue's workers are taken.",
  [WaitReason.BACKOFF]: "An attempt failed; the next one waits for its time.",
  [WaitReason.SCHEDULED]: "It was submitted for later.",
  [WaitReason.PAUSED]: "Operators have paused its queue, or every worker of it.",
};

function Waiting({ task }: { task: Task }): JSX.Element {
  const ready = millis(task.readyTime);
  const left = ready === undefined ? 0 : (ready - now.value) / 1000;
  const ahead = task.queuePosition;
  const reason = WHY[task.waitReason] ?? (task.waitReason === 0 ? "It waits." : `It waits: ${words(WaitReason[task.waitReason] ?? "")}.`);
  return (
    <section class="card standing-card" aria-label="Why it waits" aria-live="polite">
      <p>
        <strong>{reason}</strong>{" "}
        {left > 0 && <span class="number">It may start in {span(Math.ceil(left))}. </span>}
        {ahead !== undefined && (
          <span class="number">{ahead === 0n ? "It is the next of its queue." : `${counted(ahead, "task")} of the queue ${ahead === 1n ? "stands" : "stand"} before it.`}</span>
        )}
      </p>
    </section>
  );
}
