"""A PayloadCMS as far as its media collection goes, which fails by a script."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.support.receiver import Received, Receiver, Reply


@dataclass(frozen=True)
class Document:
    """One upload: its fields, and the request that made it."""

    fields: dict[str, Any]
    body: bytes


class FaultyPayload(Receiver):
    """Answers its first searches and uploads as it is told, and all others as it should.

    When it *makes_despite*, what is uploaded is there, however the upload is answered.
    """

    def __init__(
        self,
        *,
        searches: Sequence[Reply] = (),
        uploads: Sequence[Reply] = (),
        makes_despite: bool = False,
    ) -> None:
        super().__init__()
        self._searches = list(searches)
        self._uploads = list(uploads)
        self._makes_despite = makes_despite
        #: Whether searches find nothing, as while an upload is still being worked on.
        self.hides = False
        self.documents: list[Document] = []

    @property
    def api(self) -> str:
        """The URL of its REST API."""
        return f"http://127.0.0.1:{self.port}/api"

    def reply_to(self, received: Received) -> Reply:
        """Return what this request is answered."""
        if b"form-data" in received.body:
            return self._uploaded(received)
        if self._searches:
            return self._searches.pop(0)
        asked = parse_qs(urlsplit(received.path).query)["where[sourceHash][equals]"][0]
        docs = [
            {"id": number, "sourceHash": asked}
            for number, document in enumerate(self.documents, start=1)
            if document.fields["sourceHash"] == asked and not self.hides
        ]
        return Reply(body=json.dumps({"docs": docs}).encode())

    def _uploaded(self, received: Received) -> Reply:
        fault = self._uploads.pop(0) if self._uploads else None
        if fault is None or fault.status == 201 or self._makes_despite:
            fields = json.loads(_between(received.body, b"{", b"}"))
            self.documents.append(Document(fields, received.body))
        if fault is not None and fault.status != 201:
            return fault
        made = json.dumps({"doc": {"id": len(self.documents)}}).encode()
        return replace(fault or Reply(), status=201, body=made)


def _between(content: bytes, start: bytes, end: bytes) -> bytes:
    return start + content.partition(start)[2].partition(end)[0] + end
