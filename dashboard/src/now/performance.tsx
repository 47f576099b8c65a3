// How each task type fared.

import type { JSX } from "preact";

import { count, percent, seconds, span, words } from "../parts/format.ts";
import type { GetPerformanceResponse, TaskMeasures } from "../plane/contract.ts";
import { formatPlace } from "../router.ts";
import { isEmpty } from "./series.ts";

export function Performance({ answer }: { answer: GetPerformanceResponse }): JSX.Element | null {
  const types = answer.taskTypes.filter((type) => !isEmpty(type.total));
  if (types.length === 0) return null;
  return (
    <section aria-labelledby="performance-title">
      <h2 id="performance-title">By task type</h2>
      <div class="table-view card flush">
        <table class="table">
          <thead>
            <tr>
              <th scope="col">Task type</th>
              {MEASURES.map((measure) => (
                <th key={measure.name} scope="col" class="end">
                  {measure.name}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {types.map((type) => (
              <tr key={type.taskType}>
                <th scope="row">
                  <a href={formatPlace({ screen: "tasks", query: { filter: `type:${type.taskType}` } })}>{words(type.taskType)}</a>
                </th>
                {MEASURES.map((measure) => (
                  <td key={measure.name} class="end number">
                    {type.total && measure.read(type.total)}
                  </td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}

const MEASURES: readonly { name: string; read: (measures: TaskMeasures) => string }[] = [
  { name: "Submitted", read: (each) => count(each.submitted) },
  { name: "Succeeded", read: (each) => count(each.succeeded) },
  { name: "Failed", read: (each) => count(each.failed) },
  { name: "Failure rate", read: (each) => percent(each.failureRate) },
  { name: "Retries", read: (each) => count(each.retries) },
  { name: "Reused", read: (each) => count(each.reused) },
  { name: "Mean run", read: (each) => length(each.meanRun) },
  { name: "Longest run", read: (each) => length(each.maxRun) },
  { name: "Mean wait", read: (each) => length(each.meanWait) },
];

function length(duration: TaskMeasures["meanRun"]): string {
  const value = seconds(duration);
  return value === undefined ? "" : span(value);
}
