# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""What a user gets of a static frontend: at its front, and through the edge."""

from __future__ import annotations

import gzip
import subprocess
import uuid
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from ansible_collections.fivepointers.platform.plugins.module_utils.build.builder import BROTLI
from ansible_collections.fivepointers.platform.plugins.module_utils.release import releases
from ansible_collections.fivepointers.platform.plugins.plugin_utils.deploy.compose import front_text

from tests.unit.nginx.live import DOMAIN, HAS_BROTLI, NODE, Answer, Prefix, edge_plan, put_certificate, render, start
from tests.unit.release.conftest import make_spec

IMMUTABLE = "public, max-age=31536000, immutable"
PAGE, SCRIPT, EARLIER = "<h1>the page</h1>\n" * 200, "let answer = 42;\n" * 300, "let answer = 41;\n" * 300
BUILT = {
    "index.html": PAGE,
    "about.html": "about",
    "guide/index.html": "<h1>guide</h1>",
    "two words/index.html": "<h1>two words</h1>",
    "icon.svg": "<svg/>",
    "robots.txt": "User-agent: *\n" * 200,
    "assets/app-2.js": SCRIPT,
    "assets/app-2.js.map": "{}" * 600,
    ".env": "SECRET=1",
    "assets/.hidden.js": "SECRET=2",
    ".well-known/security.txt": "Contact: mailto:security@example.test",
    # The environment's own wins.
    "runtime-config.js": "window.__CONFIG__ = 'of the build';\n" * 50,
}
# What each kind of file says that it is: browsers run, render and install nothing that claims to be anything else.
TYPES = {
    "module.mjs": "text/javascript; charset=utf-8",
    "classic.js": "text/javascript; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
    "app.js.map": "application/json",
    "data.json": "application/json",
    "app.webmanifest": "application/manifest+json",
    "areas.geojson": "application/geo+json",
    "code.wasm": "application/wasm",
    "photo.avif": "image/avif",
    "photo.webp": "image/webp",
    "icon.svg": "image/svg+xml",
    "favicon.ico": "image/x-icon",
    "text.woff2": "font/woff2",
    "text.ttf": "font/ttf",
    "text.otf": "font/otf",
    "subtitles.vtt": "text/vtt; charset=utf-8",
    "clip.mp4": "video/mp4",
    "clip.webm": "video/webm",
    "song.mp3": "audio/mpeg",
    "scene.glb": "model/gltf-binary",
    "page.xhtml": "application/xhtml+xml",
    "table.csv": "text/csv; charset=utf-8",
    "readme.md": "text/markdown; charset=utf-8",
    "paper.pdf": "application/pdf",
    "setup.exe": "application/octet-stream",
}
# Files without a suffix that iOS and others ask for.
ASSOCIATION = ("apple-app-site-association", ".well-known/apple-app-site-association")
BUILT |= dict.fromkeys([*(f"{folder}types/{name}" for folder in ("", "assets/") for name in TYPES), *ASSOCIATION], "x")
PACKED = ("index.html", "assets/app-2.js", "assets/app-2.js.map", "runtime-config.js")
needs_brotli = pytest.mark.skipif(not HAS_BROTLI, reason="this nginx has no module for brotli")


def put(folder: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)


@pytest.fixture(scope="module", params=[True, False], ids=["spa", "pages"])
def site(request: Any, tmp_path_factory: pytest.TempPathFactory, certificate: Path) -> Any:
    """A live release of a frontend behind the real edge, as an application of one page and as pages."""
    path = tmp_path_factory.mktemp("site")
    home, packing = path / "home" / "orders", path / "packing"
    put(home / "slots/blue", {f"app/{name}": content for name, content in BUILT.items()})
    put(home / "slots/blue", {"runtime-config.js": "window.__CONFIG__ = {};\n", "release.json": "{}"})
    put(home / "slots/green/app", {"index.html": "<h1>the next page</h1>"})
    put(home / "shared/assets", {"app-1.js": EARLIER})
    packed = [home / "slots/blue/app" / name for name in PACKED] + [home / "shared/assets/app-1.js"]
    put(packing, {str(number): file.read_text() for number, file in enumerate(packed)})
    subprocess.run([NODE, "-e", BROTLI, str(packing)], check=True)
    for number, file in enumerate(packed):
        Path(f"{file}.gz").write_bytes(gzip.compress(file.read_bytes(), mtime=0))
        Path(f"{file}.br").write_bytes((packing / f"{number}.br").read_bytes())
    prefix = Prefix(path / "nginx")
    with mock.patch.multiple(releases, HOME=str(path / "home"), STATE=str(path)):
        front = front_text(make_spec("static_frontend", spa=request.param))
    edge = {
        "nginx_proxy_domain": DOMAIN,
        "nginx_proxy_tls": {"mode": "files", "certificate": "x", "key": "y"},
        "nginx_proxy_edge": edge_plan(frontend=[f"127.0.0.1:{prefix.port(8080)}"]),
    }
    prefix.write({"fivepointers/front-orders.conf": front, **render(edge)})
    put_certificate(prefix.path, certificate)
    path.chmod(0o755)
    for live in start(prefix, certificate):
        live.spa, live.app, live.flag = request.param, home / "slots/blue/app", path / "orders.green"
        yield live


@pytest.fixture(params=["front", "edge"])
def get(request: Any, site: Any) -> Any:
    """Ask for a path, with headers."""

    def get(path: str, method: str = "GET", **headers: str) -> Answer:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        front = {"tls": False, "port": 8080} if request.param == "front" else {}
        answer = site.ask(DOMAIN, path, method, sent, **front)
        if request.param == "edge" and answer.status != 400:
            assert answer.one("X-Content-Type-Options") == "nosniff", path
            assert answer.one("Strict-Transport-Security"), path
        return answer

    return get


# --- pages and what is not there ---


@pytest.mark.parametrize("path", ["/", "/index.html", "/?a=b", "/guide/", "/guide/index.html"])
def test_a_page_is_asked_for_again(get: Any, path: str) -> None:
    answer = get(path)
    assert (answer.status, answer.one("Cache-Control")) == (200, "no-cache")
    assert answer.one("Content-Type") == "text/html; charset=utf-8"


@pytest.mark.parametrize("path", ["/orders/42", "/a.b/c", "/orders/", "/v1.2", "/%E2%82%AC", "/assetsx/a", "/u/a@b.co"])
def test_a_deep_link_is_the_page_in_an_application_of_one_page(get: Any, site: Any, path: str) -> None:
    answer = get(path)
    if site.spa:
        assert (answer.status, answer.body.decode(), answer.one("Cache-Control")) == (200, PAGE, "no-cache")
        assert answer.one("Content-Type") == "text/html; charset=utf-8"
    else:
        assert (answer.status, answer.one("Cache-Control")) == (404, "no-store")


@pytest.mark.parametrize(
    "path",
    [
        *("/assets/app-0.js", "/assets/", "/assets", "/assets/app-2.js/x", "/assets/app-0.js.map", "/favicon.ico"),
        *("/old/script.js", "/style.css", "/a/b.woff2", "/icon.png", "/app.js.map", "/.well-known/change-password"),
    ],
)
def test_a_missing_file_is_neither_a_page_nor_remembered(get: Any, site: Any, path: str) -> None:
    if path == "/assets" and site.spa:
        assert get(path).body.decode() == PAGE, "a deep link that happens to be called like a folder"
        return
    answer = get(path)
    assert (answer.status, answer.one("Cache-Control")) == (404, "no-store")
    assert b"the page" not in answer.body


@pytest.mark.parametrize("path", ["/.env", "/assets/.hidden.js", "/.git/config", "/guide/.htpasswd", "/%2eenv"])
def test_hidden_files_are_not_there(get: Any, path: str) -> None:
    answer = get(path)
    assert (answer.status, answer.one("Cache-Control")) == (404, "no-store")
    assert b"SECRET" not in answer.body


def test_what_is_well_known_is_not_hidden(get: Any) -> None:
    assert get("/.well-known/security.txt").body == BUILT[".well-known/security.txt"].encode()


@pytest.mark.parametrize(
    "path",
    [
        *("/../release.json", "/assets/../../release.json", "/%2e%2e/release.json", "/assets/%2e%2e/%2e%2e/release"),
        *("/..%2frelease.json", "/assets/..%2f..%2frelease.json", "/%2e%2e%2frelease.json", "/..%5crelease.json"),
        *("/%252e%252e/release.json", "/assets/..;/..;/release.json", "/x%00/../release.json", "/./../release.json"),
        *("/assets../release.json", "/....//release.json", "//../release.json", "/.//./..//release.json"),
    ],
)
def test_files_stay_inside(get: Any, site: Any, path: str) -> None:
    answer = get(path)
    assert answer.status in (400, 404) or (site.spa and answer.body.decode() == PAGE)


@pytest.mark.parametrize(
    ("path", "location"),
    [("/guide", "/guide/"), ("/guide?a=b&c=%20", "/guide/?a=b&c=%20"), ("/two%20words", "/two%20words/")],
)
def test_a_folders_page_has_a_slash_and_stays_where_users_are(get: Any, path: str, location: str) -> None:
    answer = get(path)
    assert (answer.status, answer.one("Location"), answer.one("Cache-Control")) == (301, location, "no-cache")


@pytest.mark.parametrize("path", ["//evil.net/guide", "//guide", "/guide%0d%0aX-Evil:%201", "/guide%2f..", "/\\guide"])
def test_no_path_leads_elsewhere(get: Any, path: str) -> None:
    answer = get(path)
    assert answer.one("Location") in (None, "/guide/") and answer.all("X-Evil") == []


# --- what a file is ---


@pytest.mark.parametrize("folder", ["/types/", "/assets/types/"])
def test_every_file_says_what_it_is(get: Any, folder: str) -> None:
    assert {name: get(folder + name).one("Content-Type") for name in TYPES} == TYPES


@pytest.mark.parametrize("name", ASSOCIATION)
def test_the_domain_names_its_apps(get: Any, site: Any, name: str) -> None:
    answer = get(f"/{name}")
    assert (answer.status, answer.body, answer.one("Content-Type")) == (200, b"x", "application/json")


# --- below a prefix, beside another frontend ---


@pytest.fixture(scope="module")
def beside(tmp_path_factory: pytest.TempPathFactory, certificate: Path) -> Any:
    """Two frontends of one name: one at its root, and one that was built for /admin and knows /admin/v1.0 as well."""
    path = tmp_path_factory.mktemp("beside")
    path.chmod(0o755)
    prefix = Prefix(path / "nginx")
    plan = edge_plan(
        **{name: [f"127.0.0.1:{prefix.port(port)}"] for name, port in (("frontend", 8080), ("manual", 8081))}
    )
    (host,) = [host for host in plan["virtual_hosts"] if host["server_name"] == DOMAIN]
    host["locations"][:1] = [{**host["locations"][0], "path": path} for path in ("/admin", "/admin/v1.0")]
    tls = {"mode": "files", "certificate": "x", "key": "y"}
    files = render({"nginx_proxy_domain": DOMAIN, "nginx_proxy_tls": tls, "nginx_proxy_edge": plan})
    fronts: tuple[tuple[str, int, list[str]], ...] = (("site", 8080, ["/"]), ("admin", 8081, ["/admin", "/admin/v1.0"]))
    for name, port, paths in fronts:
        built = {"index.html": name, "guide/index.html": f"guide of {name}", "assets/a.js": f"script of {name}"}
        put(path / name / "slots/blue", {f"app/{file}": text for file, text in built.items()})
        put(path / name, {"slots/blue/runtime-config.js": f"config of {name}", "shared/assets/b.js": f"old of {name}"})
        spec = make_spec("static_frontend", name=name, port=port, public=[{"path": item} for item in paths])
        with mock.patch.multiple(releases, HOME=str(path), STATE=str(path)):
            files[f"fivepointers/front-{name}.conf"] = front_text(spec)
    prefix.write(files)
    put_certificate(prefix.path, certificate)
    yield from start(prefix, certificate)


@pytest.mark.parametrize(("prefix", "name"), [("", "site"), ("/admin", "admin"), ("/admin/v1.0", "admin")])
def test_a_frontend_finds_its_files_below_its_prefix(beside: Any, prefix: str, name: str) -> None:
    found = {
        "/": name,
        "/orders/42": name,
        "/guide/": f"guide of {name}",
        "/assets/a.js": f"script of {name}",
        "/assets/b.js": f"old of {name}",
        "/runtime-config.js": f"config of {name}",
    }
    assert {path: beside.ask(DOMAIN, prefix + path).body.decode() for path in found} == found
    for path in ("/assets/gone.js", "/gone.mjs", "/.env"):
        assert beside.ask(DOMAIN, prefix + path).status == 404
    page, asset = (beside.ask(DOMAIN, prefix + path).one("Content-Security-Policy") for path in ("/", "/assets/a.js"))
    assert page and asset is None, "what a policy is for is a page"
    moved = beside.ask(DOMAIN, f"{prefix}/guide?a=b")
    assert (moved.status, moved.one("Location")) == (301, f"{prefix}/guide/?a=b")


def test_a_prefix_has_a_slash_and_ends_where_it_does(beside: Any) -> None:
    moved = beside.ask(DOMAIN, "/admin?a=b")
    assert (moved.status, moved.one("Location")) == (301, "/admin/?a=b")
    # As a health check asks the front, past the edge.
    assert beside.ask("x", "/", tls=False, port=8081).body == b"admin"
    for path in ("/administrator", "/admin.html", "/Admin/"):
        assert beside.ask(DOMAIN, path).body == b"site"


# --- what is remembered, and what never ---


def test_a_switch_shows_with_the_next_request(get: Any, site: Any) -> None:
    for _time in range(3):
        assert b"the page" in get("/").body
        site.flag.touch()
        assert get("/").body == b"<h1>the next page</h1>"
        site.flag.unlink()


@pytest.mark.parametrize("folder", ["slots/blue/app", "shared"])
def test_a_new_file_is_found_at_once(get: Any, site: Any, folder: str) -> None:
    name = f"assets/{uuid.uuid4()}.js"
    for _time in range(3):
        assert get(f"/{name}").status == 404
    (site.app.parents[2] / folder / name).write_text("new")
    assert get(f"/{name}").body == b"new"


# --- the environment's addresses ---


@pytest.mark.parametrize("accepted", ["identity", "gzip", "br", "gzip, br"])
def test_the_environments_addresses_are_never_those_of_the_build(get: Any, accepted: str) -> None:
    answer = get("/runtime-config.js", Accept_Encoding=accepted)
    assert (answer.status, answer.body, answer.one("Cache-Control")) == (200, b"window.__CONFIG__ = {};\n", "no-cache")
    assert answer.all("Content-Encoding") == []


# --- compressed before ---

ACCEPTED: list[tuple[str | None, str | None]] = [
    (None, None),
    ("", None),
    ("identity", None),
    ("gzip", "gzip"),
    ("gzip;q=1.0, *;q=0.5", "gzip"),
    ("gzip;q=0", None),
    ("deflate, zstd", None),
    ("br", "br"),
    ("gzip, deflate, br, zstd", "br"),
    ("br;q=0, gzip", "gzip"),
    ("br;q=0.0, gzip;q=0.8", "gzip"),
    ("gzip;q=0, br;q=0", None),
    ("brx, xbr", None),
]


@pytest.mark.parametrize(("accepted", "encoding"), ACCEPTED)
@pytest.mark.parametrize("path", ["/", "/assets/app-2.js", "/assets/app-2.js.map", "/assets/app-1.js"])
def test_what_is_sent_is_what_the_client_takes(
    get: Any, site: Any, path: str, accepted: str | None, encoding: str | None
) -> None:
    if encoding == "br" and not HAS_BROTLI:
        encoding = "gzip" if "gzip" in str(accepted) else None
    answer = get(path, **({} if accepted is None else {"Accept_Encoding": accepted}))
    file = site.app / (path[1:] or "index.html")
    if not file.exists():
        file = site.app.parents[2] / "shared" / path[1:]
    sent = Path(f"{file}.{ {'gzip': 'gz', 'br': 'br'}[encoding] }") if encoding else file
    assert answer.status == 200
    assert answer.one("Content-Encoding") == encoding
    # Equal to the file, so compressed by the build and not for this request.
    assert answer.body == sent.read_bytes() and answer.one("Content-Length") == str(len(answer.body))
    assert "Accept-Encoding" in answer.all("Vary"), "a cache would give it to clients that do not take it"
    assert answer.one("Cache-Control") == ("no-cache" if path == "/" else IMMUTABLE)


def test_what_the_build_did_not_compress_is_compressed_once(get: Any) -> None:
    answer = get("/robots.txt", Accept_Encoding="gzip, deflate, br, zstd")
    assert answer.one("Content-Encoding") == "gzip" and "Accept-Encoding" in answer.all("Vary")
    assert gzip.decompress(answer.body).decode() == BUILT["robots.txt"]


@needs_brotli
def test_each_encoding_has_an_etag_of_its_own(get: Any) -> None:
    tags = {get("/assets/app-2.js", Accept_Encoding=accepted).one("ETag") for accepted in ("identity", "gzip", "br")}
    assert len(tags) == 3 and None not in tags


@pytest.mark.parametrize("encoding", ["gz", "br"])
def test_chunks_of_next_are_sent_as_the_build_compressed_them(
    tmp_path_factory: pytest.TempPathFactory, upstream: str, encoding: str
) -> None:
    if encoding == "br" and not HAS_BROTLI:
        pytest.skip("this nginx has no module for brotli")
    # nginx's user cannot read the folder that a single test gets.
    path = tmp_path_factory.mktemp("next")
    put(path / "orders/shared/_next/static/chunks", {"a.js": SCRIPT, f"a.js.{encoding}": "of the build"})
    prefix = Prefix(path / "nginx")
    slots = dict.fromkeys(("blue", "green"), upstream.rpartition(":")[2])
    with mock.patch.multiple(releases, HOME=str(path), STATE=str(path)):
        prefix.write({"fivepointers/front-orders.conf": front_text(make_spec("nextjs", slots=slots)), **render({})})
    for live in start(prefix, None):
        accepted = {"Accept-Encoding": {"gz": "gzip", "br": "gzip, br"}[encoding]}
        for base in ("", "/docs", "/docs/v%202"):
            answer = live.ask("x", f"{base}/_next/static/chunks/a.js", "GET", accepted, tls=False, port=3001)
            assert (answer.status, answer.body, answer.one("Cache-Control")) == (200, b"of the build", IMMUTABLE), base
            assert answer.one("Vary") == "Accept-Encoding"
        gone = live.ask("x", "/_next/static/chunks/b.js", tls=False, port=3001)
        assert gone.json["path"] == "/_next/static/chunks/b.js", "the application knows best"
        assert gone.all("Cache-Control") == []


def test_a_redirect_to_the_slot_itself_stays_where_users_are(
    tmp_path_factory: pytest.TempPathFactory, upstream: str
) -> None:
    """Next.js calls itself https://localhost:PORT, and route handlers redirect there."""
    prefix, port = Prefix(tmp_path_factory.mktemp("redirects") / "nginx"), upstream.rpartition(":")[2]
    front = front_text(make_spec("nextjs", slots=dict.fromkeys(("blue", "green"), port)))
    prefix.write({"fivepointers/front-orders.conf": front, **render({})})
    for live in start(prefix, None):
        for location, seen in {
            f"https://localhost:{port}/a?b=c": "/a?b=c",
            f"http://127.0.0.1:{port}/": "/",
            "/a": "/a",
            "https://localhost:1/a": "https://localhost:1/a",
            f"https://example.com/?to=https://localhost:{port}/a": f"https://example.com/?to=https://localhost:{port}/a",
        }.items():
            assert live.ask("x", f"/to?{location}", tls=False, port=3001).one("Location") == seen


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("_next/static/chunks/main-1a2b.js", IMMUTABLE), ("_astro/index.css", IMMUTABLE), ("_nuxt/entry.js", IMMUTABLE),
        ("static/js/main.1a2b3c4d.js", IMMUTABLE), ("static/js/index-DiwrgTda.js", IMMUTABLE),
        ("static/logo.svg", "no-cache"), ("favicon.ico", "no-cache"),
    ],
)  # fmt: skip
def test_hashed_files_are_kept_whatever_made_them(get: Any, site: Any, name: str, kept: str) -> None:
    folder, _slash, last = name.rpartition("/")
    for top, place in ((site.app, "live"), (site.app.parents[2] / "shared", "earlier")):
        if folder or place == "live":
            put(top / folder, {f"{place}/{last}": "x"})
            answer = get(f"/{folder}/{place}/{last}".replace("//", "/"))
            assert (answer.status, answer.one("Cache-Control")) == (200, kept), place
            gone = get(f"/{folder}/{place}/gone-1a2b.js".replace("//", "/"))
            assert (gone.status, gone.one("Cache-Control")) == (404, "no-store")


@pytest.mark.parametrize("path", ["/gone", "/gone/", "/blog/gone.html"])
def test_a_missing_page_is_answered_with_the_builds_own(get: Any, site: Any, path: str) -> None:
    put(site.app, {"404.html": "<h1>our own</h1>"})
    answer = get(path)
    own = (404, b"<h1>our own</h1>", "no-store", "text/html; charset=utf-8")
    seen = (answer.status, answer.body, answer.one("Cache-Control"), answer.one("Content-Type"))
    assert seen == own if not site.spa else answer.body.decode() == PAGE
    assert b"our own" not in get("/gone.js").body, "whoever asks for a script cannot use a page"
    (site.app / "404.html").unlink()
    assert get(path).status == (200 if site.spa else 404)


# --- HEAD, ranges and conditions ---


@pytest.mark.parametrize("path", ["/", "/assets/app-2.js", "/assets/app-1.js", "/assets/gone.js", "/runtime-config.js"])
@pytest.mark.parametrize("accepted", ["identity", "gzip", "br"])
def test_head_says_what_get_says(get: Any, path: str, accepted: str) -> None:
    whole, head = get(path, Accept_Encoding=accepted), get(path, "HEAD", Accept_Encoding=accepted)
    assert head.status == whole.status and head.body == b""
    apart = {"date", "x-request-id"}
    assert [item for item in head.headers if item[0].lower() not in apart] == [
        item for item in whole.headers if item[0].lower() not in apart
    ]


@pytest.mark.parametrize("path", ["/assets/app-2.js", "/assets/app-1.js"])
def test_a_part_can_be_asked_for(get: Any, path: str) -> None:
    whole = get(path)
    answer = get(path, Range="bytes=5-14")
    assert (answer.status, answer.body) == (206, whole.body[5:15])
    assert answer.one("Content-Range") == f"bytes 5-14/{len(whole.body)}"
    assert get(path, Range="bytes=999999-").status == 416
    for condition, status in ((whole.one("ETag"), 206), ('"another"', 200)):
        assert get(path, Range="bytes=5-14", If_Range=condition or "").status == status


@pytest.mark.parametrize("accepted", ["gzip", "br"])
def test_what_is_compressed_comes_whole(get: Any, accepted: str) -> None:
    """nginx gives no parts of it, as HTTP allows."""
    whole = get("/assets/app-2.js", Accept_Encoding=accepted)
    answer = get("/assets/app-2.js", Accept_Encoding=accepted, Range="bytes=5-14")
    assert (answer.status, answer.body) == (200, whole.body)


@pytest.mark.parametrize("accepted", ["identity", "gzip", "br"])
@pytest.mark.parametrize(
    ("path", "kept"), [("/", "no-cache"), ("/assets/app-2.js", IMMUTABLE), ("/assets/app-1.js", IMMUTABLE)]
)
def test_what_did_not_change_is_not_sent_again(get: Any, path: str, kept: str, accepted: str) -> None:
    whole = get(path, Accept_Encoding=accepted)
    for condition, value in (("If_None_Match", "ETag"), ("If_Modified_Since", "Last-Modified")):
        answer = get(path, Accept_Encoding=accepted, **{condition: whole.one(value) or ""})
        assert (answer.status, answer.body) == (304, b"")
        assert (answer.one("ETag"), answer.one("Cache-Control")) == (whole.one("ETag"), kept)
    assert get(path, Accept_Encoding=accepted, If_None_Match='"another"').status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_files_are_only_read(get: Any, method: str) -> None:
    assert get("/assets/app-2.js", method).status == 405
