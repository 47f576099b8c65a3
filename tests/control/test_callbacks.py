"""Which callback URLs are refused before anything is written."""

import pytest

from callsheet.control.callbacks import CallbackRules
from callsheet.ledger.errors import InvalidField

STRICT = CallbackRules(http=False, loopback=False)
DEVELOPMENT = CallbackRules(http=True, loopback=True)

ALWAYS_GOOD = [
    "https://example.com",
    "https://example.com/",
    "https://example.com:8443/hook?x=1#y",
    "https://EXAMPLE.com./hook",
    "https://bücher.example/",
    "https://xn--bcher-kva.example/",
    "https://8.8.8.8/",
    "https://[2001:4860:4860::8888]:443/",
    "https://a_b.example/",
    "https://hook.internal/",
]

ALWAYS_BAD = [
    "https://user@example.com/",
    "https://user:pass@example.com/",
    "https://example.com@10.0.0.1/",
    "https://example.com\\@10.0.0.1/",
    "https://10.0.0.1/",
    "https://0xa9fea9fe/",
    "https://169.254.169.254/latest/meta-data",
    "https://[::ffff:169.254.169.254]/",
    "https://[64:ff9b::a9fe:a9fe]/",
    "https://[fd00::1]/",
    "https://192.168.1.1:443/",
    "https://１０.0.0.1/",  # noqa: RUF001  # the disguise under test
    "https://example.com:0/",
    "https://example.com:65536/",
    "https://example.com:port/",
    "https://[::1/",
    "https://[example.com]/",
    "https://[v1.a]/",
    "https://1.2.3.4.5/",
    "https://999.1.1.1/",
    "https://a..b/",
    "https://-a.example/",
    "https://exa mple.com/",
    "https://example.com/\x00",
    f"https://{'a' * 64}.example/",
    f"https://{'a.' * 200}example/",
    "https://:443/",
]

THIS_MACHINE = [
    "http://127.0.0.1:8080/hook",
    "http://localhost:8080/hook",
    "http://dev.localhost/hook",
    "http://[::1]:8080/",
    "http://2130706433/",
    "http://127.1/",
    "http://LOCALHOST./",
]


@pytest.mark.parametrize("url", ALWAYS_GOOD)
def test_a_public_https_url_is_good_everywhere(url: str) -> None:
    STRICT.check(url)
    DEVELOPMENT.check(url)


@pytest.mark.parametrize("url", ALWAYS_BAD)
@pytest.mark.parametrize("rules", [STRICT, DEVELOPMENT], ids=["strict", "development"])
def test_a_private_or_malformed_url_is_bad_everywhere(rules: CallbackRules, url: str) -> None:
    with pytest.raises(InvalidField) as refused:
        rules.check(url)
    assert [field for field, _ in refused.value.violations] == ["callback.url"]


@pytest.mark.parametrize("url", THIS_MACHINE)
def test_this_machine_is_good_in_development_alone(url: str) -> None:
    DEVELOPMENT.check(url)
    with pytest.raises(InvalidField):
        CallbackRules(http=True, loopback=False).check(url)


def test_plain_http_is_good_only_where_a_setting_allows_it() -> None:
    DEVELOPMENT.check("http://example.com/")
    with pytest.raises(InvalidField, match="https"):
        STRICT.check("http://example.com/")
