import assert from "node:assert/strict";
import { test } from "node:test";

import { create } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";

import { ErrorInfoSchema } from "../gen/google/rpc/error_details_pb.js";
import { TaskSchema, type Task } from "../src/plane/contract.ts";
import { AT_ONCE, carryOut, refusals, type Tally } from "../src/tasks/bulk.ts";

const TASKS: readonly Task[] = Array.from({ length: 40 }, (_, index) => create(TaskSchema, { id: String(index) }));

interface Doing {
  readonly tallies?: Tally[];
  readonly stop?: AbortSignal;
}

async function carriedOut(act: (task: Task) => Promise<unknown>, { tallies = [], stop = new AbortController().signal }: Doing = {}): Promise<Tally> {
  return await carryOut(TASKS, act, { onTally: (tally) => tallies.push(tally), stop, rest: async () => undefined });
}

function refusal(code: Code, reason: string): ConnectError {
  return new ConnectError(`task 7 is ${reason}`, code, undefined, [{ desc: ErrorInfoSchema, value: { reason, domain: "callsheet.dev" } }]);
}

test("each task has its turn, a few at a time, and how far it is can be seen", async () => {
  const tallies: Tally[] = [];
  const seen: string[] = [];
  let [now, most] = [0, 0];
  const end = await carriedOut(async ({ id }) => {
    seen.push(id);
    most = Math.max(most, (now += 1));
    await new Promise(setImmediate);
    now -= 1;
  }, { tallies });
  assert.equal(most, AT_ONCE);
  assert.deepEqual(seen, TASKS.map(({ id }) => id));
  assert.deepEqual(end, { done: 40, total: 40, refused: [], isStopped: false });
  assert.deepEqual(tallies.map(({ done }) => done), TASKS.map((_, index) => index + 1));
});

test("refused ones are counted by reason, the most frequent first, and stop nothing", async () => {
  const end = await carriedOut(async ({ id }) => {
    if (Number(id) < 3) throw refusal(Code.NotFound, "TASK_NOT_FOUND");
    if (Number(id) < 8) throw refusal(Code.FailedPrecondition, "ILLEGAL_TRANSITION");
    if (id === "8") throw new ConnectError("no reason was given", Code.PermissionDenied);
  });
  assert.deepEqual(end.refused, [
    { reason: "illegal transition", count: 5 },
    { reason: "task not found", count: 3 },
    { reason: "permission denied", count: 1 },
  ]);
  assert.deepEqual([end.done, refusals(end)], [31, 9]);
});

test("however many reasons there are, few are told apart and none is left out", async () => {
  const end = await carriedOut(async ({ id }) => {
    throw refusal(Code.InvalidArgument, `REASON_${id}`);
  });
  assert.equal(end.refused.length, 9);
  assert.deepEqual(end.refused[0], { reason: "for other reasons", count: 32 });
  assert.equal(refusals(end), 40);
});

test("what passes is tried again, and given up in the end", async () => {
  const tries = new Map<string, number>();
  const end = await carriedOut(async ({ id }) => {
    const count = (tries.get(id) ?? 0) + 1;
    tries.set(id, count);
    if (id === "0" || count === 1) throw refusal(Code.Unavailable, "LEDGER_UNAVAILABLE");
  });
  assert.deepEqual(end.refused, [{ reason: "ledger unavailable", count: 1 }]);
  assert.deepEqual([tries.get("0"), tries.get("1")], [4, 2]);
});

test("once it is stopped nothing more is begun, and what is under way is counted", async () => {
  const control = new AbortController();
  let begun = 0;
  const end = await carriedOut(async () => {
    begun += 1;
    if (begun === AT_ONCE) control.abort();
    await new Promise(setImmediate);
  }, { stop: control.signal });
  assert.equal(begun, AT_ONCE);
  assert.deepEqual(end, { done: AT_ONCE, total: 40, refused: [], isStopped: true });
});
