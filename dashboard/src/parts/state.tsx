// A task's state as it is shown everywhere: shape, word and colour.

import type { JSX } from "preact";

import type { Task } from "../plane/contract.ts";
import { stateName, type StateName } from "../tasks/states.ts";
import { StateIcon } from "./icons.tsx";

export function StateMark({ state }: { state: StateName }): JSX.Element {
  return (
    <span class={`state state-${state}`}>
      <StateIcon state={state} />
      {state}
    </span>
  );
}

/** A task's state, and whether it was asked to stop. */
export function TaskMark({ task }: { task: Task }): JSX.Element {
  const state = stateName(task.state);
  const stopping = task.cancelRequested && state === "running";
  return (
    <span class={`state state-${state}`}>
      <StateIcon state={state} />
      {stopping ? "cancelling" : state}
    </span>
  );
}
