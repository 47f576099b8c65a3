import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { test } from "node:test";

import { create } from "@bufbuild/protobuf";

import { SubmitTaskRequestSchema } from "../src/plane/contract.ts";
import { literal, shell, snippet } from "../src/task/snippets.ts";

const ODD = `it's "so" $HOME \`id\` \\ ${"\n"}new`;
const request = create(SubmitTaskRequestSchema, {
  project: "film",
  priority: 7,
  metadata: { shot: "12" },
  spec: { input: { case: "generateImage", value: { prompt: ODD, steps: 4 } } },
});

test("what is quoted for a shell means nothing to it", () => {
  const told = execFileSync("sh", ["-c", `printf %s ${shell(ODD)}`], { encoding: "utf8" });
  assert.equal(told, ODD);
});

test("curl sends the request as JSON to where the page came from, with a key that is not in it", () => {
  const text = snippet("curl", request, "https://films.example");
  assert.match(text, /^curl https:\/\/films\.example\/callsheet\.v1\.TaskService\/SubmitTask /);
  assert.match(text, /X-API-Key: \$CALLSHEET_API_KEY/);
  const body = execFileSync("sh", ["-c", text.replace("curl ", "printf '%s\\n' ").replaceAll("\\\n", "")], { encoding: "utf8" });
  const json = body.slice(body.indexOf("\n{") + 1).trim();
  assert.deepEqual(JSON.parse(json), {
    project: "film", priority: 7, metadata: { shot: "12" }, spec: { generateImage: { prompt: ODD, steps: 4 } },
  });
});

test("a program submits the input by its own message", () => {
  const text = snippet("python", request, "");
  assert.match(text, /from callsheet\.tasks\.v1\.generate_image_pb2 import GenerateImageInput/);
  assert.match(text, /project="film"/);
  assert.match(text, /priority=7, metadata=\{"shot": "12"\}/);
  assert.match(text, /"steps": 4/);
});

test("grpcurl reads the contract from its folder", () => {
  assert.match(snippet("grpcurl", request, ""), /-import-path protos .*-proto callsheet\/v1\/task_service\.proto/s);
});

test("JSON becomes what Python writes", () => {
  assert.equal(literal({ yes: true, no: null, list: [1, 2.5, "x"] }), '{"yes": True, "no": None, "list": [1, 2.5, "x"]}');
});
