// Generates what the dashboard knows of the contract: messages into gen/, the forms of the playground into gen/forms.json.
import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { readForms } from "./forms.ts";

const HERE = fileURLToPath(new URL("..", import.meta.url));
const PROGRAMS = fileURLToPath(new URL("../../.venv/bin", import.meta.url));
const BUF = join(PROGRAMS, "buf");
/** The details of errors: the contract's own dependency brings the file along. */
const WHERE = "import google.rpc.error_details_pb2 as details; print(details.__file__.replace('_pb2.py', '.proto'))";
const LARGEST_IMAGE = 64 * 1024 * 1024;

const scratch = mkdtempSync(join(tmpdir(), "callsheet-dashboard-"));
try {
  rmSync(join(HERE, "gen"), { recursive: true, force: true });
  const details = execFileSync(join(PROGRAMS, "python"), ["-c", WHERE], { encoding: "utf8" }).trim();
  mkdirSync(join(scratch, "google/rpc"), { recursive: true });
  cpSync(details, join(scratch, "google/rpc/error_details.proto"));
  for (const input of [["..", "--exclude-type", "buf.validate"], [scratch]]) {
    execFileSync(BUF, ["generate", ...input, "--template", "buf.gen.yaml"], { cwd: HERE, stdio: "inherit" });
  }
  const image = execFileSync(BUF, ["build", "..", "--as-file-descriptor-set", "--output", "-#format=binpb"], {
    cwd: HERE,
    maxBuffer: LARGEST_IMAGE,
  });
  writeFileSync(join(HERE, "gen/forms.json"), `${JSON.stringify(readForms(image), null, 1)}\n`);
} finally {
  rmSync(scratch, { recursive: true, force: true });
}
