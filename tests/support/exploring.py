"""Schemathesis as a library: requests made of a document, good and bad, and what is answered."""

import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, cast

import requests
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable


@contextmanager
def plain_imports() -> Generator[None]:
    """Import as any program does: pytest rewrites the asserts of all that could be its plugin.

    Of schemathesis these are a hundred modules, and it takes longer than all the requests.
    """
    found = sys.meta_path[:]
    sys.meta_path[:] = [each for each in found if not type(each).__module__.startswith("_pytest")]
    try:
        yield
    finally:
        sys.meta_path[:] = found


with plain_imports():
    import schemathesis
    from schemathesis import GenerationMode
    from schemathesis.specs.openapi import checks

    #: A document is only read by modules that are imported when the first is.
    schemathesis.openapi.from_dict(
        {"openapi": "3.1.0", "info": {"title": "", "version": "1"}, "paths": {}}
    )

#: What an answer is held to; schemathesis leaves the types of its checks open.
CHECKS = [
    getattr(checks, name)
    for name in (
        "status_code_conformance",
        "content_type_conformance",
        "response_schema_conformance",
    )
]
#: What may be answered with a server error: work that this build cannot do.
UNAVAILABLE = (501, "TASK_TYPE_UNAVAILABLE")


class Explorer:
    """Makes requests of a document, and holds the answers to it."""

    def __init__(
        self,
        document: Mapping[str, Any],
        *,
        url: str,
        headers: Mapping[str, str],
        ids: Mapping[str, str],
    ) -> None:
        """*ids*: parameters of paths for which every second request has this very value."""
        self._schema = cast("Any", schemathesis.openapi.from_dict(dict(document)))
        self._url = url
        self._headers = dict(headers)
        self._ids = ids
        self._session = requests.Session()
        self._session.trust_env = False
        #: How many requests each operation was asked with, by method and path.
        self.asked: dict[tuple[str, str], int] = {}

    def operations(self) -> list[Any]:
        """Return all operations of the document."""
        return [result.ok() for result in self._schema.get_all_operations()]

    def explore(self, operation: Any, *, examples: int) -> None:  # noqa: ANN401  # schemathesis leaves its types open
        """Ask with so many good requests, and as many bad ones."""
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            # Where nothing can be sent, nothing can be wrong with it.
            with suppress(Unsatisfiable):
                self._explore(operation.as_strategy(mode), examples=examples)

    def _explore(self, cases: Any, *, examples: int) -> None:  # noqa: ANN401  # a strategy of cases
        @given(cases)
        @settings(
            max_examples=examples,
            database=None,
            deadline=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=cast("list[HealthCheck]", list(HealthCheck)),
        )
        def explore(case: Any) -> None:  # noqa: ANN401  # a case of whichever operation
            self._ask(case)

        explore()

    def _ask(self, case: Any) -> None:  # noqa: ANN401  # a case of whichever operation
        asked = (case.method, case.operation.path)
        count = self.asked[asked] = self.asked.get(asked, 0) + 1
        if count % 2:
            case.path_parameters |= {
                name: value for name, value in self._ids.items() if name in case.path_parameters
            }
        answer = case.call(base_url=self._url, headers=self._headers, session=self._session)
        # A stream of Connect is no JSON, whatever its messages are.
        is_stream = "connect+" in answer.headers.get("content-type", [""])[0]
        case.validate_response(answer, checks=CHECKS[:2] if is_stream else CHECKS)
        if answer.status_code >= 500:
            assert (answer.status_code, answer.json()["reason"]) == UNAVAILABLE
