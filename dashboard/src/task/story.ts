// One task, followed: what it is, every fact of it, and how far it is now.

import { signal } from "@preact/signals";

import { operations, tasks as client } from "../plane/client.ts";
import { TaskState, type Delivery, type Progress, type Task, type TaskEvent, type WatchTaskResponse } from "../plane/contract.ts";
import { problemOf, sentence } from "../plane/errors.ts";
import { follow, pause, type Connection } from "../plane/follow.ts";
import { may } from "../plane/session.ts";
import { millis } from "../parts/format.ts";
import { evolve } from "../tasks/fold.ts";
import { isFinal } from "../tasks/states.ts";
import { observe, type Sample } from "./eta.ts";

/** How often a waiting task is asked why it waits, in milliseconds. */
const ASK_WHY = 2_000;
/** How often deliveries are asked for while one is under way. */
const ASK_DELIVERIES = 2_000;
/** How long until it is looked at again whether the task has been read. */
const SOON = 100;
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
  readonly deliveries = signal<readonly Delivery[]>([]);
  readonly connection = signal<Connection>("connecting");
  /** Whether the last fact has been told. */
  readonly isComplete = signal(false);
  /** Why there is nothing to show; "" while there may be. */
  readonly problem = signal("");

  constructor(id: string) {
    this.id = id;
  }

  /** Follow the task until the signal is aborted. */
  async follow(signal: AbortSignal): Promise<void> {
    await Promise.all([this.#followFacts(signal), this.#askWhy(signal), this.#askDeliveries(signal)]);
  }

  /** Read the task anew: after it was asked to stop, say. */
  async read(signal?: AbortSignal): Promise<void> {
    const { task } = await client.getTask({ taskId: this.id }, signal ? { signal } : {});
    const known = this.task.peek();
    if (task && (known === undefined || known.epoch !== task.epoch || known.sequence <= task.sequence)) this.task.value = task;
  }

  async #followFacts(until: AbortSignal): Promise<void> {
    await follow(
      {
        open: (signal, opened) => this.#open(signal, opened),
        onResponse: ({ event }) => event && this.#take(event),
        onConnection: (connection) => (this.connection.value = connection),
        onLost: () => this.#forget(),
        onRefused: (error) => (this.problem.value = sentence(error)),
      },
      until,
    );
    const last = this.facts.peek().at(-1)?.event.case;
    // What comes after the end, such as a document in the media library, is read with the task.
    if (!until.aborted && last !== undefined) this.isComplete.value = true;
  }

  async *#open(signal: AbortSignal, onHeader: () => void): AsyncIterable<WatchTaskResponse> {
    await this.read(signal);
    const known = this.facts.peek();
    const request = { taskId: this.id, afterSequence: known.at(-1)?.sequence ?? 0n, epoch: known.at(-1)?.epoch ?? "" };
    yield* client.watchTask(request, { signal, onHeader, timeoutMs: 0 });
    await this.read(signal);
  }

  #take(event: TaskEvent): void {
    if (event.event.case === "progress") this.#note(event.event.value, millis(event.time) ?? Date.now());
    else if (event.sequence > (this.facts.peek().at(-1)?.sequence ?? 0n)) {
      this.facts.value = [...this.facts.peek(), event];
      if (event.event.case === "attemptStarted") this.samples.value = [];
    }
    const task = evolve(this.task.peek(), event);
    if (task) this.task.value = task;
  }

  #note(progress: Progress, time: number): void {
    this.samples.value = observe(this.samples.peek(), { time, current: progress.current, total: progress.total });
    this.notes.value = [...this.notes.peek(), { time, progress }].slice(-MESSAGES);
  }

  #forget(): void {
    this.facts.value = [];
    this.notes.value = [];
    this.samples.value = [];
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
}

const FINAL_FACTS: ReadonlySet<string> = new Set(["taskSucceeded", "taskFailed", "taskCancelled"]);

function finalSequence(facts: readonly TaskEvent[]): bigint {
  return facts.find((fact) => FINAL_FACTS.has(fact.event.case ?? ""))?.sequence ?? 2n ** 63n;
}
