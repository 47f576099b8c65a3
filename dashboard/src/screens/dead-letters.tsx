// Dead letters: the tasks that failed for good, by reason; retry one, or all that a filter means.

import type { JSX } from "preact";
import { useEffect, useMemo, useState } from "preact/hooks";

import { useBusy } from "../parts/busy.ts";
import { now } from "../parts/clock.ts";
import { ago, count, millis, short, words } from "../parts/format.ts";
import { tell } from "../parts/notices.tsx";
import { go } from "../place.ts";
import { tasks as client } from "../plane/client.ts";
import { FailureReason, TaskState, type Task } from "../plane/contract.ts";
import { may } from "../plane/session.ts";
import { whileWatched } from "../plane/visible.ts";
import { formatPlace } from "../router.ts";
import { about } from "../tasks/about.ts";
import { BulkBar } from "../tasks/bulk-bar.tsx";
import { EVERYTHING, type Filter } from "../tasks/filter.ts";
import { Live } from "../parts/live.tsx";
import { TaskStore } from "../tasks/store.ts";

const FAILED: Filter = { ...EVERYTHING, states: ["failed"] };
/** As many as are shown; the list of tasks shows all. */
const SHOWN = 200;

export function DeadLetters({ project }: { project: string }): JSX.Element {
  const [type, setType] = useState("");
  const filter = useMemo(() => (type === "" ? FAILED : { ...FAILED, types: [type] }), [type]);
  const store = useMemo(() => new TaskStore({ project, filter: FAILED }), [project]);
  useEffect(() => whileWatched((signal) => store.follow(signal)), [store]);
  const version = store.version.value;
  const all = useMemo(() => store.table.select((task) => task.state === TaskState.FAILED), [store, version]);
  const shown = type === "" ? all : all.filter((task) => task.taskType === type);
  const types = [...new Set(all.map((task) => task.taskType))].toSorted();
  return (
    <>
      <div class="screen-head">
        <h1>Dead letters</h1>
        <p class="tally" aria-live="polite">
          {count(shown.length)}
          {store.hasMore.value ? "+" : ""} failed
        </p>
        <Live connection={store.connection.value} />
        <div class="chips" role="group" aria-label="Task type">
          {types.map((each) => (
            <button key={each} type="button" class="chip" aria-pressed={each === type} onClick={() => setType(each === type ? "" : each)}>
              {words(each)}
            </button>
          ))}
        </div>
        <span class="gap" />
        {may.value.submit && shown.length > 0 && <BulkBar project={project} filter={filter} wishes={["retry"]} />}
      </div>
      {store.problem.value !== "" && <p class="problem" role="alert">{store.problem.value}</p>}
      {shown.length === 0 && !store.loading.value ? (
        <div class="nothing">
          <p>Nothing has failed for good.</p>
        </div>
      ) : (
        <Letters tasks={shown.slice(0, SHOWN)} />
      )}
      {shown.length > SHOWN && (
        <a class="more button" href={formatPlace({ screen: "tasks", query: { filter: "state:failed" } })}>
          Show all of them in the list of tasks
        </a>
      )}
    </>
  );
}

function Letters({ tasks }: { tasks: readonly Task[] }): JSX.Element {
  return (
    <div class="table-view">
      <table class="table">
        <thead>
          <tr>
            <th scope="col">Reason</th>
            <th scope="col">Task</th>
            <th scope="col">What happened</th>
            <th scope="col">Attempts</th>
            <th scope="col">Failed</th>
            <th scope="col">
              <span class="unseen">Actions</span>
            </th>
          </tr>
        </thead>
        <tbody>
          {tasks.map((task) => (
            <Letter key={task.id} task={task} />
          ))}
        </tbody>
      </table>
    </div>
  );
}

function Letter({ task }: { task: Task }): JSX.Element {
  const failure = task.result.case === "failure" ? task.result.value : undefined;
  const subject = about(task);
  return (
    <tr>
      <td class="failure-word">{failure ? words(FailureReason[failure.reason] ?? "") : ""}</td>
      <td class="letter-task">
        <a href={formatPlace({ screen: "tasks", part: task.id })}>
          <code>{short(task.id)}</code> {words(task.taskType)}
        </a>
        {subject !== "" && <div class="subject muted">{subject}</div>}
      </td>
      <td class="letter-message" title={failure?.message ?? ""}>
        {failure?.message}
      </td>
      <td class="number">{task.attempt}</td>
      <td class="number">{ago(millis(task.endTime) ?? now.value, now.value)}</td>
      <td class="end">{may.value.submit && <Retry task={task} />}</td>
    </tr>
  );
}

function Retry({ task }: { task: Task }): JSX.Element {
  const [after, setAfter] = useState("");
  const [busy, doing] = useBusy();
  async function retry(): Promise<void> {
    const response = await client.retryTask({ taskId: task.id, requestId: `dashboard-${crypto.randomUUID()}` });
    setAfter(response.task?.id ?? "");
    tell("Submitted again, as a new task.");
  }
  if (after !== "") {
    return (
      <button type="button" class="small" onClick={() => go({ screen: "tasks", part: after })}>
        Show the new one
      </button>
    );
  }
  return (
    <button type="button" class="small" disabled={busy} onClick={() => void doing(retry)} aria-label={`Retry ${short(task.id)}`}>
      Retry
    </button>
  );
}
