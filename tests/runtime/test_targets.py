"""What callback URLs mean, and which never mean anything."""

import pytest

from callsheet.runtime.targets import NOWHERE, TargetRefused, origin_of, parse_target


@pytest.mark.parametrize(
    ("url", "origin", "path", "host"),
    [
        ("https://a.example/hook?a=b", "https://a.example:443", b"/hook?a=b", b"a.example"),
        ("http://127.0.0.1:3010/api", "http://127.0.0.1:3010", b"/api", b"127.0.0.1:3010"),
        ("https://[2a00::1]:8443", "https://[2a00::1]:8443", b"/", b"[2a00::1]:8443"),
        ("HTTPS://A.Example", "https://a.example:443", b"/", b"a.example"),
        ("https://ä.example/ä", "https://xn--4ca.example:443", b"/%C3%A4", b"xn--4ca.example"),
    ],
)
def test_a_url_tells_who_is_dialled(url: str, origin: str, path: bytes, host: bytes) -> None:
    target = parse_target(url)
    assert (target.origin, target.path, target.host_header) == (origin, path, host)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "https://",
        "ftp://media.example/",
        "file:///etc/passwd",
        "https://user:password@media.example/",
        "https://media.example:99999/",
        "https://media.example:0/",
        "https://media.example:port/",
        "https://[::1",
        "https://a\x00b/",
        "//media.example/",
        "http://①②⑦.⓪.⓪.①/",
        "http://0177.0.0.1/",
    ],
)
def test_what_cannot_be_dialled_is_refused(url: str) -> None:
    with pytest.raises(TargetRefused):
        parse_target(url)
    assert origin_of(url) == NOWHERE
