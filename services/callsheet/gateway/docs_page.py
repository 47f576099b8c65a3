"""The OpenAPI document as a page for people, without a script and without a request elsewhere."""

import hashlib
import json
from base64 import b64encode
from collections.abc import Iterator, Mapping
from html import escape
from typing import Final, cast

from callsheet.gateway.json_schemas import Schema

_STYLE: Final = """
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif; }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2rem; text-transform: capitalize; }
details { border: 1px solid #8884; border-radius: 6px; margin: .4rem 0; padding: .4rem .7rem; }
summary { cursor: pointer; }
code, pre { font: 13px/1.45 ui-monospace, monospace; }
pre { overflow-x: auto; }
.method { display: inline-block; min-width: 4.5em; font-weight: 600; }
.said { opacity: .75; margin-left: .5em; }
"""
_STYLE_DIGEST: Final = b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
#: What the page may load: its own style.
POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_DIGEST}'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)


def docs_page(document: Schema) -> str:
    """Return the document as a page for people."""
    paths = cast("dict[str, dict[str, Schema]]", document["paths"])
    tags: dict[str, list[str]] = {}
    for path, methods in paths.items():
        for method, operation in methods.items():
            tag = cast("list[str]", operation["tags"])[0]
            tags.setdefault(tag, []).append(_shown(path, method, operation))
    about = str(cast("Schema", document["info"])["description"])
    sections = "".join(f"<h2>{escape(tag)}</h2>{''.join(each)}" for tag, each in tags.items())
    schemas = cast("dict[str, dict[str, Schema]]", document["components"])["schemas"]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>Callsheet API</title><style>{_STYLE}</style></head><body>"
        f"<h1>Callsheet API</h1><p>{escape(about)}</p>"
        '<p>The whole of it for tools: <a href="/openapi.json">openapi.json</a></p>'
        f"{sections}<h2>Schemas</h2>{''.join(_schemas(schemas))}</body></html>"
    )


def _shown(path: str, method: str, operation: Schema) -> str:
    told = {
        name: operation[name]
        for name in ("parameters", "requestBody", "responses")
        if operation.get(name)
    }
    return (
        f'<details><summary><span class="method">{method.upper()}</span><code>{escape(path)}'
        f'</code><span class="said">{escape(str(operation["summary"]))}</span></summary>'
        f"<pre>{_indented(told)}</pre></details>"
    )


def _schemas(schemas: Mapping[str, object]) -> Iterator[str]:
    for name, schema in sorted(schemas.items()):
        yield (
            f'<details id="{escape(name)}"><summary><code>{escape(name)}</code></summary>'
            f"<pre>{_indented(schema)}</pre></details>"
        )


def _indented(value: object) -> str:
    return escape(json.dumps(value, indent=2, ensure_ascii=False))
