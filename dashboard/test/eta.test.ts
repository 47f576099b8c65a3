import assert from "node:assert/strict";
import { test } from "node:test";

import { estimate, observe, type Sample } from "../src/task/eta.ts";

function watched(...steps: (readonly [time: number, current: number])[]): readonly Sample[] {
  return steps.reduce<readonly Sample[]>((samples, [time, current]) => observe(samples, { time, current, total: 10 }), []);
}

test("two steps are needed to know how fast it is", () => {
  assert.equal(estimate(watched(), 0), undefined);
  assert.equal(estimate(watched([0, 1]), 0), undefined);
  assert.deepEqual(estimate(watched([0, 1], [1000, 2]), 1000), { seconds: 8, rate: 1 });
});

test("what is left shrinks between two steps, and never below nothing", () => {
  const samples = watched([0, 1], [1000, 2]);
  assert.equal(estimate(samples, 3000)?.seconds, 6);
  assert.equal(estimate(samples, 60_000)?.seconds, 0);
});

test("a newer pace weighs more than an older one", () => {
  const slower = estimate(watched([0, 1], [1000, 2], [6000, 3]), 6000);
  assert.ok(slower && slower.rate > 0.2 && slower.rate < 1);
});

test("a step back, or another total, begins anew", () => {
  assert.deepEqual(watched([0, 5], [1000, 2]), [{ time: 1000, current: 2, total: 10 }]);
  assert.equal(observe(watched([0, 5]), { time: 1, current: 6, total: 20 }).length, 1);
});

test("the same step told twice is one, and only so many are kept", () => {
  assert.equal(watched([0, 1], [1000, 1]).length, 1);
  const many = Array.from({ length: 500 }, (_, index) => ({ time: index, current: index, total: 1000 }));
  assert.ok(many.reduce<readonly Sample[]>(observe, []).length <= 40);
});

test("a total that nobody knows has no end", () => {
  const samples = [{ time: 0, current: 1, total: 0 }, { time: 1, current: 2, total: 0 }];
  assert.equal(estimate(samples, 1), undefined);
});
