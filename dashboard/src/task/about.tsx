// What is known of a task besides what happens to it: its input, its names, what it used.

import { toJson } from "@bufbuild/protobuf";
import type { ComponentChildren, JSX } from "preact";

import { now } from "../parts/clock.ts";
import { bytes, clock, count, millis, span } from "../parts/format.ts";
import { REGISTRY, TaskSpecSchema, type Task } from "../plane/contract.ts";
import { formatPlace } from "../router.ts";
import { placeOf } from "./checkpoints.ts";
import { outputJson } from "./output.ts";

export function About({ task }: { task: Task }): JSX.Element {
  return (
    <aside class="task-about" aria-label="About the task">
      <section class="card">
        <h2>Input</h2>
        <Json value={task.spec && Object.values(toJson(TaskSpecSchema, task.spec, { registry: REGISTRY }) as object)[0]} />
      </section>
      <section class="card">
        <h2>Task</h2>
        <dl class="facts-list">
          <Entry name="Queue">{task.queue}</Entry>
          <Entry name="Priority">{task.priority}</Entry>
          <Entry name="Attempt">{task.attempt === 0 ? "none yet" : `${task.attempt} of ${task.maxAttempts}`}</Entry>
          <Entry name="Worker">{task.worker}</Entry>
          <Entry name="Checkpoint">{task.checkpoint && `behind ${placeOf(task.checkpoint)}, ${bytes(task.checkpoint.sizeBytes)}`}</Entry>
          <Time name="Submitted" of={millis(task.createTime)} />
          <Time name="Started" of={millis(task.startTime)} />
          <Time name="Ended" of={millis(task.endTime)} />
          <Time name="Expires" of={millis(task.expireTime)} />
          <Entry name="Retry of">{task.retryOf && <a href={formatPlace({ screen: "tasks", part: task.retryOf })}>{task.retryOf}</a>}</Entry>
          <Entry name="Reused from">{task.reusedFrom && <a href={formatPlace({ screen: "tasks", part: task.reusedFrom })}>{task.reusedFrom}</a>}</Entry>
          <Entry name="Trace">{task.traceParent.split("-")[1] ?? ""}</Entry>
          <Entry name="Callback">{task.callback?.url}</Entry>
          {Object.entries(task.metadata).map(([key, value]) => (
            <Entry key={key} name={key}>
              {value}
            </Entry>
          ))}
        </dl>
      </section>
      <Used task={task} />
      {task.result.case === "output" && (
        <section class="card">
          <h2>Output</h2>
          <Json value={outputJson(task.result.value) ?? { typeUrl: task.result.value.typeUrl }} />
        </section>
      )}
      <Known task={task} />
    </aside>
  );
}

function Used({ task }: { task: Task }): JSX.Element | null {
  const { usage, quality } = task;
  if (usage === undefined && quality === undefined) return null;
  return (
    <section class="card">
      <h2>Used</h2>
      <dl class="facts-list">
        {usage !== undefined && (
          <>
            <Entry name="Waited">{span(usage.queueSeconds)}</Entry>
            {usage.modelLoadSeconds > 0 && <Entry name="Loaded models">{span(usage.modelLoadSeconds)}</Entry>}
            <Entry name="Ran">{span(usage.runSeconds)}</Entry>
            {usage.stepSeconds !== undefined && <Entry name="Steps">{span(usage.stepSeconds)}</Entry>}
            {usage.encodeSeconds !== undefined && <Entry name="Encoding">{span(usage.encodeSeconds)}</Entry>}
            {usage.gpuSeconds > 0 && <Entry name="Device held">{span(usage.gpuSeconds)}</Entry>}
            {usage.peakVramBytes > 0n && <Entry name="Device memory">{bytes(usage.peakVramBytes, { binary: true })}</Entry>}
            {usage.peakRssBytes > 0n && <Entry name="Memory">{bytes(usage.peakRssBytes, { binary: true })}</Entry>}
            {usage.tokens > 0n && <Entry name="Tokens">{count(usage.tokens)}</Entry>}
          </>
        )}
        {quality !== undefined && (
          <>
            <Entry name="Quality">
              {quality.score.toFixed(3)} <span class="muted">{quality.measure}</span>
            </Entry>
            {Object.entries(quality.parts).map(([name, score]) => (
              <Entry key={name} name={name}>
                {score.toFixed(3)}
              </Entry>
            ))}
          </>
        )}
      </dl>
    </section>
  );
}

/** What the plane knew that bears on the task. */
function Known({ task }: { task: Task }): JSX.Element | null {
  const { context } = task;
  if (context === undefined || context.knowledge.length + context.similarTasks.length === 0) return null;
  return (
    <section class="card">
      <h2>What was known</h2>
      <ul class="known">
        {context.knowledge.map((each) => (
          <li key={each.source}>
            <span class="muted">{each.source}</span> {each.text}
          </li>
        ))}
        {context.similarTasks.map((each) => (
          <li key={each.taskId}>
            <a href={formatPlace({ screen: "tasks", part: each.taskId })}>{each.text || each.taskId}</a> <span class="muted">{each.status}</span>
          </li>
        ))}
      </ul>
    </section>
  );
}

function Json({ value }: { value: unknown }): JSX.Element {
  return <pre class="code" tabIndex={0}>{JSON.stringify(value ?? {}, null, 2)}</pre>;
}

function Time({ name, of }: { name: string; of: number | undefined }): JSX.Element | null {
  return of === undefined ? null : <Entry name={name}>{clock(of, { now: now.value, exact: true })}</Entry>;
}

function Entry({ name, children }: { name: string; children: ComponentChildren }): JSX.Element | null {
  if (children === undefined || children === "") return null;
  return (
    <>
      <dt>{name}</dt>
      <dd class="number">{children}</dd>
    </>
  );
}
