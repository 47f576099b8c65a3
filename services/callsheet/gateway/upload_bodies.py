"""The file in the body of an upload, piece by piece: the body itself, or the one file of a form."""

from collections.abc import AsyncGenerator
from http import HTTPStatus
from typing import Final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from callsheet.client.errors import Violation
from callsheet.gateway.bodies import media_type_of, require_plain
from callsheet.gateway.edge import too_large
from callsheet.gateway.problems import Refused, invalid

FORM: Final = "multipart/form-data"
#: The field of a form that holds the file.
FIELD: Final = "file"
#: What a form may have around its file.
_AROUND: Final = 64 * 1024


class UploadBody:
    """One upload's body; *declared* is known once the first piece is there."""

    def __init__(self, request: Request, *, largest: int) -> None:
        """Look at the head. Raises Refused: 413 for too much, 415 when it is encoded."""
        require_plain(request)
        self._request = request
        self._is_form = media_type_of(request) == FORM
        self._largest = largest
        #: The media type that the client says the file has.
        self.declared = "" if self._is_form else media_type_of(request)
        length = request.headers.get("content-length", "")
        around = _AROUND if self._is_form else 0
        known = int(length[:20]) if length.isascii() and length.isdecimal() else 0
        if known > largest + around:
            raise too_large(largest)
        #: How many bytes the file has at least, as the head says; zero when it does not.
        self.announced = max(0, known - around)

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """Yield the bytes of the file as they come.

        Raises Refused: 413 past the largest, 400 for a form that is broken or has no such file;
        starlette.requests.ClientDisconnect when the client breaks off.
        """
        taken = 0
        async for piece in self._form_pieces() if self._is_form else self._request.stream():
            taken += len(piece)
            if taken > self._largest:
                raise too_large(self._largest)
            if piece:
                yield piece

    async def _form_pieces(self) -> AsyncGenerator[bytes, None]:
        form = _Form(self._request.headers["content-type"])
        around = 0
        async for chunk in self._request.stream():
            pieces = form.fed(chunk)
            self.declared = form.declared
            around += len(chunk) - sum(map(len, pieces))
            if around > _AROUND:
                raise _broken("there is too much in it besides the file")
            for piece in pieces:
                yield piece
        form.finish()


class _Form:
    """Reads a form as it comes, and keeps nothing of it."""

    def __init__(self, content_type: str) -> None:
        _, options = parse_options_header(content_type)
        boundary = options.get(b"boundary")
        if not boundary:
            raise _broken("its content-type names no boundary")
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._on_part_begin,
                    "on_header_field": self._on_header_field,
                    "on_header_value": self._on_header_value,
                    "on_header_end": self._on_header_end,
                    "on_headers_finished": self._on_headers_finished,
                    "on_part_data": self._on_piece,
                    "on_end": self._on_end,
                },
            )
        except FormParserError as error:
            raise _broken(str(error)) from None
        self.declared = ""
        self._pieces: list[bytes] = []
        self._name = self._value = b""
        self._headers: dict[bytes, bytes] = {}
        self._has_file = False
        self._has_ended = False

    def fed(self, chunk: bytes) -> list[bytes]:
        """Return what of the file is in the next chunk of the body. Raises Refused, 400."""
        self._pieces = []
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise _broken(str(error)) from None
        return self._pieces

    def finish(self) -> None:
        """Raise Refused, 400, unless the form came to its end and had a file."""
        if not self._has_ended:
            raise _broken("it ends in the middle")
        if not self._has_file:
            raise invalid([Violation(FIELD, "is required, as a file")])

    def _on_part_begin(self) -> None:
        self._headers = {}

    def _on_header_field(self, content: bytes, start: int, end: int) -> None:
        self._name += content[start:end]

    def _on_header_value(self, content: bytes, start: int, end: int) -> None:
        self._value += content[start:end]

    def _on_header_end(self) -> None:
        self._headers[self._name.lower()] = self._value
        self._name = self._value = b""

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        name = options.get(b"name", b"").decode("utf-8", "replace")
        if name != FIELD:
            raise invalid([Violation(name[:128], "there is no such field")])
        if self._has_file:
            raise invalid([Violation(FIELD, "is given twice")])
        self._has_file = True
        media_type, _ = parse_options_header(self._headers.get(b"content-type"))
        self.declared = media_type.decode("latin-1")

    def _on_piece(self, content: bytes, start: int, end: int) -> None:
        self._pieces.append(content[start:end])

    def _on_end(self) -> None:
        self._has_ended = True


def _broken(what: str) -> Refused:
    return Refused(
        HTTPStatus.BAD_REQUEST, "FORM_MALFORMED", f"the body is no form that can be read: {what}"
    )
