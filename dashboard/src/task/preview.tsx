// A small picture of what a running attempt makes, as far as it is.

import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";

import type { Artifact } from "../../gen/callsheet/tasks/v1/artifact_pb.js";
import { addressOf } from "./artifacts.tsx";
import { Newest } from "./newest.ts";

/** How long a picture may take to come, in milliseconds. */
const PATIENCE = 10_000;

/** Show the newest preview that could be fetched: the runner deletes one soon after the next. */
export function Preview({ taskId, artifact }: { taskId: string; artifact: Artifact }): JSX.Element | null {
  const picture = useNewestPicture(addressOf(taskId, artifact));
  if (picture === undefined) return null;
  return (
    <img
      class="preview"
      src={picture}
      alt="Preview of what is being made"
      {...(artifact.width ? { width: artifact.width } : {})}
      {...(artifact.height ? { height: artifact.height } : {})}
    />
  );
}

/** Return the address of the last picture that came, in this page's own memory; undefined before the first. */
function useNewestPicture(address: string): string | undefined {
  const [picture, setPicture] = useState<string>();
  const newest = useRef<Newest<string> | undefined>(undefined);
  useEffect(() => {
    const gone = new AbortController();
    let shown = "";
    newest.current = new Newest(
      (each) => fetchPicture(each, gone.signal),
      (next) => {
        URL.revokeObjectURL(shown);
        shown = next;
        setPicture(next);
      },
    );
    return () => {
      gone.abort();
      URL.revokeObjectURL(shown);
    };
  }, []);
  useEffect(() => newest.current?.ask(address), [address]);
  return picture;
}

/** Return the picture's address in memory; undefined: it is gone, or nobody cares any more. */
async function fetchPicture(address: string, gone: AbortSignal): Promise<string | undefined> {
  try {
    const response = await fetch(address, { signal: AbortSignal.any([gone, AbortSignal.timeout(PATIENCE)]) });
    if (!response.ok) return undefined;
    const content = await response.blob();
    return gone.aborted ? undefined : URL.createObjectURL(content);
  } catch {
    return undefined; // the stream tells of outages
  }
}
