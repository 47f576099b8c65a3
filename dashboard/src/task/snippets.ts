// The same submission as a command for a shell, and as a program: what a person copies out of the page.

import { toJson, toJsonString, type JsonObject, type JsonValue } from "@bufbuild/protobuf";

import { REGISTRY, SubmitTaskRequestSchema, type SubmitTaskRequest } from "../plane/contract.ts";

export type Language = "curl" | "python" | "grpcurl";

/** Return the words that make the same submission; *origin* is where this page came from. */
export function snippet(language: Language, request: SubmitTaskRequest, origin: string): string {
  switch (language) {
    case "curl":
      return curl(request, origin);
    case "python":
      return python(request);
    case "grpcurl":
      return grpcurl(request);
  }
}

function curl(request: SubmitTaskRequest, origin: string): string {
  return [
    `curl ${origin}/callsheet.v1.TaskService/SubmitTask \\`,
    `  -H "X-API-Key: $CALLSHEET_API_KEY" -H 'Content-Type: application/json' \\`,
    `  -d ${shell(json(request))}`,
  ].join("\n");
}

function grpcurl(request: SubmitTaskRequest): string {
  return [
    `grpcurl -plaintext -import-path protos -import-path third_party/protovalidate \\`,
    `  -proto callsheet/v1/task_service.proto -H "x-api-key: $CALLSHEET_API_KEY" \\`,
    `  -d ${shell(json(request))} \\`,
    `  "\${CALLSHEET_GRPC_ADDRESS:-127.0.0.1:50051}" callsheet.v1.TaskService/SubmitTask`,
  ].join("\n");
}

function python(request: SubmitTaskRequest): string {
  const whole = toJson(SubmitTaskRequestSchema, request, { registry: REGISTRY, useProtoFieldName: true }) as JsonObject;
  const [arm, input] = Object.entries((whole["spec"] ?? {}) as JsonObject)[0] ?? ["", {}];
  const message = `${arm.replaceAll(/(?:^|_)([a-z])/g, (_, letter: string) => letter.toUpperCase())}Input`;
  const options = [
    ...(request.project ? [`project=${literal(request.project)}`] : []),
  ];
  const arguments_ = [
    ...(request.priority === undefined ? [] : [`priority=${request.priority}`]),
    ...(whole["metadata"] === undefined ? [] : [`metadata=${literal(whole["metadata"])}`]),
    ...(request.callback ? [`callback_url=${literal(request.callback.url)}`] : []),
  ];
  return [
    "import os",
    "",
    "from google.protobuf.json_format import ParseDict",
    "",
    "from callsheet.client import TaskClient",
    `from callsheet.tasks.v1.${arm}_pb2 import ${message}`,
    "",
    `input = ParseDict(${literal(input ?? {})}, ${message}())`,
    `with TaskClient(${['os.environ["CALLSHEET_GRPC_ADDRESS"]', 'key=os.environ["CALLSHEET_API_KEY"]', ...options].join(", ")}) as client:`,
    `    handle = client.submit(${["input", ...arguments_].join(", ")})`,
    "    print(handle.result())",
  ].join("\n");
}

function json(request: SubmitTaskRequest): string {
  return toJsonString(SubmitTaskRequestSchema, request, { registry: REGISTRY });
}

/** Quote for a shell: nothing within means anything. */
export function shell(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

/** Return a JSON value as Python writes it. */
export function literal(value: JsonValue): string {
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (typeof value === "number") return String(value);
  if (typeof value === "string") return JSON.stringify(value); // an escape of JSON is one of Python
  if (Array.isArray(value)) return `[${value.map(literal).join(", ")}]`;
  return `{${Object.entries(value).map(([key, each]) => `${JSON.stringify(key)}: ${literal(each)}`).join(", ")}}`;
}
