import assert from "node:assert/strict";
import { test } from "node:test";

import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { durationFromMs, timestampFromMs } from "@bufbuild/protobuf/wkt";

import { FailureReason, TaskEventSchema, TaskState, type Task, type TaskEvent } from "../src/plane/contract.ts";
import { evolve } from "../src/tasks/fold.ts";

type EventInit = NonNullable<MessageInitShape<typeof TaskEventSchema>["event"]>;

function event(sequence: number, happened: EventInit): TaskEvent {
  return create(TaskEventSchema, {
    version: 1, taskId: "t", epoch: "e", sequence: BigInt(sequence), time: timestampFromMs(sequence * 1000), event: happened,
  });
}

const SUBMITTED = event(1, {
  case: "taskSubmitted",
  value: { project: "film", queue: "gpu", priority: 5, maxAttempts: 3, spec: { input: { case: "generateImage", value: { prompt: "kite" } } } },
});
const STARTED = event(2, { case: "attemptStarted", value: { attempt: 1, worker: "w", device: "cpu" } });

function fold(...events: TaskEvent[]): Task {
  let task: Task | undefined;
  for (const each of events) task = evolve(task, each);
  assert.ok(task);
  return task;
}

test("a submission makes a pending task, with the type that its spec names", () => {
  const task = fold(SUBMITTED);
  assert.equal(task.state, TaskState.PENDING);
  assert.equal(task.taskType, "generate_image");
  assert.equal(task.sequence, 1n);
});

test("a failed attempt makes the task wait for its time", () => {
  const failed = event(3, {
    case: "attemptFailed",
    value: { attempt: 1, failure: { reason: FailureReason.INTERNAL, message: "broke", retryable: true, retryDelay: durationFromMs(9_000) } },
  });
  const task = fold(SUBMITTED, STARTED, failed);
  assert.equal(task.state, TaskState.PENDING);
  assert.equal(task.endedAttempts.length, 1);
  assert.deepEqual(task.readyTime, timestampFromMs(12_000));
});

test("a task succeeds with its output, fails with its failure, or is cancelled", () => {
  const succeeded = fold(SUBMITTED, STARTED, event(3, { case: "taskSucceeded", value: { attempt: 1, output: { typeUrl: "x" } } }));
  assert.equal(succeeded.state, TaskState.SUCCEEDED);
  assert.equal(succeeded.result.case, "output");
  assert.deepEqual(succeeded.endTime, timestampFromMs(3000));
  const failed = fold(SUBMITTED, event(2, { case: "taskFailed", value: { failure: { reason: FailureReason.EXPIRED } } }));
  assert.equal(failed.result.case, "failure");
  const cancelled = fold(SUBMITTED, event(2, { case: "taskCancelled", value: { reason: "enough" } }));
  assert.equal(cancelled.state, TaskState.CANCELLED);
  assert.equal(cancelled.cancelReason, "enough");
});

test("a fact that was told before changes nothing, and one behind a gap is not believed", () => {
  const task = fold(SUBMITTED, STARTED);
  assert.equal(evolve(task, STARTED), task);
  assert.equal(evolve(task, event(5, { case: "cancelRequested", value: {} })), undefined);
  assert.equal(evolve(undefined, STARTED), undefined);
});

test("progress is of the running attempt alone", () => {
  const progress = event(2, { case: "progress", value: { current: 1, total: 4, percentage: 25 } });
  const running = fold(SUBMITTED, STARTED, progress);
  assert.equal(running.progress?.current, 1);
  const returned = fold(SUBMITTED, STARTED, progress, event(3, { case: "attemptReturned", value: { attempt: 1 } }));
  assert.equal(returned.progress, undefined);
  assert.equal(evolve(returned, progress), returned);
});

test("an event that is newer than the page is not folded, so that the task is read anew", () => {
  assert.equal(evolve(fold(SUBMITTED), event(2, { case: undefined } as EventInit)), undefined);
});

test("the newest state that was saved stays with the task, from attempt to attempt, until its end", () => {
  const saved = (sequence: number, step: number): TaskEvent => event(sequence, { case: "checkpointSaved", value: { attempt: 1, checkpoint: { key: "k", step, of: 50 } } });
  const returned = fold(SUBMITTED, STARTED, saved(3, 10), saved(4, 20), event(5, { case: "attemptReturned", value: { attempt: 1 } }));
  assert.deepEqual([returned.state, returned.checkpoint?.step], [TaskState.PENDING, 20]);
  const ended = evolve(returned, event(6, { case: "taskCancelled", value: { reason: "enough" } }));
  assert.equal(ended?.checkpoint, undefined);
});
