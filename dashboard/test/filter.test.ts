import assert from "node:assert/strict";
import { test } from "node:test";

import { create } from "@bufbuild/protobuf";

import { TaskSchema, TaskState } from "../src/plane/contract.ts";
import { searchText } from "../src/tasks/about.ts";
import { EVERYTHING, formatFilter, matches, parseFilter, toggleState } from "../src/tasks/filter.ts";

const task = create(TaskSchema, {
  id: "0b9a6a4e-0000-4000-8000-000000000001",
  state: TaskState.FAILED,
  taskType: "generate_image",
  queue: "gpu",
  metadata: { shot: "12", scene: "the pier" },
  spec: { input: { case: "generateImage", value: { prompt: "A Lighthouse at dusk" } } },
});

function means(text: string): boolean {
  const { filter, problems } = parseFilter(text);
  assert.deepEqual(problems, []);
  return matches(filter, task, () => searchText(task));
}

test("nothing typed means everything", () => {
  assert.deepEqual(parseFilter("  "), { filter: EVERYTHING, problems: [] });
  assert.ok(means(""));
});

test("states, types, queues, metadata and words each narrow what is meant", () => {
  assert.ok(means("state:failed type:generate_image queue:gpu meta.shot:12 lighthouse"));
  assert.ok(!means("state:running"));
  assert.ok(means("state:running,failed"));
  assert.ok(!means("type:ping"));
  assert.ok(!means("meta.shot:13"));
  assert.ok(means('meta.scene:"the pier"'));
  assert.ok(!means("lighthouse kite"));
  assert.ok(means("LIGHT dusk"));
});

test("an id that is pasted alone is a filter by id", () => {
  assert.deepEqual(parseFilter(task.id).filter.ids, [task.id]);
  assert.ok(means(task.id.toUpperCase()));
});

test("what is not understood is told, and the rest still counts", () => {
  const { filter, problems } = parseFilter("state:lost colour:red type:ping");
  assert.equal(problems.length, 2);
  assert.match(problems[0] ?? "", /“lost” is no state/);
  assert.match(problems[1] ?? "", /“colour:” is not known/);
  assert.deepEqual(filter.types, ["ping"]);
});

test("a filter that is written reads back as it was", () => {
  for (const text of [
    "",
    "state:pending,failed type:ping,generate_image queue:gpu",
    'meta.scene:"the pier" meta.shot:12 meta.empty:""',
    'meta.odd:"say \\"cut\\" \\\\ now" "two words" plain',
    `id:${task.id} worker:w-1`,
  ]) {
    const { filter } = parseFilter(text);
    assert.deepEqual(parseFilter(formatFilter(filter)).filter, filter, text);
  }
});

test("a state is switched on and off, in the order of a task's life", () => {
  const on = toggleState(parseFilter("state:failed kite").filter, "running");
  assert.equal(formatFilter(on), "state:running,failed kite");
  assert.equal(formatFilter(toggleState(on, "failed")), "state:running kite");
});

test("more than anybody types is not read", () => {
  assert.ok(parseFilter("a ".repeat(100_000)).filter.words.length <= 1000);
});
