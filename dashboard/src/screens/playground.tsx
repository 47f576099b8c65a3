// The playground: a form made from the contract, the same as JSON, and the words for a shell beside it.

import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";

import { short, words } from "../parts/format.ts";
import { tell } from "../parts/notices.tsx";
import { go } from "../place.ts";
import { draftFrom, draftOf, forms, problemsOf, requestOf, typeNamed, type Draft } from "../playground/draft.ts";
import { Extras } from "../playground/extras.tsx";
import { Fields } from "../playground/fields.tsx";
import { JsonField } from "../playground/json-field.tsx";
import type { Problems } from "../playground/values.ts";
import { tasks as client } from "../plane/client.ts";
import { passes, problemOf, sentence } from "../plane/errors.ts";
import { SnippetTabs } from "../task/snippet-tabs.tsx";

export function PlaygroundScreen({ project, type, from }: { project: string; type: string; from: string }): JSX.Element {
  const first = forms.taskTypes.find((each) => each.name === "generate_image") ?? forms.taskTypes[0];
  const [draft, setDraft] = useState<Draft | undefined>(() => {
    const chosen = typeNamed(type) ?? first;
    return chosen && from === "" ? draftOf(chosen) : undefined;
  });
  useEffect(() => {
    if (from === "") return;
    client.getTask({ taskId: from }).then(
      ({ task }) => {
        const found = task && draftFrom(task);
        if (found) setDraft(found);
        else tell("The task is of a type that this page does not know.", { failed: true });
      },
      (thrown: unknown) => tell(sentence(thrown), { failed: true }),
    );
  }, [from]);
  useEffect(() => {
    const chosen = typeNamed(type);
    if (chosen && draft && chosen.name !== draft.type.name) setDraft(draftOf(chosen));
  }, [type]);
  if (draft === undefined) return <p role="status">Reading the task …</p>;
  return <Playground project={project} draft={draft} from={from} onChange={setDraft} />;
}

interface PlaygroundProps {
  readonly project: string;
  readonly draft: Draft;
  readonly from: string;
  readonly onChange: (draft: Draft) => void;
}

function Playground({ project, draft, from, onChange }: PlaygroundProps): JSX.Element {
  const [asJson, setAsJson] = useState(false);
  const submission = useSubmission(project, draft);
  const problems = submission.isTried ? merged(problemsOf(draft), submission.refused) : submission.refused;
  const request = requestOf(draft, { project });
  return (
    <>
      <div class="screen-head">
        <h1>Playground</h1>
        {from !== "" && <p class="muted">as <a href={`#/tasks/${from}`}><code>{short(from)}</code></a> was submitted</p>}
        <span class="gap" />
        <div class="chips" role="group" aria-label="Task type">
          {forms.taskTypes.map((type) => (
            <button key={type.name} type="button" class="chip" aria-pressed={type.name === draft.type.name} onClick={() => go({ screen: "playground", part: type.name })}>
              {words(type.name)}
            </button>
          ))}
        </div>
      </div>
      <div class="playground">
        <form class="card" noValidate onSubmit={(event) => (event.preventDefault(), void submission.submit())} aria-label={`Submit ${words(draft.type.name)}`}>
          <div class="row">
            <p class="muted grow">{draft.type.help}</p>
            <button type="button" class="small" aria-pressed={asJson} onClick={() => setAsJson(!asJson)}>
              As JSON
            </button>
          </div>
          {asJson ? (
            <JsonField value={draft.input} onChange={(input) => onChange({ ...draft, input })} />
          ) : (
            <div class="fields">
              <Fields forms={forms} message={draft.type.input} value={draft.input} path={`spec.${draft.type.name}`} problems={problems} onChange={(input) => onChange({ ...draft, input })} />
            </div>
          )}
          <Extras draft={draft} problems={problems} onChange={onChange} />
          <div aria-live="assertive">
            {submission.problem !== "" && <p class="problem">{submission.problem}</p>}
            <Unplaced problems={problems} asJson={asJson} type={draft.type.name} />
          </div>
          <button type="submit" class="primary" disabled={submission.busy}>
            {submission.busy ? "Submitting …" : "Submit"}
          </button>
        </form>
        <aside class="card" aria-label="The same from elsewhere">
          <h2>The same from elsewhere</h2>
          {typeof request === "string" ? <p class="muted">{request}</p> : <SnippetTabs request={request} />}
        </aside>
      </div>
    </>
  );
}

/** What no field of the form shows. */
function Unplaced({ problems, asJson, type }: { problems: Problems; asJson: boolean; type: string }): JSX.Element {
  const left = [...problems].filter(([path]) => asJson || !(path.startsWith(`spec.${type}.`) || PLACED.has(path)));
  return (
    <>
      {left.map(([path, problem]) => (
        <p key={path} class="problem">
          <code>{path}</code> {problem}.
        </p>
      ))}
    </>
  );
}

const PLACED: ReadonlySet<string> = new Set(["priority", "delay", "callback.url", "metadata"]);

function useSubmission(project: string, draft: Draft) {
  const [busy, setBusy] = useState(false);
  const [isTried, setIsTried] = useState(false);
  const [problem, setProblem] = useState("");
  const [refused, setRefused] = useState<Problems>(new Map());
  // The same draft is the same request, however often the button is pressed after a lost answer.
  const request = useRef({ draft, id: crypto.randomUUID() });
  if (request.current.draft !== draft) request.current = { draft, id: crypto.randomUUID() };
  useEffect(() => {
    setRefused(new Map());
    setProblem("");
  }, [draft]);

  async function submit(): Promise<void> {
    setIsTried(true);
    if (problemsOf(draft).size > 0) return;
    const message = requestOf(draft, { project, requestId: `dashboard-${request.current.id}` });
    if (typeof message === "string") return setProblem(message);
    setBusy(true);
    try {
      const { task } = await client.submitTask(message);
      if (task) go({ screen: "tasks", part: task.id });
    } catch (thrown) {
      const { violations } = problemOf(thrown);
      setRefused(new Map(violations.map((each) => [each.field, each.description])));
      if (violations.length === 0) setProblem(passes(thrown) ? `${sentence(thrown)}. Submit again; it will be one task.` : sentence(thrown));
    } finally {
      setBusy(false);
    }
  }
  return { busy, isTried, problem, refused, submit };
}

function merged(first: Problems, second: Problems): Problems {
  return new Map([...second, ...first]);
}
