// Tasks: one filter for the list, the stream behind it, the address, and what is done to all of them.

import type { JSX } from "preact";
import { useCallback, useEffect, useMemo } from "preact/hooks";

import { now } from "../parts/clock.ts";
import { ago, clock, count, millis, percent, short, span, words } from "../parts/format.ts";
import { ProgressBar } from "../parts/progress.tsx";
import { Rows } from "../parts/rows.tsx";
import { TaskMark } from "../parts/state.tsx";
import { go } from "../place.ts";
import { FailureReason, TaskState, type Task } from "../plane/contract.ts";
import { may } from "../plane/session.ts";
import { whileWatched } from "../plane/visible.ts";
import { formatPlace } from "../router.ts";
import { about, searchText } from "../tasks/about.ts";
import { BulkBar } from "../tasks/bulk-bar.tsx";
import { FilterBar } from "../tasks/filter-bar.tsx";
import { matches, parseFilter, type Filter } from "../tasks/filter.ts";
import { Live } from "../parts/live.tsx";
import { TaskStore } from "../tasks/store.ts";
import { StripChart } from "../tasks/strip-chart.tsx";
import { isFinal } from "../tasks/states.ts";

/** As the style sheet has it. */
const ROW_HEIGHT = 36;
const COLUMNS = ["State", "Task", "Type", "Progress", "Submitted", "Took"];

export function TasksScreen({ project, typed }: { project: string; typed: string }): JSX.Element {
  const { filter, problems } = useMemo(() => parseFilter(typed), [typed]);
  const store = useTaskStore(project, filter);
  const shown = useShown(store, filter);
  const onEnd = useCallback(() => {
    if (store.hasMore.peek()) void store.loadOlder();
  }, [store]);
  return (
    <>
      <div class="screen-head">
        <h1>Tasks</h1>
        <p class="tally" aria-live="polite">
          {count(shown.length)}
          {store.hasMore.value ? "+" : ""} {shown.length === 1 ? "task" : "tasks"}
        </p>
        <Live connection={store.connection.value} />
        {store.hasMore.value && (
          <button type="button" class="small" disabled={store.loading.value} onClick={() => void store.loadOlder()}>
            Look further back
          </button>
        )}
        <span class="gap" />
        {may.value.submit && <BulkBar project={project} filter={filter} wishes={["cancel", "retry"]} />}
      </div>
      <FilterBar typed={typed} filter={filter} problems={problems} />
      <StripChart tasks={shown} scope={`${project} ${typed}`} isLoading={store.loading.value} />
      {store.problem.value !== "" && <p class="problem" role="alert">{store.problem.value}</p>}
      {shown.length === 0 && !store.loading.value && store.problem.value === "" ? (
        <Nothing isFiltered={typed !== ""} />
      ) : (
        <Rows
          label="Tasks"
          items={shown}
          keyOf={(task) => task.id}
          columns={COLUMNS}
          rowHeight={ROW_HEIGHT}
          onEnd={onEnd}
          onOpen={(task) => go({ screen: "tasks", part: task.id })}
          renderRow={(task) => <TaskRow task={task} />}
        />
      )}
    </>
  );
}

/** The store of what the server can know of the filter; the rest of the filter only narrows what is shown. */
function useTaskStore(project: string, filter: Filter): TaskStore {
  const scope = JSON.stringify([project, filter.states, filter.types, filter.ids]);
  const store = useMemo(() => new TaskStore({ project, filter }), [scope]);
  useEffect(() => whileWatched((signal) => store.follow(signal)), [store]);
  return store;
}

function useShown(store: TaskStore, filter: Filter): readonly Task[] {
  const version = store.version.value;
  return useMemo(
    () => store.table.select((task) => matches(filter, task, () => textOf(task))),
    [store, filter, version],
  );
}

const TEXTS = new WeakMap<Task, string>();

function textOf(task: Task): string {
  let text = TEXTS.get(task);
  if (text === undefined) TEXTS.set(task, (text = searchText(task)));
  return text;
}

function Nothing({ isFiltered }: { isFiltered: boolean }): JSX.Element {
  return (
    <div class="nothing">
      <p>{isFiltered ? "No task fits this filter." : "Nothing has been submitted yet."}</p>
      {may.value.submit && (
        <a class="button" href={formatPlace({ screen: "playground" })}>
          Submit one from the playground
        </a>
      )}
    </div>
  );
}

function TaskRow({ task }: { task: Task }): JSX.Element {
  const created = millis(task.createTime) ?? 0;
  const subject = about(task);
  return (
    <>
      <div role="gridcell">
        <TaskMark task={task} />
      </div>
      <div role="gridcell" class="task-name">
        <a href={formatPlace({ screen: "tasks", part: task.id })} tabIndex={-1}>
          <code>{short(task.id)}</code>
          {subject !== "" && <span class="subject">{subject}</span>}
        </a>
      </div>
      <div role="gridcell">{words(task.taskType)}</div>
      <div role="gridcell">
        <Standing task={task} />
      </div>
      <div role="gridcell" class="number" title={clock(created, { now: now.value, exact: true })}>
        {ago(created, now.value)}
      </div>
      <div role="gridcell" class="number">
        {took(task)}
      </div>
    </>
  );
}

/** What a row says of how far the task is. */
function Standing({ task }: { task: Task }): JSX.Element {
  if (task.state === TaskState.RUNNING && task.progress) {
    return (
      <span class="standing">
        <ProgressBar progress={task.progress} label="Progress" />
        <span class="number">{percent(task.progress.percentage / 100)}</span>
      </span>
    );
  }
  if (task.result.case === "failure") return <span class="failure-word">{words(FailureReason[task.result.value.reason] ?? "")}</span>;
  if (task.state === TaskState.RUNNING && task.attempt > 1) return <span class="muted">attempt {task.attempt}</span>;
  if (task.reusedFrom !== "") return <span class="muted">reused</span>;
  if (task.state === TaskState.PENDING && task.endedAttempts.length > 0) return <span class="muted">waits for another attempt</span>;
  return <></>;
}

function took(task: Task): string {
  const from = millis(task.startTime);
  const to = isFinal(task.state) ? millis(task.endTime) : now.value;
  if (from === undefined || to === undefined || task.state === TaskState.PENDING) return "";
  return span(Math.max(0, (to - from) / 1000));
}
