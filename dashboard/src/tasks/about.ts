// What a task is about, in the words of its input: for rows, and for the free words of a filter.

import FORMS from "../../gen/forms.json" with { type: "json" };
import type { Task } from "../plane/contract.ts";
import type { Forms } from "../playground/model.ts";

const forms = FORMS as unknown as Forms;

/** The fields of each input that tell what a task is about. */
const ABOUT: ReadonlyMap<string, readonly string[]> = new Map(
  forms.taskTypes.map((type) => [
    type.json,
    (forms.messages[type.input] ?? [])
      .filter((field) => field.kind === "text" && field.repeated === undefined)
      .toSorted((one, other) => Number(other.about ?? false) - Number(one.about ?? false))
      .map((field) => field.json),
  ]),
);

/** Return the first words of the input that say something, such as the prompt; "" where there are none. */
export function about(task: Task): string {
  const input = task.spec?.input;
  if (input?.case === undefined) return "";
  const values = input.value as unknown as Readonly<Record<string, unknown>>;
  for (const name of ABOUT.get(input.case) ?? []) {
    const text = values[name];
    if (typeof text === "string" && text !== "") return text;
  }
  return "";
}

/** Return everything a free word may be found in, in lower case. */
export function searchText(task: Task): string {
  const input = task.spec?.input;
  const values = input?.case === undefined ? [] : Object.values(input.value);
  const told = values.filter((value) => typeof value === "string" || typeof value === "number");
  const metadata = Object.entries(task.metadata).flat();
  return [task.id, task.taskType, task.queue, task.worker, ...told, ...metadata].join(" ").toLowerCase();
}
