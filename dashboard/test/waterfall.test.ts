import assert from "node:assert/strict";
import { test } from "node:test";

import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { durationFromMs, timestampFromMs } from "@bufbuild/protobuf/wkt";

import { DeliverySchema, DeliveryState, FailureReason, ProgressPhase, TaskEventSchema, TaskReadingSchema, TaskSchema, type TaskEvent } from "../src/plane/contract.ts";
import { waterfall } from "../src/task/waterfall.ts";

type EventInit = NonNullable<MessageInitShape<typeof TaskEventSchema>["event"]>;

function at(milliseconds: number, happened: EventInit): TaskEvent {
  return create(TaskEventSchema, { time: timestampFromMs(milliseconds), event: happened });
}

const SUBMITTED = at(1000, { case: "taskSubmitted", value: {} });
const STARTED = at(1500, { case: "attemptStarted", value: { attempt: 1, worker: "w", device: "cuda:0" } });
const NOTHING = { task: undefined, deliveries: [] };

test("before the first fact there is no waterfall", () => {
  assert.equal(waterfall({ facts: [], ...NOTHING }, 0), undefined);
});

test("a task that waits has one open bar, up to now", () => {
  const chart = waterfall({ facts: [SUBMITTED], ...NOTHING }, 4000);
  assert.deepEqual(chart, { from: 1000, to: 4000, spans: [{ kind: "queued", label: "Queued", from: 1000, to: undefined }] });
});

test("an attempt that succeeded is split as its usage says", () => {
  const task = create(TaskSchema, { usage: { modelLoadSeconds: 1, runSeconds: 2 } });
  const facts = [SUBMITTED, STARTED, at(4600, { case: "taskSucceeded", value: { attempt: 1 } })];
  const chart = waterfall({ facts, task, deliveries: [] }, 9000);
  assert.deepEqual(
    chart?.spans.map(({ kind, from, to }) => [kind, from, to]),
    [["queued", 1000, 1500], ["attempt", 1500, 4600], ["load", 1500, 2500], ["run", 2500, 4500]],
  );
  assert.equal(chart?.to, 4600);
});

test("usage that does not fit the attempt is not drawn", () => {
  const task = create(TaskSchema, { usage: { runSeconds: 60 } });
  const facts = [SUBMITTED, STARTED, at(4600, { case: "taskSucceeded", value: { attempt: 1 } })];
  assert.equal(waterfall({ facts, task, deliveries: [] }, 9000)?.spans.length, 2);
});

test("a failed attempt is followed by its back-off, and by the queue when nobody came", () => {
  const failed = at(2000, {
    case: "attemptFailed",
    value: { attempt: 1, failure: { reason: FailureReason.OUT_OF_MEMORY, retryDelay: durationFromMs(3000) } },
  });
  const again = at(6000, { case: "attemptStarted", value: { attempt: 2 } });
  const chart = waterfall({ facts: [SUBMITTED, STARTED, failed, again], ...NOTHING }, 7000);
  assert.deepEqual(
    chart?.spans.map(({ kind, from, to }) => [kind, from, to]),
    [["queued", 1000, 1500], ["attempt", 1500, 2000], ["backoff", 2000, 5000], ["queued", 5000, 6000], ["attempt", 6000, undefined]],
  );
  assert.equal(chart?.spans[1]?.failed, true);
  assert.equal(chart?.spans[1]?.detail, "out of memory");
});

test("deliveries stand below, from when they were recorded until they arrived", () => {
  const delivery = create(DeliverySchema, {
    event: "completed", tries: 2, lastStatus: 200, state: DeliveryState.DELIVERED,
    createTime: timestampFromMs(5000), endTime: timestampFromMs(5200),
  });
  const chart = waterfall({ facts: [SUBMITTED], task: undefined, deliveries: [delivery] }, 5000);
  assert.deepEqual(chart?.spans[1], {
    kind: "webhook", label: "Webhook completed", from: 5000, to: 5200, failed: false, detail: "2 tries, HTTP 200",
  });
});

test("steps and encoding stand where they can have been: steps after the load, encoding at the end", () => {
  const task = create(TaskSchema, { usage: { modelLoadSeconds: 1, runSeconds: 2, stepSeconds: 1.5, encodeSeconds: 0.25 } });
  const facts = [SUBMITTED, STARTED, at(4600, { case: "taskSucceeded", value: { attempt: 1 } })];
  const chart = waterfall({ facts, task, deliveries: [] }, 9000);
  assert.deepEqual(
    chart?.spans.slice(2).map(({ kind, from, to }) => [kind, from, to]),
    [["load", 1500, 2500], ["steps", 2500, 4000], ["encode", 4250, 4500]],
  );
});

test("while an attempt runs its progress says what it is at, phase by phase", () => {
  const stays = [
    { phase: ProgressPhase.LOADING, from: 1600, to: 2000 },
    { phase: ProgressPhase.STEPS, from: 2000, to: 3000 },
    { phase: ProgressPhase.ENCODING, from: 3100, to: 3200 },
    { phase: ProgressPhase.STEPS, from: 3300, to: undefined },
  ];
  const chart = waterfall({ facts: [SUBMITTED, STARTED], ...NOTHING, stays }, 4000);
  assert.deepEqual(
    chart?.spans.slice(1).map(({ kind, from, to, pieces }) => [kind, from, to, pieces?.length]),
    [["attempt", 1500, undefined, undefined], ["load", 1600, 2000, 1], ["steps", 2000, undefined, 2], ["encode", 3100, 3200, 1]],
  );
});

test("the brain has a bar when it is known how far it is, and none where it is not known when", () => {
  const facts = [SUBMITTED, STARTED, at(4600, { case: "taskSucceeded", value: { attempt: 1 } })];
  const bar = (reading: Parameters<typeof create<typeof TaskReadingSchema>>[1]): unknown[] | undefined => {
    const chart = waterfall({ facts, ...NOTHING, brain: create(TaskReadingSchema, reading) }, 9000);
    const found = chart?.spans.find(({ kind }) => kind === "brain");
    return found && [found.from, found.to, found.failed ?? false];
  };
  assert.deepEqual(bar({ isDone: true, doneTime: timestampFromMs(5000) }), [4600, 5000, false]);
  assert.deepEqual(bar({}), [4600, undefined, false]);
  assert.deepEqual(bar({ refusal: "too long" }), [4600, 4600, true]);
  assert.equal(bar({ isDone: true }), undefined);
});
