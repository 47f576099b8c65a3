// One task, followed: what it is, every fact of it, and how far it is now.

import { signal, type ReadonlySignal } from "@preact/signals";

import { operations, tasks as client } from "../plane/client.ts";
import { TaskState, type Delivery, type Progress, type Task, type TaskEvent, type TaskReading, type WatchTasksResponse } from "../plane/contract.ts";
import { problemOf, sentence } from "../plane/errors.ts";
import { follow, pause, type Connection } from "../plane/follow.ts";
import { may } from "../plane/session.ts";
import { millis } from "../parts/format.ts";
import { evolve } from "../tasks/fold.ts";
import { isFinal } from "../tasks/states.ts";
import { observe, type Sample } from "./eta.ts";
import { enter, type Stay } from "./phases.ts";

/** How often a waiting task is asked why it waits, in milliseconds. */
const ASK_WHY = 2_000;
/** How often deliveries are asked for while one is under way. */
const ASK_DELIVERIES = 2_000;
/** How often it is asked whether the brain has been told. */
const ASK_BRAIN = 2_000;
/** How long until it is looked at again whether the task has been read. */
const SOON = 100;
/** How long a task is followed after its end: the media library may take a minute, and is told of in a fact. */
const AFTERLIFE = 120_000;
/** The durable reader that tells the brain. */
const BRAIN = "brain";
/** As many messages of progress as are kept for the eye. */
const MESSAGES = 200;

/** What a message of progress said, and when. */
export interface Note {
  readonly time: number;
  readonly progress: Progress;
}

export class Story {
  readonly id: string;
  readonly task = signal<Task | undefined>(undefined);
  /** Every fact, in order, without gaps. */
  readonly facts = signal<readonly TaskEvent[]>([]);
  readonly notes = signal<readonly Note[]>([]);
  readonly samples = signal<readonly Sample[]>([]);
  /** What the running attempt was at, as far as this page was told. */
  readonly stays = signal<readonly Stay[]>([]);
  readonly deliveries = signal<readonly Delivery[]>([]);
  /** How far the brain is with the task; undefined: there is none, or nobody here may know. */
  readonly brain = signal<TaskReading | undefined>(undefined);
  readonly connection = signal<Connection>("connecting");
  /** Whether the last fact has been told. */
  readonly isComplete = signal(false);
  /** Why there is nothing to show; "" while there may be. */
  readonly problem = signal("");
  #cursor = "";
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(id: string) {
    this.id = id;
  }

  /** Follow the task until the signal is aborted. */
  async follow(signal: AbortSignal): Promise<void> {
    await Promise.all([this.#followFacts(signal), this.#askWhy(signal), this.#askDeliveries(signal), this.#askBrain(signal)]);
  }

  /** Read the task anew: after it was asked to stop, say. */
  async read(signal?: AbortSignal): Promise<void> {
    const { task } = await client.getTask({ taskId: this.id }, signal ? { signal } : {});
    if (task) this.#keep(task);
  }

  /** Follow the page's one stream, WatchTasks, of this task alone; what was before it is read page by page. */
  async #followFacts(until: AbortSignal): Promise<void> {
    const over = new AbortController();
    this.#timer = undefined;
    await follow(
      {
        open: (signal, opened) => this.#open(signal, opened, over),
        onResponse: (response) => this.#take(response),
        onConnection: (connection) => (this.connection.value = connection),
        onLost: () => this.#forget(),
        isEndless: true,
        onRefused: (error) => (this.problem.value = sentence(error)),
      },
      AbortSignal.any([until, over.signal]),
    );
  }

  async *#open(signal: AbortSignal, onHeader: () => void, over: AbortController): AsyncIterable<WatchTasksResponse> {
    await this.read(signal);
    await this.#readFacts(signal);
    // Behind the facts: the start of an attempt makes what was told of the one before void.
    const { progress, state } = this.task.peek() ?? {};
    if (progress && state === TaskState.RUNNING) this.#note(progress, millis(progress.updateTime) ?? Date.now());
    if (this.#endsBy(over)) return;
    const request = { project: this.task.peek()?.project ?? "", taskIds: [this.id], cursor: this.#cursor, snapshotSize: 1 };
    for await (const response of client.watchTasks(request, { signal, onHeader, timeoutMs: 0 })) {
      if (this.#isAhead(response)) await this.#readFacts(signal);
      yield response;
      this.#endsBy(over);
    }
  }

  /** Have it ended when the task has been over for long enough; return whether it has. */
  #endsBy(over: AbortController): boolean {
    const end = millis(this.task.peek()?.endTime);
    if (end === undefined) return false;
    const left = end + AFTERLIFE - Date.now();
    if (left <= 0) over.abort();
    else this.#timer ??= setTimeout(() => over.abort(), left);
    return left <= 0;
  }

  /** Whether facts between those that are known and what is told now were not told. */
  #isAhead({ snapshot, event }: WatchTasksResponse): boolean {
    if (snapshot) return snapshot.sequence > this.#known();
    return event !== undefined && event.event.case !== "progress" && event.sequence > this.#known() + 1n;
  }

  /** The sequence of the last fact that is known. */
  #known(): bigint {
    return this.facts.peek().at(-1)?.sequence ?? 0n;
  }

  async #readFacts(signal: AbortSignal): Promise<void> {
    for (let hasMore = true; hasMore; ) {
      const response = await client.listTaskEvents({ taskId: this.id, afterSequence: this.#known() }, { signal });
      for (const event of response.events) this.#takeEvent(event);
      hasMore = response.hasMore && response.events.length > 0;
    }
  }

  #take(response: WatchTasksResponse): void {
    if (response.snapshot) this.#keep(response.snapshot);
    if (response.event) this.#takeEvent(response.event);
    if (response.cursor !== "") this.#cursor = response.cursor;
  }

  /** Take the task unless as new a form of it is known: one that was told says less of why it waits. */
  #keep(task: Task): void {
    const known = this.task.peek();
    if (known !== undefined && known.epoch !== task.epoch) this.#forget();
    const isNewer = known === undefined || known.epoch !== task.epoch || task.sequence > known.sequence;
    if (isNewer || (task.sequence === known.sequence && task.waitReason !== 0)) this.task.value = task;
  }

  #takeEvent(event: TaskEvent): void {
    if (event.event.case === "progress") this.#note(event.event.value, millis(event.time) ?? Date.now());
    else if (event.sequence === this.#known() + 1n) {
      this.facts.value = [...this.facts.peek(), event];
      if (event.event.case === "attemptStarted") {
        this.samples.value = [];
        this.stays.value = [];
      }
      if (FINAL_FACTS.has(event.event.case ?? "")) this.isComplete.value = true;
    }
    const task = evolve(this.task.peek(), event);
    if (task) this.task.value = task;
  }

  #note(progress: Progress, time: number): void {
    const last = this.notes.peek().at(-1);
    if (last !== undefined && last.time >= time) return; // told before, with the task
    this.samples.value = observe(this.samples.peek(), { time, current: progress.current, total: progress.total });
    this.stays.value = enter(this.stays.peek(), { phase: progress.phase, time });
    this.notes.value = [...this.notes.peek(), { time, progress }].slice(-MESSAGES);
  }

  #forget(): void {
    this.#cursor = "";
    this.facts.value = [];
    this.notes.value = [];
    this.samples.value = [];
    this.stays.value = [];
    this.isComplete.value = false;
    this.brain.value = undefined;
    this.task.value = undefined;
  }

  /** Why a task waits, and behind how many, moves without any fact. */
  async #askWhy(until: AbortSignal): Promise<void> {
    while (!until.aborted && !this.isComplete.peek()) {
      await pause(ASK_WHY, until);
      if (until.aborted || this.task.peek()?.state !== TaskState.PENDING) continue;
      await this.read(until).catch(() => undefined); // the stream tells of outages
    }
  }

  async #askDeliveries(until: AbortSignal): Promise<void> {
    if (!may.peek().operate) return;
    while (!until.aborted) {
      const task = this.task.peek();
      try {
        if (task?.callback) {
          const { deliveries } = await operations.listDeliveries({ taskId: this.id, pageSize: 200 }, { signal: until });
          this.deliveries.value = deliveries;
          if (isFinal(task.state) && deliveries.some((each) => each.sequence >= finalSequence(this.facts.peek())) && deliveries.every((each) => each.endTime)) return;
        } else if (task !== undefined && isFinal(task.state)) return;
      } catch (thrown) {
        if (until.aborted) return;
        await pause(problemOf(thrown).retryAfter ?? 0, until);
      }
      await pause(task === undefined ? SOON : ASK_DELIVERIES, until);
    }
  }

  /** When the brain had been told of the end; media that are registered later are another fact, and told too. */
  async #askBrain(until: AbortSignal): Promise<void> {
    if (!may.peek().operate) return;
    await became(this.isComplete, until);
    while (!until.aborted) {
      try {
        const { readers } = await operations.listLogReaders({ taskId: this.id }, { signal: until });
        const brain = readers.find((reader) => reader.name === BRAIN)?.task;
        this.brain.value = brain;
        if (brain === undefined || brain.isDone || brain.refusal !== "") return;
      } catch (thrown) {
        if (until.aborted) return;
        await pause(problemOf(thrown).retryAfter ?? 0, until);
      }
      await pause(ASK_BRAIN, until);
    }
  }
}

/** Wait until it is true, or the signal is aborted. */
async function became(condition: ReadonlySignal<boolean>, until: AbortSignal): Promise<void> {
  await new Promise<void>((resolve) => {
    const stop = condition.subscribe((isSo) => isSo && resolve());
    until.addEventListener("abort", () => (stop(), resolve()), { once: true });
    if (until.aborted) resolve();
  });
}

const FINAL_FACTS: ReadonlySet<string> = new Set(["taskSucceeded", "taskFailed", "taskCancelled"]);

function finalSequence(facts: readonly TaskEvent[]): bigint {
  return facts.find((fact) => FINAL_FACTS.has(fact.event.case ?? ""))?.sequence ?? 2n ** 63n;
}
