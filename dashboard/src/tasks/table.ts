// Tasks by id and in order, newest first; when there are too many, the oldest final ones go.

import { millis } from "../parts/format.ts";
import type { Task } from "../plane/contract.ts";
import { isFinal } from "./states.ts";

/** As many tasks as a page keeps. */
export const MOST = 5000;

interface Entry {
  task: Task;
  /** When it was submitted, in milliseconds since 1970: numbers are compared often. */
  readonly time: number;
}

export class Table {
  readonly #entries = new Map<string, Entry>();
  /** Newest first. */
  #order: Entry[] = [];
  #added: Entry[] = [];

  get size(): number {
    return this.#entries.size;
  }

  get(id: string): Task | undefined {
    return this.#entries.get(id)?.task;
  }

  put(task: Task): void {
    const known = this.#entries.get(task.id);
    if (known !== undefined) {
      known.task = task;
      return;
    }
    const entry = { task, time: millis(task.createTime) ?? 0 };
    this.#entries.set(task.id, entry);
    this.#added.push(entry);
  }

  clear(): void {
    this.#entries.clear();
    this.#order = [];
    this.#added = [];
  }

  /** Return the tasks that the test holds for, newest first. */
  select(test: (task: Task) => boolean): Task[] {
    this.#sort();
    const found: Task[] = [];
    for (const { task } of this.#order) if (test(task)) found.push(task);
    return found;
  }

  /** Put what was added among what is in order already. */
  #sort(): void {
    if (this.#added.length === 0) return;
    const added = this.#added.toSorted(newestFirst);
    this.#added = [];
    const merged: Entry[] = [];
    let next = 0;
    for (const entry of this.#order) {
      for (let each = added[next]; each && newestFirst(each, entry) < 0; each = added[(next += 1)]) merged.push(each);
      merged.push(entry);
    }
    this.#order = merged.concat(added.slice(next));
    if (this.#order.length > MOST) this.#drop();
  }

  #drop(): void {
    let excess = this.#order.length - MOST;
    for (let index = this.#order.length - 1; index >= 0 && excess > 0; index -= 1) {
      const entry = this.#order[index];
      if (entry === undefined || !isFinal(entry.task.state)) continue;
      this.#entries.delete(entry.task.id);
      excess -= 1;
    }
    this.#order = this.#order.filter(({ task }) => this.#entries.has(task.id));
  }
}

function newestFirst(one: Entry, other: Entry): number {
  return other.time - one.time || (one.task.id < other.task.id ? 1 : -1);
}
