// One wish for many tasks: how many it would be, and then one after the other, a few at a time.

import { create } from "@bufbuild/protobuf";

import { tasks as client } from "../plane/client.ts";
import { ListTasksRequestSchema, TaskState, type Task } from "../plane/contract.ts";
import { passes, problemOf } from "../plane/errors.ts";
import { pause, wait } from "../plane/follow.ts";
import { searchText } from "./about.ts";
import { matches, type Filter } from "./filter.ts";
import { isFinal, stateValue } from "./states.ts";

export type Wish = "cancel" | "retry";

/** As many tasks as one wish may be for. */
export const MOST = 1000;
/** As many pages as are looked through for them. */
const MOST_PAGES = 50;
const PAGE = 200;
const AT_ONCE = 4;
const MOST_TRIES = 4;

/** Whether the wish can be for the task as it is. */
export function fits(wish: Wish, task: Task): boolean {
  if (wish === "cancel") return !isFinal(task.state) && !task.cancelRequested;
  return task.state === TaskState.FAILED || task.state === TaskState.CANCELLED;
}

export interface Found {
  readonly tasks: readonly Task[];
  /** Whether there may be more than were looked through. */
  readonly isCut: boolean;
}

/** Find the tasks that the filter means and the wish can be for: at most MOST. */
export async function find(wish: Wish, { project, filter }: { project: string; filter: Filter }, signal: AbortSignal): Promise<Found> {
  const found: Task[] = [];
  for (const state of statesOf(wish, filter)) {
    let pageToken = "";
    for (let page = 0; page < MOST_PAGES; page += 1) {
      const response = await client.listTasks(
        create(ListTasksRequestSchema, {
          project, state, pageToken, pageSize: PAGE,
          taskType: filter.types.length === 1 ? (filter.types[0] ?? "") : "",
        }),
        { signal },
      );
      found.push(...response.tasks.filter((task) => fits(wish, task) && matches(filter, task, () => searchText(task))));
      if (found.length >= MOST) return { tasks: found.slice(0, MOST), isCut: true };
      pageToken = response.nextPageToken;
      if (pageToken === "") break;
    }
    if (pageToken !== "") return { tasks: found, isCut: true };
  }
  return { tasks: found, isCut: false };
}

export interface Tally {
  readonly done: number;
  readonly refused: number;
  readonly total: number;
  /** Why the first refused one was. */
  readonly problem: string;
}

/** Carry the wish out for each task; what passes is tried again, and a refused one does not stop the rest. */
export async function carryOut(wish: Wish, tasks: readonly Task[], onTally: (tally: Tally) => void, signal: AbortSignal): Promise<Tally> {
  let tally: Tally = { done: 0, refused: 0, total: tasks.length, problem: "" };
  const waiting = [...tasks];
  async function work(): Promise<void> {
    for (let task = waiting.shift(); task !== undefined && !signal.aborted; task = waiting.shift()) {
      const problem = await one(wish, task, signal);
      tally = problem === ""
        ? { ...tally, done: tally.done + 1 }
        : { ...tally, refused: tally.refused + 1, problem: tally.problem || problem };
      onTally(tally);
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  return tally;
}

async function one(wish: Wish, task: Task, signal: AbortSignal): Promise<string> {
  // A retry that is repeated after a lost answer is the same task.
  const requestId = `dashboard-${crypto.randomUUID()}`;
  for (let tries = 1; ; tries += 1) {
    try {
      if (wish === "cancel") await client.cancelTask({ taskId: task.id, reason: "cancelled in the dashboard" }, { signal });
      else await client.retryTask({ taskId: task.id, requestId }, { signal });
      return "";
    } catch (thrown) {
      const problem = problemOf(thrown);
      if (signal.aborted || tries >= MOST_TRIES || !passes(thrown)) return problem.message;
      await pause(Math.max(wait(tries), problem.retryAfter ?? 0), signal);
    }
  }
}

/** The states to look through: those of the filter that the wish can be for. */
function statesOf(wish: Wish, filter: Filter): readonly TaskState[] {
  const possible = wish === "cancel" ? [TaskState.PENDING, TaskState.RUNNING] : [TaskState.FAILED, TaskState.CANCELLED];
  const meant = filter.states.map(stateValue);
  return meant.length === 0 ? possible : possible.filter((state) => meant.includes(state));
}
