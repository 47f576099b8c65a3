import assert from "node:assert/strict";
import { test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";

import { Newest } from "../src/task/newest.ts";

/** What is loaded when the test says so; "" for what is not there. */
class Loading {
  readonly asked: string[] = [];
  readonly shown: string[] = [];
  #arrive: (content: string | undefined) => void = () => undefined;
  readonly newest = new Newest<string>(
    (address) => {
      this.asked.push(address);
      return new Promise((resolve) => (this.#arrive = resolve));
    },
    (content) => this.shown.push(content),
  );

  async arrive(content: string): Promise<void> {
    this.#arrive(content === "" ? undefined : content);
    await turn();
  }
}

test("one is loaded at a time, and of what is asked meanwhile the newest", async () => {
  const loading = new Loading();
  for (const address of ["1", "2", "3", "3"]) loading.newest.ask(address);
  assert.deepEqual(loading.asked, ["1"]);
  await loading.arrive("one");
  assert.deepEqual([loading.asked, loading.shown], [["1", "3"], ["one"]]);
  await loading.arrive("three");
  loading.newest.ask("3");
  loading.newest.ask("4");
  assert.deepEqual([loading.asked, loading.shown], [["1", "3", "4"], ["one", "three"]]);
});

test("what is not there any more is not shown, and the next one is", async () => {
  const loading = new Loading();
  loading.newest.ask("1");
  await loading.arrive("");
  loading.newest.ask("2");
  await loading.arrive("two");
  assert.deepEqual(loading.shown, ["two"]);
});
