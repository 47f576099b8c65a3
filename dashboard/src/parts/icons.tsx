// The page's own drawings: every state has its own shape, so that colour never tells alone.

import type { JSX } from "preact";

import type { StateName } from "../tasks/states.ts";

function Icon({ children, label }: { children: JSX.Element | JSX.Element[]; label?: string }): JSX.Element {
  const named = label === undefined ? { "aria-hidden": true as const } : { role: "img" as const, "aria-label": label };
  return (
    <svg class="icon" viewBox="0 0 16 16" fill="none" stroke="currentColor" stroke-width="1.6" stroke-linecap="round" stroke-linejoin="round" {...named}>
      {children}
    </svg>
  );
}

const STATE_SHAPES: Readonly<Record<StateName, JSX.Element>> = {
  pending: <circle cx="8" cy="8" r="5.2" stroke-dasharray="2.2 2.4" />,
  running: <path d="M13.2 8A5.2 5.2 0 1 1 8 2.8" />,
  succeeded: <path d="M3.2 8.6l3.2 3.2 6.4-7.2" />,
  failed: <path d="M4.2 4.2l7.6 7.6M11.8 4.2l-7.6 7.6" />,
  cancelled: <path d="M4.4 11.6l7.2-7.2M8 2.4a5.6 5.6 0 1 0 0 11.2A5.6 5.6 0 0 0 8 2.4z" />,
};

export function StateIcon({ state }: { state: StateName }): JSX.Element {
  return <Icon>{STATE_SHAPES[state]}</Icon>;
}

/** The mark of the house: a slate, clapped open. */
export function Slate(): JSX.Element {
  return (
    <svg class="slate" viewBox="0 0 24 24" aria-hidden="true">
      <path class="slate-stick" d="M2.6 7.7 20.3 3l.9 3.3L3.5 11z" />
      <path class="slate-stripes" d="m6.7 6.6 2.4 2.8m2.4-4.1 2.4 2.8m2.5-4.1 2.4 2.8" />
      <path class="slate-board" d="M3 11h18v9.2a.8.8 0 0 1-.8.8H3.8a.8.8 0 0 1-.8-.8z" />
    </svg>
  );
}

export const Sun = (): JSX.Element => (
  <Icon>
    <circle cx="8" cy="8" r="2.8" />
    <path d="M8 1.5v1.4M8 13.1v1.4M1.5 8h1.4M13.1 8h1.4M3.4 3.4l1 1M11.6 11.6l1 1M12.6 3.4l-1 1M4.4 11.6l-1 1" />
  </Icon>
);

export const Moon = (): JSX.Element => (
  <Icon>
    <path d="M13 9.6A5.6 5.6 0 1 1 6.4 3a4.4 4.4 0 0 0 6.6 6.6z" />
  </Icon>
);

export const Contrast = (): JSX.Element => (
  <Icon>
    <circle cx="8" cy="8" r="5.4" />
    <path d="M8 2.6v10.8A5.4 5.4 0 0 0 8 2.6z" fill="currentColor" />
  </Icon>
);

export const Leave = (): JSX.Element => (
  <Icon>
    <path d="M6.4 2.8H3.6a.8.8 0 0 0-.8.8v8.8a.8.8 0 0 0 .8.8h2.8M10.4 11l3-3-3-3M13.2 8H6.2" />
  </Icon>
);

export const Search = (): JSX.Element => (
  <Icon>
    <circle cx="7" cy="7" r="4.2" />
    <path d="M10.2 10.2l3.4 3.4" />
  </Icon>
);

export const Copy = (): JSX.Element => (
  <Icon>
    <path d="M5.6 5.6h7.6v7.6H5.6zM10.4 5.4V2.8H2.8v7.6h2.6" />
  </Icon>
);
