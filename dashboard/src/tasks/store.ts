// The tasks the page knows, kept current by one stream; what comes between two frames is shown at once in the next.

import { create } from "@bufbuild/protobuf";
import { signal } from "@preact/signals";

import { tasks as client } from "../plane/client.ts";
import {
  ListTasksRequestSchema,
  TaskState,
  WatchTasksRequestSchema,
  type Task,
  type WatchTasksResponse,
} from "../plane/contract.ts";
import { sentence } from "../plane/errors.ts";
import { follow, type Connection } from "../plane/follow.ts";
import type { Filter } from "./filter.ts";
import { evolve } from "./fold.ts";
import { isFinal, stateValue } from "./states.ts";
import { Table } from "./table.ts";

/** How many tasks the stream begins with. */
const SNAPSHOT = 1000;
/** How many tasks of a page of older ones. */
const PAGE = 200;
/** How many tasks are read at once after an event of one that is not known. */
const READERS = 4;
/** How many such tasks wait to be read; of more, the oldest are passed over. */
const LONGEST_WANTED = 400;

/** The name of the mark that each batch of responses leaves in the browser's performance timeline. */
const APPLIED = "callsheet.tasks.applied";

/** What of a filter the server can know. */
export interface Scope {
  readonly project: string;
  readonly filter: Filter;
}

export class TaskStore {
  readonly table = new Table();
  /** Grows whenever what is shown has changed. */
  readonly version = signal(0);
  readonly connection = signal<Connection>("connecting");
  /** Whether there are older tasks that were not read. */
  readonly hasMore = signal(false);
  readonly loading = signal(true);
  /** Why nothing more comes; "" while something does. */
  readonly problem = signal("");

  readonly #scope: Scope;
  #cursor = "";
  #pending: WatchTasksResponse[] = [];
  #frame = 0;
  #olderToken: string | undefined = "";
  readonly #wanted = new Set<string>();
  #readers = 0;

  constructor(scope: Scope) {
    this.#scope = scope;
  }

  /** Follow the tasks until the signal is aborted; begun again, it goes on from where it was. */
  async follow(until: AbortSignal): Promise<void> {
    this.problem.value = "";
    await follow(
      {
        open: (signal, onHeader) => client.watchTasks(this.#request(), { signal, onHeader, timeoutMs: 0 }),
        onResponse: (response) => this.#take(response),
        onConnection: (connection) => (this.connection.value = connection),
        onLost: () => this.#forget(),
        isEndless: true,
        onRefused: (error) => (this.problem.value = sentence(error)),
      },
      until,
    );
  }

  /** Read one more page of older tasks. */
  async loadOlder(): Promise<void> {
    if (this.loading.value || this.#olderToken === undefined) return;
    this.loading.value = true;
    try {
      const { states, types } = this.#scope.filter;
      const response = await client.listTasks(
        create(ListTasksRequestSchema, {
          project: this.#scope.project,
          state: states.length === 1 && states[0] ? stateValue(states[0]) : TaskState.UNSPECIFIED,
          taskType: types.length === 1 ? (types[0] ?? "") : "",
          pageSize: PAGE,
          pageToken: this.#olderToken,
        }),
      );
      for (const task of response.tasks) if (!this.table.get(task.id)) this.table.put(task);
      this.#olderToken = response.nextPageToken || undefined;
      this.hasMore.value = this.#olderToken !== undefined;
      this.version.value += 1;
    } catch (thrown) {
      this.problem.value = sentence(thrown);
    } finally {
      this.loading.value = false;
    }
  }

  /** Take a task as an answer of the server has it. */
  put(task: Task): void {
    this.#keep(task);
    this.version.value += 1;
  }

  #request(): ReturnType<typeof create<typeof WatchTasksRequestSchema>> {
    const { states, types, ids } = this.#scope.filter;
    return create(WatchTasksRequestSchema, {
      project: this.#scope.project,
      cursor: this.#cursor,
      states: states.map(stateValue),
      taskTypes: [...types],
      taskIds: ids.slice(0, 256),
      snapshotSize: SNAPSHOT,
    });
  }

  #take(response: WatchTasksResponse): void {
    this.#pending.push(response);
    if (this.#frame !== 0) return;
    // Frames stop while a page is hidden, and what comes meanwhile must not pile up.
    if (document.hidden) this.#frame = window.setTimeout(() => this.#apply(), 500);
    else this.#frame = requestAnimationFrame(() => this.#apply());
  }

  #apply(): void {
    const responses = this.#pending;
    this.#pending = [];
    this.#frame = 0;
    for (const response of responses) this.#applyOne(response);
    this.version.value += 1;
    // For whoever observes the page: how much each drawing was of. It is not kept.
    performance.mark(APPLIED, { detail: { responses: responses.length } });
    performance.clearMarks(APPLIED);
  }

  #applyOne(response: WatchTasksResponse): void {
    if (response.snapshot) this.#keep(response.snapshot);
    if (response.snapshotEnd) {
      this.hasMore.value = response.snapshotEnd.hasMore;
      this.loading.value = false;
    }
    if (response.event) {
      const event = response.event;
      const task = evolve(this.table.get(event.taskId), event);
      if (task) this.table.put(task);
      else if (event.event.case !== "progress") this.#want(event.taskId);
    }
    if (response.cursor !== "") this.#cursor = response.cursor;
  }

  /** Take a task unless a newer form of it is known. */
  #keep(task: Task): void {
    const known = this.table.get(task.id);
    if (known && known.epoch === task.epoch && known.sequence > task.sequence) return;
    const goesOn = known?.progress && !task.progress && !isFinal(task.state);
    this.table.put(goesOn && known.attempt === task.attempt ? { ...task, progress: known.progress! } : task);
  }

  #forget(): void {
    this.#cursor = "";
    this.#pending = [];
    this.#olderToken = "";
    this.table.clear();
    this.loading.value = true;
    this.version.value += 1;
  }

  #want(id: string): void {
    this.#wanted.add(id);
    const [oldest] = this.#wanted;
    if (this.#wanted.size > LONGEST_WANTED && oldest !== undefined) this.#wanted.delete(oldest);
    if (this.#readers < READERS) void this.#readWanted();
  }

  async #readWanted(): Promise<void> {
    this.#readers += 1;
    try {
      for (const id of this.#wanted) {
        this.#wanted.delete(id);
        const { task } = await client.getTask({ taskId: id });
        if (task) this.put(task);
      }
    } catch {
      // Whatever is newer comes with its own event; a lost read costs one row until then.
    } finally {
      this.#readers -= 1;
    }
  }
}
