// What may be wished for many tasks at once, and which tasks a filter means by it.

import { create } from "@bufbuild/protobuf";

import { tasks as client } from "../plane/client.ts";
import { ListTasksRequestSchema, TaskState, type Task } from "../plane/contract.ts";
import { searchText } from "./about.ts";
import { matches, type Filter } from "./filter.ts";
import { isFinal, stateValue } from "./states.ts";

export type Wish = "cancel" | "retry";

/** As many tasks as one wish may be for. */
export const MOST = 10_000;
/** As many pages as are looked through for them, of each state. */
const MOST_PAGES = 500;
const PAGE = 200;

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

interface Meant {
  readonly project: string;
  readonly filter: Filter;
}

/** Find the tasks that the filter means and the wish can be for, at most MOST; *onFound* is told how many, page by page. */
export async function find(wish: Wish, meant: Meant, { signal, onFound }: { signal: AbortSignal; onFound: (count: number) => void }): Promise<Found> {
  const { project, filter } = meant;
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
      onFound(found.length);
      pageToken = response.nextPageToken;
      if (pageToken === "") break;
    }
    if (pageToken !== "") return { tasks: found, isCut: true };
  }
  return { tasks: found, isCut: false };
}

/** Return what carries the wish out for one task. A retry that is repeated after a lost answer is the same task. */
export function acting(wish: Wish): (task: Task) => Promise<unknown> {
  if (wish === "cancel") return (task) => client.cancelTask({ taskId: task.id, reason: "cancelled in the dashboard" });
  const bulk = crypto.randomUUID();
  return (task) => client.retryTask({ taskId: task.id, requestId: `dashboard-${bulk}-${task.id}` });
}

/** The states to look through: those of the filter that the wish can be for. */
function statesOf(wish: Wish, filter: Filter): readonly TaskState[] {
  const possible = wish === "cancel" ? [TaskState.PENDING, TaskState.RUNNING] : [TaskState.FAILED, TaskState.CANCELLED];
  const meant = filter.states.map(stateValue);
  return meant.length === 0 ? possible : possible.filter((state) => meant.includes(state));
}
