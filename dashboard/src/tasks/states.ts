// The states of a task as the page names, orders and draws them.

import { TaskState } from "../plane/contract.ts";

/** The states in the order of a task's life. */
export const STATES = ["pending", "running", "succeeded", "failed", "cancelled"] as const;

export type StateName = (typeof STATES)[number];

const NAMES: Readonly<Record<number, StateName>> = {
  [TaskState.PENDING]: "pending",
  [TaskState.RUNNING]: "running",
  [TaskState.SUCCEEDED]: "succeeded",
  [TaskState.FAILED]: "failed",
  [TaskState.CANCELLED]: "cancelled",
};

const VALUES: Readonly<Record<StateName, TaskState>> = {
  pending: TaskState.PENDING,
  running: TaskState.RUNNING,
  succeeded: TaskState.SUCCEEDED,
  failed: TaskState.FAILED,
  cancelled: TaskState.CANCELLED,
};

/** Return the state's name; a state newer than this page counts as pending, for it is not known to be final. */
export function stateName(state: TaskState): StateName {
  return NAMES[state] ?? "pending";
}

export function stateValue(name: StateName): TaskState {
  return VALUES[name];
}

export function isStateName(word: string): word is StateName {
  return (STATES as readonly string[]).includes(word);
}

export function isFinal(state: TaskState): boolean {
  return state === TaskState.SUCCEEDED || state === TaskState.FAILED || state === TaskState.CANCELLED;
}
