// The composition root of the page.

import { render } from "preact";

import { App } from "./app.tsx";
import { askWho } from "./plane/session.ts";
import { applyTheme } from "./theme.ts";

applyTheme();
const root = document.getElementById("app");
if (root === null) throw new Error("index.html has no element of the id app");
render(<App />, root);
void askWho();
