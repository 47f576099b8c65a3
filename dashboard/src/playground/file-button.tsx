// Brings a file for a field that names one: what is typed there then is the upload's own name.

import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";

import { bytes } from "../parts/format.ts";
import { project } from "../plane/session.ts";
import { bring } from "../plane/uploads.ts";

interface Coming {
  readonly name: string;
  readonly share: number;
}

interface Brought {
  readonly uri: string;
  readonly words: string;
}

interface FileButtonProps {
  /** What the file is for. */
  readonly of: string;
  /** What the field names now. */
  readonly uri: string;
  readonly onBrought: (uri: string) => void;
}

export function FileButton({ of, uri, onBrought }: FileButtonProps): JSX.Element {
  const [coming, setComing] = useState<Coming>();
  const [brought, setBrought] = useState<Brought>();
  const [problem, setProblem] = useState("");
  const picker = useRef<HTMLInputElement>(null);
  const stop = useRef<AbortController | undefined>(undefined);
  // The form goes on while a file comes, and what is typed meanwhile stays.
  const latest = useRef(onBrought);
  latest.current = onBrought;
  useEffect(() => () => stop.current?.abort(), []);

  async function take(file: File): Promise<void> {
    const until = (stop.current = new AbortController()).signal;
    setProblem("");
    setComing({ name: file.name, share: 0 });
    try {
      const upload = await bring(file, { project: project.peek(), until, onProgress: (share) => setComing({ name: file.name, share }) });
      setBrought({ uri: upload.uri, words: `${file.name}, ${upload.media_type}, ${bytes(upload.size_bytes)}` });
      latest.current(upload.uri);
    } catch (thrown) {
      if (!until.aborted) setProblem(thrown instanceof Error ? thrown.message : String(thrown));
    } finally {
      setComing(undefined);
    }
  }

  function onPicked({ currentTarget }: { currentTarget: HTMLInputElement }): void {
    const file = currentTarget.files?.[0];
    currentTarget.value = ""; // the same file again is another choice
    if (file) void take(file);
  }

  return (
    <div class="upload">
      <input ref={picker} type="file" hidden onChange={onPicked} />
      {coming === undefined ? (
        <button type="button" class="small" aria-label={`Bring a file for ${of}`} onClick={() => picker.current?.click()}>
          Bring a file …
        </button>
      ) : (
        <>
          <progress value={coming.share} aria-label={`Bringing ${coming.name}`} />
          <span class="muted">{coming.name}</span>
          <button type="button" class="small" onClick={() => stop.current?.abort()}>
            Stop
          </button>
        </>
      )}
      <span class="muted" role="status">
        {coming === undefined && brought !== undefined && brought.uri === uri && brought.words}
      </span>
      {problem !== "" && (
        <span class="problem" role="alert">
          {problem}
        </span>
      )}
    </div>
  );
}
