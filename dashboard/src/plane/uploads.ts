// Bringing a file to the plane: its bytes go to the gateway as they are, and what comes back is its name.

import { refusal } from "./errors.ts";

const UPLOADS = "/api/v1/uploads";
/** How long a file may take to arrive, in milliseconds; the gateway itself gives up on who brings next to nothing. */
const PATIENCE = 3_600_000;

/** A file that the plane has. */
export interface Upload {
  readonly uri: string;
  readonly media_type: string;
  readonly size_bytes: number;
}

export interface Bringing {
  readonly project: string;
  readonly until: AbortSignal;
  /** Told how much of it is there, 0 to 1. */
  readonly onProgress: (share: number) => void;
}

/** Bring a file; throws an Error that says why it was not taken. fetch cannot tell how much of a body has gone. */
export function bring(file: File, { project, until, onProgress }: Bringing): Promise<Upload> {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const fail = (why: string) => () => reject(new Error(why));
    request.open("POST", `${UPLOADS}?project_id=${encodeURIComponent(project)}`);
    request.timeout = PATIENCE;
    // What the browser makes of its name may be nothing: its first bytes tell.
    request.setRequestHeader("Content-Type", file.type || "application/octet-stream");
    request.upload.onprogress = ({ loaded, total }) => onProgress(total === 0 ? 0 : loaded / total);
    request.onload = () => {
      if (request.status === 201) resolve(JSON.parse(request.responseText) as Upload);
      else reject(new Error(refusal(request.responseText, request.status)));
    };
    request.onerror = fail("The connection broke off before the whole file was there.");
    request.ontimeout = fail("The file took too long.");
    request.onabort = fail("It was stopped.");
    until.addEventListener("abort", () => request.abort(), { once: true });
    request.send(file);
  });
}
