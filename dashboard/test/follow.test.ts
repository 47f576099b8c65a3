import assert from "node:assert/strict";
import { test } from "node:test";

import { Code, ConnectError } from "@connectrpc/connect";

import { follow, wait, type Following } from "../src/plane/follow.ts";

interface Told {
  readonly seen: number[];
  readonly connections: string[];
  lost: number;
  refused: string;
}

/** Follow a script of streams: each tells numbers, and then ends, or breaks with an error. */
async function followed(...script: (readonly [numbers: readonly number[], end?: Code])[]): Promise<Told> {
  const told: Told = { seen: [], connections: [], lost: 0, refused: "" };
  const streams = script.values();
  const following: Following<number> = {
    async *open() {
      const [numbers, end] = streams.next().value ?? [[]];
      yield* numbers;
      if (end !== undefined) throw new ConnectError("so it is", end);
    },
    onResponse: (number) => told.seen.push(number),
    onConnection: (connection) => told.connections.push(connection),
    onLost: () => (told.lost += 1),
    onRefused: (error) => (told.refused = error.rawMessage),
  };
  await follow(following, new AbortController().signal, async () => undefined);
  return told;
}

test("a stream that breaks is opened again, and what it told is told on", async () => {
  const told = await followed([[1, 2], Code.Unavailable], [[], Code.Unavailable], [[3]]);
  assert.deepEqual(told.seen, [1, 2, 3]);
  assert.deepEqual(told.connections.filter((each, index, all) => each !== all[index - 1]), ["connecting", "live", "broken", "live"]);
});

test("a place that is gone is forgotten before the stream is opened again", async () => {
  const told = await followed([[1], Code.DataLoss], [[9]]);
  assert.equal(told.lost, 1);
  assert.deepEqual(told.seen, [1, 9]);
});

test("a stream that never ends by itself is opened again when it does", async () => {
  const seen: number[] = [];
  const control = new AbortController();
  await follow(
    {
      async *open() {
        yield seen.length;
      },
      isEndless: true,
      onResponse: (number) => void (seen.push(number) === 3 && control.abort()),
      onConnection: () => undefined,
      onLost: () => assert.fail("nothing was lost"),
      onRefused: () => assert.fail("nothing was refused"),
    },
    control.signal,
    async () => undefined,
  );
  assert.deepEqual(seen, [0, 1, 2]);
});

test("what no further try mends ends it", async () => {
  const told = await followed([[1], Code.NotFound], [[2]]);
  assert.deepEqual(told.seen, [1]);
  assert.equal(told.refused, "so it is");
});

test("an aborted signal ends it at once", async () => {
  const control = new AbortController();
  control.abort();
  const nothing = (): never => assert.fail("nothing is to be told");
  await follow({ open: nothing, onResponse: nothing, onConnection: nothing, onLost: nothing, onRefused: nothing }, control.signal);
});

test("the wait grows with the failures, is spread, and has an end", () => {
  assert.equal(wait(1, 1), 250);
  assert.equal(wait(1, 0), 125);
  assert.equal(wait(3, 1), 1000);
  assert.equal(wait(1000, 1), 5000);
});
