// What was typed into a form, as protobuf JSON; and what of it breaks a rule that the page knows.

import type { JsonObject, JsonValue } from "@bufbuild/protobuf";

import type { Field, Forms } from "./model.ts";

/** What is wrong with a field, by its path in the contract, such as spec.generate_image.width. */
export type Problems = ReadonlyMap<string, string>;

/** Return the object with one value changed; undefined or "" takes it out. */
export function changed(object: JsonObject, name: string, value: JsonValue | undefined): JsonObject {
  const { [name]: _, ...others } = object;
  return value === undefined || value === "" ? others : { ...others, [name]: value };
}

/** Return the object with one field of a oneof set, and the others of the oneof taken out. */
export function chosen(object: JsonObject, fields: readonly Field[], choice: Field | undefined, oneof: string): JsonObject {
  const out = new Set(fields.filter((field) => field.oneof === oneof && field !== choice).map((field) => field.json));
  const kept = Object.fromEntries(Object.entries(object).filter(([name]) => !out.has(name)));
  if (choice === undefined || choice.json in kept) return kept;
  return { ...kept, [choice.json]: startOf(choice) };
}

/** Return what a field that was just added holds. */
export function startOf(field: Field): JsonValue {
  if (field.kind === "message" || field.map) return {};
  if (field.kind === "boolean") return false;
  if (field.kind === "integer" || field.kind === "number") return field.min ?? 0;
  if (field.kind === "duration") return `${field.min ?? 0}s`;
  if (field.kind === "enum") return field.choices?.[0]?.name ?? "";
  return "";
}

/** Read what was typed for a field; what cannot be read is kept as it is, and is a problem. */
export function read(field: Field, text: string): JsonValue | undefined {
  if (text === "") return undefined;
  switch (field.kind) {
    case "integer":
    case "number": {
      const value = Number(text);
      return text.trim() !== "" && Number.isFinite(value) ? value : text;
    }
    case "duration":
      return Number.isFinite(Number(text)) ? `${Number(text)}s` : text;
    case "json":
      try {
        return JSON.parse(text) as JsonValue;
      } catch {
        return text;
      }
    default:
      return text;
  }
}

/** Return how a value is typed. */
export function typed(field: Field, value: JsonValue | undefined): string {
  if (value === undefined || value === null) return "";
  if (field.kind === "duration") return String(value).replace(/s$/, "");
  if (field.kind === "json" && typeof value !== "string") return JSON.stringify(value, null, 2);
  return String(value);
}

/** Return what breaks a rule of the fields; the plane checks all rules, and those the page cannot know. */
export function check(forms: Forms, fields: readonly Field[], value: JsonObject, path: string): Problems {
  const problems = new Map<string, string>();
  for (const field of fields) {
    const at = `${path}.${field.name}`;
    const held = value[field.json];
    if (held === undefined) {
      if (field.required && field.oneof === undefined) problems.set(at, "is needed");
    } else if (field.repeated && Array.isArray(held)) {
      checkMany(forms, field, held, at, problems);
    } else {
      checkOne(forms, field, held, at, problems);
    }
  }
  return problems;
}

function checkMany(forms: Forms, field: Field, held: readonly JsonValue[], at: string, problems: Map<string, string>): void {
  if (field.maxItems !== undefined && held.length > field.maxItems) problems.set(at, `has more than ${field.maxItems} items`);
  held.forEach((item, index) => checkOne(forms, field, item, `${at}[${index}]`, problems));
}

function checkOne(forms: Forms, field: Field, held: JsonValue, at: string, problems: Map<string, string>): void {
  if (field.kind === "message" && field.message !== undefined && isObject(held)) {
    for (const [name, problem] of check(forms, forms.messages[field.message] ?? [], held, at)) problems.set(name, problem);
    return;
  }
  const problem = problemOf(field, held);
  if (problem !== "") problems.set(at, problem);
}

function problemOf(field: Field, held: JsonValue): string {
  switch (field.kind) {
    case "integer":
    case "number":
      return numberProblem(field, held);
    case "duration":
      return durationProblem(field, held);
    case "text":
      return textProblem(field, String(held));
    case "json":
      return typeof held === "string" ? "is no JSON" : "";
    default:
      return "";
  }
}

function numberProblem(field: Field, held: JsonValue): string {
  const value = typeof held === "string" && held.trim() !== "" ? Number(held) : held;
  if (typeof value !== "number" || !Number.isFinite(value)) return "is no number";
  if (field.kind === "integer" && !Number.isInteger(value)) return "is no whole number";
  if (field.min !== undefined && value < field.min) return `must be at least ${field.min}`;
  if (field.max !== undefined && value > field.max) return `must be at most ${field.max}`;
  if (field.multipleOf !== undefined && value % field.multipleOf !== 0) return `must be divisible by ${field.multipleOf}`;
  return "";
}

function durationProblem(field: Field, held: JsonValue): string {
  const value = Number(String(held).replace(/s$/, ""));
  if (!Number.isFinite(value)) return "is no number of seconds";
  if (field.min !== undefined && value < field.min) return `must be at least ${field.min} s`;
  if (field.max !== undefined && value > field.max) return `must be at most ${field.max} s`;
  return "";
}

function textProblem(field: Field, value: string): string {
  const length = [...value].length; // the contract counts characters, not units of UTF-16
  if (field.minLength !== undefined && length < field.minLength) return `must have at least ${field.minLength} characters`;
  if (field.maxLength !== undefined && length > field.maxLength) return `must have at most ${field.maxLength} characters`;
  if (field.pattern !== undefined && !new RegExp(field.pattern, "u").test(value)) return `must look like ${field.pattern}`;
  return "";
}

export function isObject(value: JsonValue | undefined): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Read metadata typed as lines of key=value; an empty line says nothing. */
export function readMetadata(text: string): { metadata: Readonly<Record<string, string>>; problem: string } {
  const metadata: Record<string, string> = {};
  let problem = "";
  for (const line of text.split("\n").filter((each) => each.trim() !== "")) {
    const [key = "", value] = line.split(/=(.*)/s);
    if (value === undefined || key.trim() === "") problem ||= `“${line.trim()}” is no key=value`;
    else metadata[key.trim()] = value.trim();
  }
  return { metadata, problem };
}

export function typeMetadata(metadata: Readonly<Record<string, string>>): string {
  return Object.entries(metadata).map(([key, value]) => `${key}=${value}`).join("\n");
}
