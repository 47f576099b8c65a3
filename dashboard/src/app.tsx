// The page: who is signed in, where they are, and the frame around it.

import type { JSX } from "preact";
import { useEffect, useRef } from "preact/hooks";

import { Frame } from "./frame.tsx";
import { Notices } from "./parts/notices.tsx";
import { place } from "./place.ts";
import { project, session } from "./plane/session.ts";
import type { Place } from "./router.ts";
import { DeadLetters } from "./screens/dead-letters.tsx";
import { Deliveries } from "./screens/deliveries.tsx";
import { Now } from "./screens/now.tsx";
import { PlaygroundScreen } from "./screens/playground.tsx";
import { SignIn } from "./screens/sign-in.tsx";
import { TaskScreen } from "./screens/task.tsx";
import { TasksScreen } from "./screens/tasks.tsx";
import { Workers } from "./screens/workers.tsx";

export function App(): JSX.Element {
  const who = session.value;
  return (
    <>
      {who.state === "asking" && <p class="asking" role="status">Asking the gateway who you are …</p>}
      {who.state === "out" && <SignIn notice={who.notice} />}
      {who.state === "in" && (
        <Frame principal={who.principal}>
          <Main at={place.value} />
        </Frame>
      )}
      <Notices />
    </>
  );
}

const TITLES: Readonly<Record<Place["screen"], string>> = {
  now: "Now",
  tasks: "Tasks",
  playground: "Playground",
  deliveries: "Deliveries",
  "dead-letters": "Dead letters",
  workers: "Workers",
};

function Main({ at }: { at: Place }): JSX.Element {
  const main = useRef<HTMLElement>(null);
  const first = useRef(true);
  const where = `${at.screen}/${at.part}`;
  useEffect(() => {
    document.title = `${at.part ? `${at.part.slice(0, 8)} · ` : ""}${TITLES[at.screen]} · Callsheet`;
    // Whoever hears the page rather than sees it is told that it is another one.
    if (!first.current) main.current?.focus({ preventScroll: true });
    first.current = false;
  }, [where, at.part, at.screen]);
  return (
    <main id="main" ref={main} tabIndex={-1} class={`screen screen-${at.screen}`}>
      <ScreenOf at={at} />
    </main>
  );
}

function ScreenOf({ at }: { at: Place }): JSX.Element {
  const of = project.value;
  switch (at.screen) {
    case "now":
      return <Now key={of} project={of} />;
    case "tasks":
      return at.part ? <TaskScreen key={at.part} id={at.part} /> : <TasksScreen project={of} typed={at.query["filter"] ?? ""} />;
    case "playground":
      return <PlaygroundScreen key={`${of} ${at.query["from"] ?? ""}`} project={of} type={at.part} from={at.query["from"] ?? ""} />;
    case "deliveries":
      return <Deliveries key={of} project={of} query={at.query} />;
    case "dead-letters":
      return <DeadLetters key={of} project={of} />;
    case "workers":
      return <Workers />;
  }
}
