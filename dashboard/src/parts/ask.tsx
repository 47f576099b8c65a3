// A question before something that cannot be taken back.

import type { ComponentChildren, JSX } from "preact";
import { useEffect, useRef } from "preact/hooks";

export interface Question {
  readonly title: string;
  readonly yes: string;
  readonly danger?: boolean;
  readonly onYes: () => void;
  readonly onNo: () => void;
  readonly children: ComponentChildren;
}

/** A dialog over the page; Escape means no. */
export function Ask({ title, yes, danger, onYes, onNo, children }: Question): JSX.Element {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    dialog.current?.showModal();
    return () => dialog.current?.close();
  }, []);
  return (
    <dialog ref={dialog} class="ask" aria-labelledby="ask-title" onCancel={(event) => (event.preventDefault(), onNo())}>
      <h2 id="ask-title">{title}</h2>
      <div class="ask-body">{children}</div>
      <div class="row end">
        <button type="button" onClick={onNo}>
          No, leave it
        </button>
        <button type="button" class={danger ? "danger" : "primary"} onClick={onYes}>
          {yes}
        </button>
      </div>
    </dialog>
  );
}
