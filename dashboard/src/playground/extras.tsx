// What a submission may say besides its input: how urgent, how late, whom to tell, and in whose words.

import type { ComponentChildren, JSX } from "preact";
import { useId } from "preact/hooks";

import type { Draft } from "./draft.ts";
import type { Problems } from "./values.ts";

export function Extras({ draft, problems, onChange }: { draft: Draft; problems: Problems; onChange: (draft: Draft) => void }): JSX.Element {
  const set = (name: "priority" | "delay" | "callback" | "metadata" | "reuse") => (event: { currentTarget: { value: string } }) =>
    onChange({ ...draft, [name]: event.currentTarget.value });
  const isUsed = draft.priority !== "" || draft.delay !== "" || draft.callback !== "" || draft.metadata !== "" || draft.reuse !== "";
  return (
    <details class="extras" open={isUsed}>
      <summary>Priority, delay, callback, metadata, reuse</summary>
      <div class="fields">
        <Extra label="Priority" help="0 to 9; 9 is the most urgent. Unset: the task type’s." problem={problems.get("priority")}>
          {(told) => <input {...told} type="number" min={0} max={9} value={draft.priority} onInput={set("priority")} />}
        </Extra>
        <Extra label="Delay" help="Seconds before the first attempt." problem={problems.get("delay")}>
          {(told) => <input {...told} type="number" min={0} max={2_592_000} step="any" value={draft.delay} onInput={set("delay")} />}
        </Extra>
        <Extra label="Callback URL" help="Where webhooks go. Unset: nowhere." problem={problems.get("callback.url")}>
          {(told) => <input {...told} type="url" maxLength={2048} value={draft.callback} onInput={set("callback")} />}
        </Extra>
        <Extra label="Reuse" help="Whether an equal task’s output, or the equal task, may answer.">
          {(told) => (
            <select {...told} value={draft.reuse} onChange={set("reuse")}>
              <option value="">no</option>
              <option value="REUSE_MODE_RESULT">its output</option>
              <option value="REUSE_MODE_RESULT_OR_JOIN">its output, or the task itself</option>
            </select>
          )}
        </Extra>
        <Extra label="Metadata" help="Lines of key=value, echoed in webhooks." problem={problems.get("metadata")}>
          {(told) => <textarea {...told} rows={3} spellcheck={false} value={draft.metadata} onInput={set("metadata")} />}
        </Extra>
      </div>
    </details>
  );
}

interface Told {
  readonly id: string;
  readonly "aria-describedby": string;
  readonly "aria-invalid": boolean;
}

function Extra({ label, help, problem, children }: { label: string; help: string; problem?: string | undefined; children: (told: Told) => ComponentChildren }): JSX.Element {
  const id = useId();
  return (
    <div class="field">
      <label class="field-label" for={id}>
        {label}
      </label>
      {children({ id, "aria-describedby": `${id}-help`, "aria-invalid": problem !== undefined })}
      <span class="field-help" id={`${id}-help`}>
        {help}
      </span>
      {problem !== undefined && (
        <span class="problem">
          {label} {problem}.
        </span>
      )}
    </div>
  );
}
