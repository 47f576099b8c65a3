"""Why PayloadCMS did not do what it was asked.

PayloadError
├── PayloadUnavailable   it cannot be reached, takes too long, or is in trouble: it passes
├── AccessRefused        401, 403: the key is not one, or may not do this
├── MediaTooLarge        413
├── RequestRefused       any other 4xx, and redirects
└── AnswerMalformed      an answer that is none of PayloadCMS's
"""

from datetime import timedelta


class PayloadError(Exception):
    """Something went wrong; the message is one sentence for people, and never shows the key."""

    #: Whether it may be over in a minute, with nobody doing anything.
    is_passing = False

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class PayloadUnavailable(PayloadError):
    """It cannot be reached, takes too long, or answers that it is in trouble."""

    is_passing = True

    def __init__(
        self,
        message: str,
        *,
        retry_after: timedelta | None = None,
        sent: bool = True,
        is_away: bool = False,
        is_open: bool = False,
    ) -> None:
        super().__init__(message)
        #: How long it asks to be left alone.
        self.retry_after = retry_after
        #: Whether the request may have reached it, and so may have been done.
        self.sent = sent
        #: Whether it is PayloadCMS that is in trouble, whatever it is asked, not this one request.
        self.is_away = is_away
        #: Whether it has the whole request and has not answered: it may still do what was asked.
        self.is_open = is_open


class AccessRefused(PayloadError):
    """The API key is not known to it, or its user may not do this."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(
            f"PayloadCMS answered {status}: {reason}; is PAYLOAD_API_KEY that of a user who may"
            " read and create media?"
        )
        self.status = status


class MediaTooLarge(PayloadError):
    """The file is larger than it takes."""

    def __init__(self, reason: str, *, limit: int | None) -> None:
        told = "" if limit is None else f" at most {limit} bytes are taken;"
        super().__init__(
            f"PayloadCMS answered 413:{told} {reason}; its upload.limits.fileSize says how much"
        )
        self.limit = limit


class RequestRefused(PayloadError):
    """It understood who asks, and refuses what is asked."""

    def __init__(self, status: int, reason: str, *, clash: bool = False) -> None:
        super().__init__(f"PayloadCMS answered {status}: {reason}")
        self.status = status
        #: Whether a field that must be unique has that value already.
        self.is_clash = clash


class AnswerMalformed(PayloadError):
    """What answered is no PayloadCMS, or not one that this version knows."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"what answers at PAYLOAD_API_URL is not as expected: {reason}")
