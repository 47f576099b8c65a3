import assert from "node:assert/strict";
import { test } from "node:test";

import { ProgressPhase } from "../src/plane/contract.ts";
import { enter, type Stay } from "../src/task/phases.ts";

const { LOADING, STEPS, ENCODING, UNSPECIFIED } = ProgressPhase;

function stays(...told: (readonly [time: number, phase: ProgressPhase])[]): readonly Stay[] {
  return told.reduce<readonly Stay[]>((known, [time, phase]) => enter(known, { phase, time }), []);
}

test("a phase lasts from its first word to the first word of another one", () => {
  assert.deepEqual(stays([1, LOADING], [2, LOADING], [5, STEPS], [9, ENCODING]), [
    { phase: LOADING, from: 1, to: 5 },
    { phase: STEPS, from: 5, to: 9 },
    { phase: ENCODING, from: 9, to: undefined },
  ]);
});

test("what has no name ends a phase and is none itself, and a phase may come again", () => {
  assert.deepEqual(stays([0, UNSPECIFIED], [1, STEPS], [3, UNSPECIFIED], [4, UNSPECIFIED], [6, STEPS]), [
    { phase: STEPS, from: 1, to: 3 },
    { phase: STEPS, from: 6, to: undefined },
  ]);
});

test("however many there are, the newest are kept", () => {
  const many = stays(...Array.from({ length: 500 }, (_, index) => [index, index % 2 ? STEPS : ENCODING] as const));
  assert.equal(many.length, 100);
  assert.equal(many.at(-1)?.from, 499);
});
