import assert from "node:assert/strict";
import { test } from "node:test";

import { create } from "@bufbuild/protobuf";
import { anyPack, durationFromMs, timestampFromMs } from "@bufbuild/protobuf/wkt";

import { GenerateImageOutputSchema } from "../gen/callsheet/tasks/v1/generate_image_pb.js";
import { endedOverTime, gridOf, readyOverTime, scaleTop, total } from "../src/now/series.ts";
import { ago, bytes, clock, counted, percent, span } from "../src/parts/format.ts";
import { GetPerformanceResponseSchema, TaskSchema } from "../src/plane/contract.ts";
import { formatPlace, parsePlace } from "../src/router.ts";
import { artifacts, outputJson } from "../src/task/output.ts";
import { byState, stripOf } from "../src/tasks/strip.ts";
import { MOST, Table } from "../src/tasks/table.ts";

test("lengths of time are short, and as wide as they are long", () => {
  assert.deepEqual([0, 0.0004, 0.24, 3.21, 59.96, 245, 7620, 277_200].map(span), [
    "0 ms", "0 ms", "240 ms", "3.2 s", "1 min 00 s", "4 min 05 s", "2 h 07 min", "3 d 5 h",
  ]);
});

test("sizes, shares and counts are as people read them", () => {
  assert.deepEqual([820, 3_400_000].map((size) => bytes(size)), ["820 B", "3.4 MB"]);
  assert.equal(bytes(24n * 1024n ** 3n, { binary: true }), "24.0 GiB");
  assert.deepEqual([0, 0.0001, 0.004, 0.12, 1].map(percent), ["0 %", "< 0.1 %", "0.4 %", "12 %", "100 %"]);
  assert.deepEqual([counted(1, "task"), counted(12_480, "task")], ["1 task", "12,480 tasks"]);
});

test("a moment is told by its time of day, and by its date when that is not today", () => {
  const moment = new Date(2030, 0, 31, 9, 5, 7, 42).getTime();
  assert.equal(clock(moment, { now: moment + 1000, exact: true }), "09:05:07.042");
  assert.equal(clock(moment, { now: moment + 200_000_000 }), "2030-01-31 09:05:07");
  assert.deepEqual([0, 12_000, 250_000].map((later) => ago(0, later)), ["now", "12 s", "4 min"]);
});

test("a place that is written reads back as it was, and an unknown one leads to the first screen", () => {
  const place = { screen: "tasks", part: "an id/with ?", query: { filter: 'state:failed meta.a:"b c"' } } as const;
  assert.deepEqual(parsePlace(formatPlace(place)), place);
  assert.equal(parsePlace("#/nowhere").screen, "now");
  assert.equal(parsePlace("#/tasks/%E0%A4%A").part, "%E0%A4%A");
});

test("artifacts are found wherever an output keeps them, and an unknown output has none", () => {
  const output = anyPack(GenerateImageOutputSchema, create(GenerateImageOutputSchema, { images: [{ key: "a" }, { key: "b" }], seed: 7n }));
  assert.deepEqual(artifacts(output).map((each) => each.key), ["a", "b"]);
  assert.deepEqual((outputJson(output) as { seed: string }).seed, "7");
  const unknown = { ...output, typeUrl: "type.googleapis.com/callsheet.tasks.v9.Newer" };
  assert.deepEqual(artifacts(unknown), []);
  assert.equal(outputJson(unknown), undefined);
});

test("a table keeps the newest first, and lets old final tasks go when it is full", () => {
  const table = new Table();
  for (let index = 0; index < MOST + 50; index += 1) {
    table.put(create(TaskSchema, { id: `t${index}`, state: index === 0 ? 1 : 3, createTime: timestampFromMs(index) }));
  }
  const all = table.select(() => true);
  assert.equal(all[0]?.id, `t${MOST + 49}`);
  table.put(create(TaskSchema, { id: "newest", createTime: timestampFromMs(10 ** 9) }));
  assert.equal(table.select(() => true)[0]?.id, "newest");
  assert.ok(table.size <= MOST);
  assert.ok(table.get("t0"), "a task that is not final stays");
  assert.equal(table.get("t1"), undefined);
});

test("what was counted is laid out over the whole window, with the buckets in which nothing was", () => {
  const answer = create(GetPerformanceResponseSchema, {
    startTime: timestampFromMs(0),
    endTime: timestampFromMs(180_000),
    bucketLength: durationFromMs(60_000),
    taskTypes: [
      { taskType: "a", total: { succeeded: 3n, failed: 1n }, buckets: [{ startTime: timestampFromMs(60_000), measures: { succeeded: 3n, failed: 1n } }] },
      { taskType: "b", total: { succeeded: 4n }, buckets: [{ startTime: timestampFromMs(60_000), measures: { succeeded: 4n } }] },
    ],
    queues: [{ name: "gpu", buckets: [{ startTime: timestampFromMs(120_000), measures: { meanReady: 2.5 } }] }],
  });
  const grid = gridOf(answer);
  assert.deepEqual(grid.starts, [0, 60_000, 120_000]);
  assert.deepEqual(endedOverTime(answer, grid).map((each) => [each.succeeded, each.failed]), [[0, 0], [7, 1], [0, 0]]);
  assert.deepEqual(answer.queues.map((queue) => readyOverTime(queue, grid)), [[undefined, undefined, 2.5]]);
  assert.deepEqual(total(answer), { ended: 8, failed: 1, failureRate: 0.125 });
  assert.deepEqual(gridOf(create(GetPerformanceResponseSchema)).starts, []);
});

test("the strip has a column for every stretch of time up to now, and every task in one", () => {
  const tasks = [0, 400, 1500, 61_000].map((time, index) => create(TaskSchema, { id: `t${index}`, state: index === 3 ? 2 : 4, createTime: timestampFromMs(time) }));
  const strip = stripOf(tasks, 70_000);
  assert.equal(strip.length, 1000);
  assert.equal(strip.columns.length, 71);
  assert.deepEqual([0, 1, 61].map((index) => [strip.columns[index]?.counts.failed, strip.columns[index]?.counts.running]), [[2, 0], [1, 0], [0, 1]]);
  assert.equal(strip.highest, 2);
  const year = stripOf([...tasks, create(TaskSchema, { createTime: timestampFromMs(365 * 86_400_000) })], 0);
  assert.ok(year.columns.length <= 90);
  const few = stripOf(tasks.slice(0, 2), 3000);
  assert.equal(few.columns.length, 60);
  assert.deepEqual([few.columns.at(-1)?.start, few.columns.at(-4)?.counts.failed], [3000, 2]);
  assert.deepEqual(stripOf([], 0).columns, []);
  assert.deepEqual(byState(tasks), { pending: 0, running: 1, succeeded: 0, failed: 3, cancelled: 0 });
});

test("a scale ends at a round number", () => {
  assert.deepEqual([0, 1, 3, 7, 12, 480, 5000].map(scaleTop), [1, 1, 5, 10, 20, 500, 5000]);
});
