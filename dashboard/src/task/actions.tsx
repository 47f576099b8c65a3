// What can be done about a task: stop it, submit it again, change it and submit that, or take it elsewhere.

import { create } from "@bufbuild/protobuf";
import type { JSX } from "preact";

import { useBusy } from "../parts/busy.ts";
import { tell } from "../parts/notices.tsx";
import { go } from "../place.ts";
import { tasks as client } from "../plane/client.ts";
import { SubmitTaskRequestSchema, TaskState, type Task } from "../plane/contract.ts";
import { may } from "../plane/session.ts";
import { formatPlace } from "../router.ts";
import { isFinal } from "../tasks/states.ts";
import { SnippetTabs } from "./snippet-tabs.tsx";
import type { Story } from "./story.ts";

export function Actions({ task, story }: { task: Task; story: Story }): JSX.Element {
  const [busy, doing] = useBusy();

  async function cancel(): Promise<void> {
    await client.cancelTask({ taskId: task.id, reason: "cancelled in the dashboard" });
    tell("The task was asked to stop.");
    await story.read();
  }

  async function retry(): Promise<void> {
    const response = await client.retryTask({ taskId: task.id, requestId: `dashboard-${crypto.randomUUID()}` });
    tell("Submitted again, as a new task.");
    if (response.task) go({ screen: "tasks", part: response.task.id });
  }

  const canRetry = task.state === TaskState.FAILED || task.state === TaskState.CANCELLED;
  return (
    <div class="row actions" role="group" aria-label="Actions">
      <CopyAs task={task} />
      {may.value.submit && task.spec && (
        <a class="button" href={formatPlace({ screen: "playground", part: task.taskType, query: { from: task.id } })}>
          Replay with edits
        </a>
      )}
      {may.value.submit && canRetry && (
        <button type="button" class="primary" disabled={busy} onClick={() => void doing(retry)}>
          Retry
        </button>
      )}
      {may.value.submit && !isFinal(task.state) && (
        <button type="button" class="danger" disabled={busy || task.cancelRequested} onClick={() => void doing(cancel)}>
          Cancel
        </button>
      )}
    </div>
  );
}

/** The task's submission, in the words of a shell or a program. */
function CopyAs({ task }: { task: Task }): JSX.Element | null {
  if (task.spec === undefined) return null;
  const request = create(SubmitTaskRequestSchema, {
    project: task.project,
    spec: task.spec,
    priority: task.priority,
    metadata: task.metadata,
    ...(task.callback && { callback: task.callback }),
  });
  return (
    <details class="menu">
      <summary class="button">Copy as …</summary>
      <div class="menu-body">
        <SnippetTabs request={request} />
      </div>
    </details>
  );
}
