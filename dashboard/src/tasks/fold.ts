// What facts and signals make of a task: the browser's copy of the ledger's evolve.

import { create } from "@bufbuild/protobuf";
import { timestampDate, timestampFromMs, type Duration, type Timestamp } from "@bufbuild/protobuf/wkt";

import { EndedAttemptSchema, TaskSchema, TaskState, type Task, type TaskEvent } from "../plane/contract.ts";

/** As many ended attempts as the ledger keeps with a task. */
const ENDED_ATTEMPTS_KEPT = 8;

/**
 * Return the task after the event; the same object if the event says nothing new.
 *
 * Without a task only a TaskSubmitted makes one; anything else returns undefined: read the task anew.
 */
export function evolve(task: Task | undefined, event: TaskEvent): Task | undefined {
  if (event.event.case === "progress") return task && progressed(task, event);
  if (event.event.case === "taskSubmitted") return task ?? submitted(event);
  if (task === undefined || event.event.case === undefined) return undefined;
  if (event.sequence <= task.sequence) return task;
  if (event.sequence > task.sequence + 1n) return undefined; // a gap: what was between is not known
  return { ...task, ...change(task, event), sequence: event.sequence, ...at("updateTime", event.time) };
}

function progressed(task: Task, event: TaskEvent): Task {
  if (event.event.case !== "progress" || task.state !== TaskState.RUNNING) return task;
  // A signal says after which fact it came: one of an earlier attempt tells nothing of this one.
  if (event.sequence < task.sequence) return task;
  return { ...task, progress: event.event.value };
}

function submitted(event: TaskEvent): Task | undefined {
  if (event.event.case !== "taskSubmitted") return undefined;
  const { project, spec, queue, priority, maxAttempts, metadata, callback, traceParent, retryOf, delay, expireAfter } =
    event.event.value;
  const arm = spec?.input.case ?? "";
  return create(TaskSchema, {
    id: event.taskId,
    epoch: event.epoch,
    sequence: event.sequence,
    state: TaskState.PENDING,
    taskType: arm.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`),
    project, queue, priority, maxAttempts, metadata, traceParent, retryOf,
    ...(spec && { spec }),
    ...(callback && { callback }),
    ...at("createTime", event.time),
    ...at("updateTime", event.time),
    ...at("readyTime", after(event.time, delay)),
    ...at("expireTime", after(event.time, expireAfter)),
  });
}

function change(task: Task, event: TaskEvent): Partial<Task> {
  const fact = event.event;
  switch (fact.case) {
    case "attemptStarted":
      return {
        state: TaskState.RUNNING,
        attempt: fact.value.attempt,
        worker: fact.value.worker,
        ...at("startTime", event.time),
        ...NOTHING_KNOWN,
      };
    case "attemptFailed": {
      const { attempt, failure } = fact.value;
      const ended = create(EndedAttemptSchema, {
        attempt,
        ...(failure && { failure }),
        ...at("endTime", event.time),
      });
      return {
        state: TaskState.PENDING,
        endedAttempts: [...task.endedAttempts, ended].slice(-ENDED_ATTEMPTS_KEPT),
        ...at("readyTime", after(event.time, failure?.retryDelay)),
        ...NOTHING_KNOWN,
      };
    }
    case "attemptReturned":
      return { state: TaskState.PENDING, ...NOTHING_KNOWN };
    case "cancelRequested":
      return { cancelRequested: true, cancelReason: fact.value.reason };
    case "contextRetrieved":
      return fact.value.context ? { context: fact.value.context } : {};
    case "checkpointSaved":
      return fact.value.checkpoint ? { checkpoint: fact.value.checkpoint } : {};
    case "mediaRegistered":
      return { media: [...task.media, ...fact.value.media] };
    default:
      return ended(event);
  }
}

function ended(event: TaskEvent): Partial<Task> {
  const end = { ...NOTHING_KEPT, ...at("endTime", event.time) };
  switch (event.event.case) {
    case "taskSucceeded": {
      const { output, usage, quality, reusedFrom } = event.event.value;
      return {
        state: TaskState.SUCCEEDED,
        result: output ? { case: "output", value: output } : { case: undefined },
        ...(usage && { usage }),
        ...(quality && { quality }),
        reusedFrom,
        ...end,
      };
    }
    case "taskFailed": {
      const { failure } = event.event.value;
      return {
        state: TaskState.FAILED,
        result: failure ? { case: "failure", value: failure } : { case: undefined },
        ...end,
      };
    }
    case "taskCancelled":
      return {
        state: TaskState.CANCELLED,
        cancelRequested: true,
        cancelReason: event.event.value.reason,
        ...end,
      };
    default:
      return {};
  }
}

/** What a new attempt, or the wait for one, knows of the attempt before: not why it waits, nor how far it is. */
const NOTHING_KNOWN = { waitReason: 0, progress: undefined, queuePosition: undefined } as unknown as Partial<Task>;

/** A task that ended is gone on with by nobody. */
const NOTHING_KEPT = { checkpoint: undefined } as unknown as Partial<Task>;

type TimeOf = "createTime" | "updateTime" | "startTime" | "endTime" | "readyTime" | "expireTime";

function at<Name extends TimeOf>(name: Name, time: Timestamp | undefined): { [Key in Name]?: Timestamp } {
  return (time ? { [name]: time } : {}) as { [Key in Name]?: Timestamp };
}

function after(time: Timestamp | undefined, delay: Duration | undefined): Timestamp | undefined {
  if (time === undefined || delay === undefined) return undefined;
  const wait = Number(delay.seconds) * 1000 + delay.nanos / 1e6;
  return wait > 0 ? timestampFromMs(timestampDate(time).getTime() + wait) : undefined;
}
