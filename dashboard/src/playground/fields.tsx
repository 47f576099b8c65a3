// The fields of a message as a form: what may be typed, and why, comes from the contract.

import type { JsonObject, JsonValue } from "@bufbuild/protobuf";
import type { JSX } from "preact";
import { useEffect, useId, useState } from "preact/hooks";

import { FileButton } from "./file-button.tsx";
import type { Field, Forms } from "./model.ts";
import { changed, chosen, isObject, read, startOf, typed, type Problems } from "./values.ts";

export interface FieldsProps {
  readonly forms: Forms;
  readonly message: string;
  readonly value: JsonObject;
  /** The path of the message in the contract. */
  readonly path: string;
  readonly problems: Problems;
  readonly onChange: (value: JsonObject) => void;
}

export function Fields({ forms, message, value, path, problems, onChange }: FieldsProps): JSX.Element {
  const fields = forms.messages[message] ?? [];
  const oneofs = [...new Set(fields.flatMap((field) => (field.oneof === undefined ? [] : [field.oneof])))];
  const editing = { forms, path, problems };
  return (
    <>
      {fields.filter((field) => field.oneof === undefined).map((field) => (
        <OneField key={field.json} {...editing} field={field} value={value[field.json]} onChange={(next) => onChange(changed(value, field.json, next))} />
      ))}
      {oneofs.map((oneof) => (
        <Oneof key={oneof} {...editing} oneof={oneof} fields={fields} value={value} onChange={onChange} />
      ))}
    </>
  );
}

type Editing = Pick<FieldsProps, "forms" | "path" | "problems">;

function Oneof({ oneof, fields, value, onChange, ...editing }: Editing & { oneof: string; fields: readonly Field[]; value: JsonObject; onChange: (value: JsonObject) => void }): JSX.Element {
  const arms = fields.filter((field) => field.oneof === oneof);
  const set = arms.find((arm) => arm.json in value);
  return (
    <fieldset class="oneof">
      <legend>{oneof.replaceAll("_", " ")}</legend>
      <select
        aria-label={`Which ${oneof.replaceAll("_", " ")}`}
        value={set?.json ?? ""}
        onChange={(event) => onChange(chosen(value, fields, arms.find((arm) => arm.json === event.currentTarget.value), oneof))}
      >
        <option value="">none</option>
        {arms.map((arm) => (
          <option key={arm.json} value={arm.json}>
            {arm.label}
          </option>
        ))}
      </select>
      {set !== undefined && (
        <OneField {...editing} field={set} value={value[set.json]} onChange={(next) => onChange({ ...value, [set.json]: next ?? startOf(set) })} />
      )}
    </fieldset>
  );
}

type OneFieldProps = Editing & { field: Field; value: JsonValue | undefined; onChange: (value: JsonValue | undefined) => void };

function OneField(props: OneFieldProps): JSX.Element {
  const { field } = props;
  if (field.repeated) return <Many {...props} />;
  if (field.kind === "message") return <Nested {...props} />;
  return <Labelled {...props} path={`${props.path}.${field.name}`} />;
}

function Nested({ forms, field, value, path, problems, onChange }: OneFieldProps): JSX.Element {
  const at = `${path}.${field.name}`;
  return (
    <fieldset>
      <legend>{field.label}</legend>
      <p class="field-help">{field.help}</p>
      {value === undefined && problems.has(at) && <p class="problem">{field.label} {problems.get(at)}.</p>}
      {value === undefined ? (
        <button type="button" class="small" onClick={() => onChange({})}>
          Set it
        </button>
      ) : (
        <>
          <Fields forms={forms} message={field.message ?? ""} value={isObject(value) ? value : {}} path={at} problems={problems} onChange={onChange} />
          <button type="button" class="small" onClick={() => onChange(undefined)}>
            Leave it out
          </button>
        </>
      )}
    </fieldset>
  );
}

/** A list: one field for each item. */
function Many({ forms, field, value, path, problems, onChange }: OneFieldProps): JSX.Element {
  const items = Array.isArray(value) ? value : [];
  const put = (next: readonly JsonValue[]): void => onChange(next.length === 0 ? undefined : [...next]);
  const at = `${path}.${field.name}`;
  const { repeated: _, ...one } = field;
  return (
    <fieldset>
      <legend>{field.label}</legend>
      <p class="field-help">{field.help}</p>
      {items.map((item, index) => (
        <div class="item" key={index}>
          {field.kind === "message" ? (
            <Fields forms={forms} message={field.message ?? ""} value={isObject(item) ? item : {}} path={`${at}[${index}]`} problems={problems} onChange={(next) => put(items.with(index, next))} />
          ) : (
            <Labelled forms={forms} problems={problems} path={`${at}[${index}]`} field={{ ...one, label: `${field.label} ${index + 1}`, help: "" }} value={item} onChange={(next) => put(items.with(index, next ?? ""))} />
          )}
          <button type="button" class="small" onClick={() => put(items.toSpliced(index, 1))}>
            Remove
          </button>
        </div>
      ))}
      <button type="button" class="small" disabled={field.maxItems !== undefined && items.length >= field.maxItems} onClick={() => put([...items, startOf(field)])}>
        Add
      </button>
      {problems.has(at) && <p class="problem">{problems.get(at)}</p>}
    </fieldset>
  );
}

function Labelled({ field, value, path, problems, onChange }: OneFieldProps): JSX.Element {
  const id = useId();
  const problem = problems.get(path);
  return (
    <div class={field.about ? "field field-wide" : "field"}>
      <label class="field-label" for={id}>
        {field.label}
        {field.required && <span class="needed"> needed</span>}
      </label>
      <Control id={id} field={field} value={value} isWrong={problem !== undefined} onChange={onChange} />
      <span class="field-help" id={`${id}-help`}>
        {field.help}
      </span>
      {problem !== undefined && (
        <span class="problem" id={`${id}-problem`}>
          {field.label} {problem}.
        </span>
      )}
    </div>
  );
}

interface ControlProps {
  readonly id: string;
  readonly field: Field;
  readonly value: JsonValue | undefined;
  readonly isWrong: boolean;
  readonly onChange: (value: JsonValue | undefined) => void;
}

function Control({ id, field, value, isWrong, onChange }: ControlProps): JSX.Element {
  const told = { id, "aria-invalid": isWrong, "aria-describedby": isWrong ? `${id}-problem ${id}-help` : `${id}-help` };
  const unset = field.unset ?? "";
  if (field.kind === "boolean") {
    return <input {...told} type="checkbox" checked={value === true} onChange={(event) => onChange(event.currentTarget.checked || undefined)} />;
  }
  if (field.kind === "enum") {
    return (
      <select {...told} value={typed(field, value)} onChange={(event) => onChange(event.currentTarget.value || undefined)}>
        <option value="">{unset === "" ? "as it is by default" : `default: ${unset}`}</option>
        {field.choices?.map((choice) => (
          <option key={choice.name} value={choice.name} title={choice.help}>
            {choice.label}
          </option>
        ))}
      </select>
    );
  }
  return (
    <>
      <Typed {...told} field={field} value={value} onChange={onChange} />
      {field.file && <FileButton of={field.label} uri={typed(field, value)} onBrought={onChange} />}
    </>
  );
}

interface Described {
  readonly "aria-invalid": boolean;
  readonly "aria-describedby": string;
}

/** What is typed as text stays as it was typed while it is worked on: 1. is on its way to 1.5. */
function Typed({ field, value, onChange, ...told }: Omit<ControlProps, "isWrong"> & Described): JSX.Element {
  const [text, setText] = useState(typed(field, value));
  useEffect(() => {
    if (JSON.stringify(read(field, text)) !== JSON.stringify(value)) setText(typed(field, value));
  }, [value]);
  function onInput(event: { currentTarget: { value: string } }): void {
    setText(event.currentTarget.value);
    onChange(read(field, event.currentTarget.value));
  }
  const common = { ...told, value: text, onInput, placeholder: placeholder(field), autocomplete: "off" } as const;
  if (field.kind === "json") return <textarea {...common} rows={3} spellcheck={false} />;
  if (field.kind === "text" && !field.file && (field.maxLength ?? 0) > 200) return <textarea {...common} rows={field.about ? 4 : 2} />;
  if (field.kind === "integer" || field.kind === "number" || field.kind === "duration") {
    return <input {...common} type="number" step={field.kind === "integer" ? (field.multipleOf ?? 1) : "any"} {...(field.min === undefined ? {} : { min: field.min })} {...(field.max === undefined ? {} : { max: field.max })} />;
  }
  return <input {...common} type="text" />;
}

function placeholder(field: Field): string {
  if (field.unset !== undefined) return field.unset;
  if (field.kind === "duration") return "seconds";
  if (field.kind === "timestamp") return "2030-01-31T12:00:00Z";
  if (field.kind === "bytes") return "base64";
  return "";
}
