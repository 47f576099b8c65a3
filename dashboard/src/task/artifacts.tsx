// The artifacts of a task's output, shown or played where a browser can, and offered as they are.

import type { JSX } from "preact";
import { useState } from "preact/hooks";

import { ArtifactRole, type Artifact } from "../../gen/callsheet/tasks/v1/artifact_pb.js";
import { bytes } from "../parts/format.ts";
import type { Task } from "../plane/contract.ts";
import { artifacts } from "./output.ts";

export function Artifacts({ task }: { task: Task }): JSX.Element | null {
  if (task.result.case !== "output") return null;
  const all = artifacts(task.result.value);
  const found = all.filter((each) => each.role === ArtifactRole.UNSPECIFIED);
  const others = all.filter((each) => each.role !== ArtifactRole.UNSPECIFIED);
  if (all.length === 0) return null;
  return (
    <section class="card" aria-labelledby="artifacts-title">
      <h2 id="artifacts-title">Artifacts</h2>
      <ul class="artifacts">
        {found.map((artifact, index) => (
          <li key={artifact.key}>
            <Shown artifact={artifact} address={addressOf(task.id, artifact)} name={`Artifact ${index + 1} of ${found.length}`} />
          </li>
        ))}
      </ul>
      {others.length > 0 && (
        <ul class="artifacts-beside" aria-label="What goes with them">
          {others.map((artifact) => (
            <li key={`${artifact.role} ${artifact.key}`}>
              <a href={addressOf(task.id, artifact)} download>
                {BESIDE[artifact.role] ?? "Another file"}
              </a>{" "}
              <span class="muted number">{bytes(artifact.sizeBytes)}</span>
            </li>
          ))}
        </ul>
      )}
    </section>
  );
}

/** What artifacts are called that go with others. */
const BESIDE: Readonly<Record<number, string>> = {
  [ArtifactRole.POSTER]: "Poster",
  [ArtifactRole.THUMBNAIL]: "Thumbnail",
  [ArtifactRole.PROVENANCE]: "How it was made",
};

/** Where the gateway serves an artifact: by its name within its task. */
export function addressOf(taskId: string, artifact: Artifact): string {
  const name = artifact.key.slice(artifact.key.lastIndexOf("/") + 1);
  return `/api/v1/tasks/${encodeURIComponent(taskId)}/artifacts/${encodeURIComponent(name)}`;
}

function Shown({ artifact, address, name }: { artifact: Artifact; address: string; name: string }): JSX.Element {
  const [isAway, setIsAway] = useState(false);
  const kind = artifact.mediaType.split("/")[0];
  const onError = (): void => setIsAway(true);
  return (
    <figure>
      {isAway ? (
        <p class="muted artifact-away">It cannot be shown here.</p>
      ) : kind === "image" ? (
        <a href={address} target="_blank" rel="noreferrer">
          <img
            src={address}
            alt={name}
            loading="lazy"
            {...(artifact.width ? { width: artifact.width } : {})}
            {...(artifact.height ? { height: artifact.height } : {})}
            onError={onError}
          />
        </a>
      ) : kind === "video" ? (
        <video src={address} controls preload="metadata" aria-label={name} onError={onError} />
      ) : kind === "audio" ? (
        <audio src={address} controls preload="metadata" aria-label={name} onError={onError} />
      ) : (
        <p class="artifact-away">{artifact.mediaType}</p>
      )}
      <figcaption class="number">
        {artifact.width !== undefined && artifact.height !== undefined && `${artifact.width} × ${artifact.height} · `}
        {artifact.mediaType} · {bytes(artifact.sizeBytes)} · <a href={address} download>Download</a>
      </figcaption>
    </figure>
  );
}
