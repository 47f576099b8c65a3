import assert from "node:assert/strict";
import { test } from "node:test";

import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";

import { TaskEventSchema, type TaskEvent } from "../src/plane/contract.ts";
import { savedWords, statesGiven } from "../src/task/checkpoints.ts";
import { waterfall } from "../src/task/waterfall.ts";

type EventInit = NonNullable<MessageInitShape<typeof TaskEventSchema>["event"]>;

/** Return the facts, one a second. */
function facts(...happened: EventInit[]): TaskEvent[] {
  return happened.map((event, index) => create(TaskEventSchema, { sequence: BigInt(index + 1), time: timestampFromMs((index + 1) * 1000), event }));
}

const SUBMITTED: EventInit = { case: "taskSubmitted", value: {} };

function started(attempt: number): EventInit {
  return { case: "attemptStarted", value: { attempt, worker: "w", device: "cpu" } };
}

function saved(attempt: number, step: number): EventInit {
  return { case: "checkpointSaved", value: { attempt, checkpoint: { key: `${step}`, step, of: 50, sizeBytes: 1_200_000n } } };
}

function failed(attempt: number): EventInit {
  return { case: "attemptFailed", value: { attempt } };
}

function given(...happened: EventInit[]): (readonly [number, number])[] {
  return [...statesGiven(facts(SUBMITTED, ...happened))].map(([attempt, { step }]) => [attempt, step]);
}

test("an attempt is given the newest state that was saved before it", () => {
  assert.deepEqual(given(started(1), saved(1, 10), saved(1, 20), failed(1), started(2)), [[2, 20]]);
  assert.deepEqual(given(started(1), saved(1, 10), { case: "attemptReturned", value: { attempt: 1 } }, started(2)), [[2, 10]]);
  assert.deepEqual(given(started(1), failed(1), started(2)), []);
});

test("a state that an attempt was given, and failed without saving a newer one, is not given again", () => {
  const twice = [started(1), saved(1, 10), failed(1), started(2)];
  assert.deepEqual(given(...twice, failed(2), started(3)), [[2, 10]]);
  assert.deepEqual(given(...twice, saved(2, 20), failed(2), started(3)), [[2, 10], [3, 20]]);
});

test("the bar of an attempt is marked where its state was saved, and where it was given one", () => {
  const told = facts(SUBMITTED, started(1), saved(1, 10), saved(1, 20), failed(1), started(2), saved(2, 30));
  const chart = waterfall({ facts: told, task: undefined, deliveries: [] }, 9000);
  const marks = chart?.spans.filter(({ kind }) => kind === "attempt").map((span) => span.marks?.map(({ kind, time, label }) => [kind, time, label]));
  assert.equal(waterfall({ facts: told, task: undefined, deliveries: [] }, 6500)?.to, 7000, "no mark stands behind the end");
  assert.deepEqual(marks, [
    [
      ["saved", 3000, "state saved behind step 10 of 50, 1.2 MB"],
      ["saved", 4000, "state saved behind step 20 of 50, 1.2 MB"],
    ],
    [
      ["given", 6000, "given the state behind step 20 of 50"],
      ["saved", 7000, "state saved behind step 30 of 50, 1.2 MB"],
    ],
  ]);
});

test("of several renderings it is told which one was saved", () => {
  const { event } = create(TaskEventSchema, { event: { case: "checkpointSaved", value: { checkpoint: { step: 3, of: 4, part: 1, sizeBytes: 80n } } } });
  assert.ok(event.case === "checkpointSaved" && event.value.checkpoint);
  assert.equal(savedWords(event.value.checkpoint), "state saved behind step 3 of 4 of rendering 2, 80 B");
});
