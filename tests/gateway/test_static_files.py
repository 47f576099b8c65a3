"""The dashboard's files: nothing else is served, nothing else may run, hashed names for ever."""

from pathlib import Path

import httpx
import pytest

from callsheet.gateway.app import Application
from callsheet.gateway.static_files import StaticFiles


@pytest.fixture
def build(tmp_path: Path) -> Path:
    """A folder as the dashboard's build makes it."""
    folder = tmp_path / "static"
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_text("<!doctype html><title>Callsheet</title>")
    (folder / "assets" / "index-B4x9_kQz.js").write_text("export {}")
    (tmp_path / "secret.txt").write_text("secret")
    (folder / "link.txt").symlink_to(tmp_path / "secret.txt")
    return folder


def client(folder: Path) -> httpx.AsyncClient:
    """Return a client of an application that serves the folder."""
    app = Application(StaticFiles(folder).routes())
    transport = httpx.ASGITransport(app=app)
    return httpx.AsyncClient(transport=transport, base_url="http://gateway")


async def test_the_page_is_at_the_root_and_lets_nothing_foreign_run(build: Path) -> None:
    async with client(build) as http:
        answer = await http.get("/")
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert "Callsheet" in answer.text
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self';")
        assert "unsafe" not in policy
        assert answer.headers["cache-control"] == "no-cache"
        again = await http.get("/", headers={"if-none-match": answer.headers["etag"]})
        assert again.status_code == 304


async def test_a_name_with_a_digest_is_kept_for_ever(build: Path) -> None:
    async with client(build) as http:
        answer = await http.get("/assets/index-B4x9_kQz.js")
        assert answer.headers["content-type"].startswith("text/javascript")
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"


@pytest.mark.parametrize(
    "path",
    ["/assets", "/assets/", "/nothing.js", "/../secret.txt", "/%2e%2e/secret.txt", "/link.txt"],
)
async def test_nothing_but_the_build_is_served(build: Path, path: str) -> None:
    async with client(build) as http:
        assert (await http.get(path)).status_code == 404


def test_without_a_build_there_is_no_dashboard(tmp_path: Path) -> None:
    assert StaticFiles(tmp_path / "absent").routes() == []
    (tmp_path / "half.js").write_text("")
    assert StaticFiles(tmp_path).routes() == []
