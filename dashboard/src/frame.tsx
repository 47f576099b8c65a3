// The frame around every screen: the name of the house, the way around, and what the page itself can do.

import type { ComponentChildren, JSX } from "preact";

import { Contrast, Leave, Moon, Slate, Sun } from "./parts/icons.tsx";
import { place } from "./place.ts";
import type { Principal } from "./plane/contract.ts";
import { chooseProject, may, project, projects, signOut } from "./plane/session.ts";
import { formatPlace, type Screen } from "./router.ts";
import { nextTheme, theme } from "./theme.ts";

const LINKS: readonly { screen: Screen; name: string; needs: "read" | "submit" | "operate" }[] = [
  { screen: "now", name: "Now", needs: "operate" },
  { screen: "tasks", name: "Tasks", needs: "read" },
  { screen: "playground", name: "Playground", needs: "submit" },
  { screen: "deliveries", name: "Deliveries", needs: "operate" },
  { screen: "dead-letters", name: "Dead letters", needs: "read" },
  { screen: "workers", name: "Workers", needs: "operate" },
];

export function Frame({ principal, children }: { principal: Principal; children: ComponentChildren }): JSX.Element {
  return (
    <div class="frame">
      <a class="skip" href="#main" onClick={(event) => (event.preventDefault(), document.getElementById("main")?.focus())}>
        Skip to the content
      </a>
      <header class="top">
        <a class="brand" href="#/now" aria-label="Callsheet, to the first screen">
          <Slate />
          <span>Callsheet</span>
        </a>
        <nav aria-label="Screens">
          <ul>
            {LINKS.filter((link) => may.value[link.needs]).map((link) => (
              <li key={link.screen}>
                <a href={formatPlace({ screen: link.screen })} {...(place.value.screen === link.screen ? { "aria-current": "page" } : {})}>
                  {link.name}
                </a>
              </li>
            ))}
          </ul>
        </nav>
        <div class="top-end">
          <ProjectChoice />
          <ThemeButton />
          <button type="button" class="quiet" onClick={() => void signOut()} title={`Signed in with the key ${principal.keyId}`}>
            <Leave />
            Sign out
          </button>
        </div>
      </header>
      {children}
    </div>
  );
}

function ProjectChoice(): JSX.Element {
  if (projects.value.length < 2) return <span class="project">{project.value}</span>;
  return (
    <label class="project">
      <span class="unseen">Project</span>
      <select value={project.value} onChange={(event) => chooseProject(event.currentTarget.value)}>
        {projects.value.map((name) => (
          <option key={name} value={name}>
            {name}
          </option>
        ))}
      </select>
    </label>
  );
}

function ThemeButton(): JSX.Element {
  const chosen = theme.value;
  return (
    <button type="button" class="quiet" onClick={nextTheme} aria-label={`Colours: ${chosen}. Change.`} title={`Colours: ${chosen}`}>
      {chosen === "light" ? <Sun /> : chosen === "dark" ? <Moon /> : <Contrast />}
    </button>
  );
}
