"""What callback URLs mean, and which never mean anything."""

import pytest

from callsheet.runtime.targets import NOWHERE, TargetRefused, callback_endpoint, parse_target


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
    assert callback_endpoint(url) == NOWHERE


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("https://a.example/hook", "https://a.example:443/hook"),
        ("https://A.example:443/hook?task=7#top", "https://a.example:443/hook"),
        ("https://a.example", "https://a.example:443/"),
        ("http://[::1]:8080/ä?b", "http://[::1]:8080/%C3%A4"),
    ],
)
def test_an_endpoint_is_an_origin_and_a_path(url: str, endpoint: str) -> None:
    assert callback_endpoint(url) == endpoint
