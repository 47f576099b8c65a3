// The contract as the dashboard speaks it: the messages it uses, and the registry that opens an Any.

import { createRegistry } from "@bufbuild/protobuf";

import { file_callsheet_v1_task_spec } from "../../gen/callsheet/v1/task_spec_pb.js";

/** Every message a task's input or output may be: the files that the spec imports, and what they import. */
export const REGISTRY = createRegistry(
  ...file_callsheet_v1_task_spec.dependencies,
  ...file_callsheet_v1_task_spec.dependencies.flatMap((file) => file.dependencies),
);

export * from "../../gen/callsheet/v1/access_service_pb.js";
export * from "../../gen/callsheet/v1/operations_service_pb.js";
export * from "../../gen/callsheet/v1/task_event_pb.js";
export * from "../../gen/callsheet/v1/task_pb.js";
export * from "../../gen/callsheet/v1/task_service_pb.js";
export * from "../../gen/callsheet/v1/task_spec_pb.js";
