// A submission as curl, Python and grpcurl, ready to copy.

import type { JSX } from "preact";
import { useState } from "preact/hooks";

import { CopyButton } from "../parts/copy.tsx";
import type { SubmitTaskRequest } from "../plane/contract.ts";
import { snippet, type Language } from "./snippets.ts";

const LANGUAGES: readonly { language: Language; name: string }[] = [
  { language: "curl", name: "curl" },
  { language: "python", name: "Python" },
  { language: "grpcurl", name: "grpcurl" },
];

export function SnippetTabs({ request }: { request: SubmitTaskRequest }): JSX.Element {
  const [language, setLanguage] = useState<Language>("curl");
  const text = snippet(language, request, location.origin);
  return (
    <>
      <div class="tabs" role="group" aria-label="Language">
        {LANGUAGES.map((each) => (
          <button key={each.language} type="button" aria-pressed={each.language === language} onClick={() => setLanguage(each.language)}>
            {each.name}
          </button>
        ))}
        <span class="gap" />
        <CopyButton text={text} label={`Copy as ${language}`} />
      </div>
      <pre class="code" tabIndex={0}>{text}</pre>
    </>
  );
}
