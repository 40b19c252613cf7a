# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""What goes into an artifact: files and links, by layout.

A layout selects the parts of a built project that run on a host: `static` is the build's output, `node` the output
with the packages that it needs, `next` what Next.js needs, standalone or not.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ansible_collections.fivepointers.platform.plugins.module_utils.build.commands import BuildError, read_object
from ansible_collections.fivepointers.platform.plugins.module_utils.build.credentials import below, keep_out
from ansible_collections.fivepointers.platform.plugins.module_utils.build.entries import check_commands
from ansible_collections.fivepointers.platform.plugins.module_utils.build.installed import check_depth, parents
from ansible_collections.fivepointers.platform.plugins.module_utils.build.node_modules import (
    ArrangeError,
    arrange,
    programs,
    stored,
)
from ansible_collections.fivepointers.platform.plugins.module_utils.build.package_managers import SETTINGS

if TYPE_CHECKING:
    from ansible_collections.fivepointers.platform.plugins.module_utils.build.sources import Spec

#: Files that browsers request and that compress well.
COMPRESSIBLE = {
    ".css", ".csv", ".geojson", ".htm", ".html", ".ico", ".js", ".json", ".map", ".md", ".mjs", ".otf", ".svg", ".ttf",
    ".txt", ".wasm", ".webmanifest", ".xml",
}  # fmt: skip
COMPRESS_FROM = 1024
#: Bytes in an artifact. Files are read whole, and what a build says it wrote may be a hole.
LARGEST = 1 << 30
#: Never part of an artifact, even if the whole source is: they may hold credentials.
PRIVATE = re.compile(rf"(^|/)({'|'.join(map(re.escape, SETTINGS))}|\.git)(/|$)")


#: A Next.js project that becomes files. Comments are no settings.
EXPORT = re.compile(r"""^(?:(?!//|^\s*\*).)*\boutput["']?\s*:\s*["'`]export["'`]""", re.MULTILINE)
#: Where it then leaves them, if it says so.
DIST_DIR = re.compile(r"""^(?:(?!//|^\s*\*).)*\bdistDir["']?\s*:\s*["'`](?:\./)?([^"'`]+)["'`]""", re.MULTILINE)


#: What is in the folder of a package of the project and no part of it: its packages, and logs of a task runner, which
#: differ each time.
BESIDE = ("node_modules", ".turbo")


class ArtifactError(Exception):
    """An artifact cannot be created; the text names the file and the fix."""


class Layout:
    """The files and links of an artifact by path, and the sources of their content."""

    def __init__(self, tree: Path) -> None:
        """Start empty.

        :param tree: the folder that everything comes from.
        """
        self.tree = tree
        self.files: dict[str, Path | bytes] = {}
        self.links: dict[str, str] = {}
        #: Environment files, and files that git does not track, that are not part of it.
        self.left_out: list[str] = []
        self._mapped: list[tuple[Path, str]] = []
        self._pending: list[tuple[str, Path]] = []

    def places(self) -> list[str]:
        """Return the paths of files and links so far."""
        return [*self.files, *self.links, *(place for place, _path in self._pending)]

    def drop(self, at: str) -> None:
        """Remove a file or a link."""
        self.files.pop(at, None)
        self.links.pop(at, None)
        self._pending = [(place, path) for place, path in self._pending if place != at]

    def add_file(self, source: Path, at: str) -> None:
        """Add one file; links are followed."""
        if source.is_file():
            self.files[at] = source

    def add_link(self, at: str, target: str) -> None:
        """Add a relative link; `settle` drops it if its target does not exist."""
        self.links[at] = target

    def add_tree(self, source: Path, at: str = "", skip: Callable[[str], bool] | None = None) -> None:
        """Add a folder with all its content. ``skip`` is called for each path below it."""
        self._mapped.append((within(self.tree, source), at))
        for relative, path in walk(source, skip):
            place = f"{at}/{relative}" if at else relative
            if path.is_symlink():
                self._pending.append((place, path))
            else:
                self.files[place] = path

    def settle(self) -> None:
        """Point each link at its target in the artifact, or replace it with the content; drop broken ones."""
        pending, self._pending = self._pending, []
        for place, path in pending:
            try:
                target = path.resolve(strict=True)
            except (OSError, RuntimeError) as error:
                if "node_modules" in place.split("/"):
                    continue
                raise ArtifactError(f"{path} is a broken link: remove it, or create its target") from error
            inside = self._place_of(target)
            if inside is not None:
                self.links[place] = os.path.relpath(inside or ".", os.path.dirname(place) or ".")
            elif within(self.tree, path).is_dir():
                for relative, file in walk(target, lambda relative: relative.startswith("node_modules/")):
                    if not file.is_dir():
                        self.files[f"{place}/{relative}"] = file
            else:
                self.files[place] = target
        folders = {parent for name in self.files for parent in parents(name)}
        for place, link in list(self.links.items()):
            aim = os.path.normpath(os.path.join(os.path.dirname(place), link))
            if aim not in self.files and aim not in folders and aim not in self.links:
                del self.links[place]

    def _place_of(self, target: Path) -> str | None:
        """Return the place of a path on disk in the artifact; None if it is not part of it."""
        for source, at in sorted(self._mapped, key=lambda pair: -len(str(pair[0]))):
            if target == source or source in target.parents:
                relative = "" if target == source else target.relative_to(source).as_posix()
                place = "/".join(part for part in (at, relative) if part)
                return place if place == "" or self._has(place) else None
        return None

    def _has(self, place: str) -> bool:
        return place in self.files or any(name.startswith(f"{place}/") for name in self.files)

    def compress(self, brotli: Callable[[list[bytes]], list[bytes]], below: str = "") -> None:
        """Add gzip and brotli versions of the files that browsers request, if they are smaller."""
        plain = {
            name: read(source)
            for name, source in self.files.items()
            if Path(name).suffix.lower() in COMPRESSIBLE and (not below or name.startswith(f"{below}/"))
        }
        plain = {name: content for name, content in plain.items() if len(content) >= COMPRESS_FROM}
        gzipped = [gzip.compress(content, 9, mtime=0) for content in plain.values()]
        for suffix, packed in ((".gz", gzipped), (".br", brotli(list(plain.values())))):
            for (name, content), smaller in zip(plain.items(), packed):
                if len(smaller) < len(content) * 0.95:
                    self.files.setdefault(name + suffix, smaller)


def within(tree: Path, path: Path) -> Path:
    """Return what a path leads to, before anything there is looked at: root could walk all of the machine."""
    aim = path.resolve()
    if tree.resolve() not in (aim, *aim.parents):
        raise ArtifactError(
            f"{path.relative_to(tree)} is a link to {aim}, outside of the build: copy the files instead"
        )
    return aim


def walk(folder: Path, skip: Callable[[str], bool] | None = None) -> Iterator[tuple[str, Path]]:
    """Yield files and links below a folder with their relative paths, sorted; links are not followed."""
    stack = [""]
    while stack:
        relative = stack.pop()
        check_depth(folder, relative)
        for entry in sorted(os.scandir(folder / relative), key=lambda item: item.name):
            path = f"{relative}/{entry.name}" if relative else entry.name
            if skip and skip(path):
                continue
            if entry.is_dir(follow_symlinks=False):
                stack.append(path)
            elif entry.is_file(follow_symlinks=False) or entry.is_symlink():
                yield path, Path(entry.path)


def read(source: Path | bytes) -> bytes:
    """Return the content of a file of a layout."""
    return source if isinstance(source, bytes) else source.read_bytes()


# --- what layouts are made of -----------------------------------------------------


@dataclass(frozen=True)
class Built:
    """A project that was built in its work folder.

    command: the build command, or empty. packages: the installed ones, as node_modules.py describes them. tracked: the
    source's files that git tracks, below the install root; None if it is in no repository. secrets: values that the
    build was given.
    """

    spec: Spec
    tree: Path
    command: str = ""
    packages: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    tracked: frozenset[str] | None = None
    secrets: tuple[str, ...] = ()

    @property
    def app(self) -> Path:
        """The application's folder in the work folder."""
        return self.tree / self.spec.app

    def output(self, what: str = "") -> Path:
        """Return the build's output folder, which must exist and not be empty."""
        folder = self.app / self.spec.output / what
        within(self.tree, folder)
        if folder.is_dir() and any(folder.iterdir()):
            return folder
        made = [name for name in ("dist", "build", "out", "lib", ".next", "public") if (self.app / name).is_dir()]
        ran = f"'{self.command}' succeeded, but" if self.command else "Nothing was built, and"
        raise BuildError(
            f"{ran} {Path(self.spec.output) / what} is missing or empty in {self.spec.source}. Set build.output of "
            f"{self.spec.name} to the folder that the build writes (found: {', '.join(made) or 'no likely folder'})."
        )


def static(built: Built, layout: Layout) -> None:
    """Add the content of the output."""
    folder = built.output()
    if not (folder / "index.html").is_file():
        pages = sorted(path.relative_to(built.app).as_posix() for path in built.app.glob("*/index.html"))[:3]
        found = f" (found: {', '.join(pages)})" if pages else ""
        raise BuildError(
            f"{built.spec.output} of {built.spec.name} does not contain index.html{found}. Set build.output to the "
            "folder that does."
        )
    layout.add_tree(folder, "", skip_private)


def node(built: Built, layout: Layout) -> None:
    """Add the output, or the whole source, and the packages that are needed to run."""
    if built.spec.output in ("", "."):
        layout.add_tree(built.app, "", lambda path: path.split("/")[0] == "node_modules" or skip_private(path))
        leave_untracked_out(built, layout)
    else:
        layout.add_tree(built.output(), built.spec.output)
        layout.add_file(built.app / "package.json", "package.json")
    add_modules(built, layout)


def leave_untracked_out(built: Built, layout: Layout) -> None:
    """Of a whole source, keep only what is in its repository: what lies about may be anything."""
    if built.tracked is None:
        return
    tracked = {os.path.relpath(name, built.spec.app or ".") for name in built.tracked}
    folders = {parent for name in tracked for parent in parents(name)}
    left_out = {
        place
        for place in layout.places()
        # git lists a submodule as one entry.
        if place not in tracked and tracked.isdisjoint(parents(place)) and not below(place, built.spec.include)
    }
    for place in left_out:
        layout.drop(place)
        first = next((folder for folder in reversed(list(parents(place))) if folder not in folders), place)
        if first not in layout.left_out:
            layout.left_out.append(first)
    layout.left_out.sort()


def next_server(built: Built, layout: Layout) -> None:
    """Add what `next start` needs."""
    output = built.output()
    layout.add_tree(output, built.spec.output, lambda path: path.split("/")[0] in ("cache", "standalone", "trace"))
    if (built.app / "public").is_dir():
        layout.add_tree(built.app / "public", "public")
    for name in ("package.json", *(path.name for path in built.app.glob("next.config.*"))):
        layout.add_file(built.app / name, name)
    add_modules(built, layout)


def next_standalone(built: Built, layout: Layout) -> None:
    """Add the standalone output, with the application at the root, and the files that Next.js leaves out of it."""
    output = built.output()
    standalone = output / "standalone"
    within(built.tree, standalone)
    if not standalone.is_dir():
        raise BuildError(
            f"'{built.command}' did not create {built.spec.output}/standalone. Add output: 'standalone' to the "
            f"next.config of {built.spec.source}, or set build.standalone: false."
        )
    nested = nested_app(standalone, output)
    own, shared = standalone / nested / "node_modules", standalone / "node_modules"
    if nested and own.is_dir() and shared.is_dir():
        # The application moves to the root, and its packages join the root's.
        packages = {"": {}, **traced_packages(standalone)}
        # Traced packages are needed, whether or not a package.json lists them.
        traced = {key.rpartition("node_modules/")[2] for key in packages if "node_modules/" in key}
        packages[nested] = {"dependencies": dict.fromkeys(traced, "*")}
        for place, key in arrange(packages, nested)[0].items():
            layout.add_tree(standalone / key, place, skip_nested)
    else:
        layout.add_tree(own if own.is_dir() else shared, "node_modules")
    layout.add_tree(standalone / nested, "", lambda path: path == "node_modules" or skip_private(path))
    layout.add_tree(output / "static", f"{built.spec.output}/static")
    if (built.app / "public").is_dir():
        layout.add_tree(built.app / "public", "public")


def next_app(built: Built, layout: Layout) -> None:
    """Add a Next.js application."""
    config = next((path for path in sorted(built.app.glob("next.config.*")) if EXPORT.search(path.read_text())), None)
    if config:
        output = DIST_DIR.search(config.read_text())
        exported = built.spec.exported.replace("{output: out}", f"{{output: {output[1] if output else 'out'}}}")
        raise BuildError(
            f"{built.spec.source / config.name} says output: 'export', so the build leaves pages, and no server. "
            f"Write, for {built.spec.name}, {exported}. 404.html of the output answers what is missing."
        )
    (next_standalone if built.spec.standalone else next_server)(built, layout)


def add_modules(built: Built, layout: Layout) -> None:
    """Add the installed packages that the application needs to run."""
    placed, links = arrange(built.packages, built.spec.app)
    for place, key in placed.items():
        local = "node_modules" not in key.split("/")
        skip = (lambda path: path.split("/")[0] in BESIDE or skip_private(path)) if local else skip_nested
        layout.add_tree(built.tree / key, place, skip)
    for link, target in links.items():
        layout.add_link(link, os.path.relpath(target, os.path.dirname(link)))
    for link, target in programs(built.packages, placed, links).items():
        layout.add_link(link, target)
    # Files that install scripts generate next to packages, such as a database client. Packages are in hidden folders
    # too, of which only those that are needed go along.
    apart = {key.split("/")[1] for key in built.packages if stored(key)} | {".bin", ".cache"}
    beside = [key[: key.rindex("node_modules/")] for key in placed.values() if stored(key)]
    for base in dict.fromkeys(["", f"{built.spec.app}/".lstrip("/"), *beside]):
        to = "" if base == f"{built.spec.app}/" else base
        for path in sorted((built.tree / base / "node_modules").glob(".*")):
            if path.is_dir() and path.name not in apart and not path.name.startswith(".vite"):
                layout.add_tree(path, f"{to}node_modules/{path.name}")


def skip_private(path: str) -> bool:
    """Return whether a file may hold credentials, and is left out."""
    return PRIVATE.search(path) is not None


def skip_nested(path: str) -> bool:
    """Return whether a path in a package is another package, which has its own place."""
    return path == "node_modules"


def nested_app(standalone: Path, output: Path) -> str:
    """Return the application's folder in a standalone output: "" or, in a monorepo, its path."""
    if (standalone / "server.js").is_file():
        return ""
    found = [
        name.rpartition("/")[0]
        for name, _path in walk(standalone, lambda path: path.rpartition("/")[2] in ("node_modules", ".next"))
        if name.rpartition("/")[2] == "server.js" and (standalone / name).with_name("package.json").is_file()
    ]
    if len(found) > 1:
        with contextlib.suppress(BuildError):
            stated = read_object(output / "required-server-files.json").get("relativeAppDir")
            if stated in found:
                return str(stated)
    if len(found) != 1:
        raise BuildError(f"{standalone} contains {len(found)} server.js files, and exactly one is required.")
    return found[0]


def traced_packages(standalone: Path) -> dict[str, Any]:
    """Return the packages of a standalone output, as a lock file would list them."""
    packages: dict[str, Any] = {}
    for name, path in walk(standalone):
        folder, _slash, file = name.rpartition("/")
        parts = folder.split("/")
        if file != "package.json":
            continue
        outer = len(parts) - 1 - parts[::-1].index("node_modules") if "node_modules" in parts else -1
        inner = parts[outer + 1 :]
        is_package = outer >= 0 and len(inner) == (2 if inner[0].startswith("@") else 1)
        if is_package or "node_modules" not in parts:
            with contextlib.suppress(BuildError):
                packages[folder] = read_object(path)
    return packages


def include(built: Built, layout: Layout, path: str) -> None:
    """Add what build.include names."""
    source = built.app / path
    if not source.exists():
        raise ArtifactError(f"build.include names {path}, which is not in {built.spec.source}")
    if within(built.tree, source).is_dir():
        layout.add_tree(source, path, lambda below: below.split("/")[0] == "node_modules")
    else:
        layout.add_file(source, path)


def refuse_unfit(built: Built, layout: Layout) -> None:
    """Refuse, before anything is read, what cannot be packed: pipes and devices, and more than memory holds.

    Refuse files that the build only links to as well: it cannot read what is outside its folder, and packing could.
    """
    size = 0
    tree = os.path.realpath(built.tree)
    folders = {path.parent for path in layout.files.values() if isinstance(path, Path)}
    real = {folder: os.path.realpath(folder) for folder in folders}
    for place, path in layout.files.items():
        if not isinstance(path, Path):
            continue
        aim = os.path.realpath(path) if path.is_symlink() else f"{real[path.parent]}/{path.name}"
        if not aim.startswith(f"{tree}/"):
            raise ArtifactError(f"{place} is a link to {aim}, outside {built.spec.root}: copy the file there instead")
        about = path.stat()
        if not stat.S_ISREG(about.st_mode):
            raise ArtifactError(f"{place} is a pipe, a socket or a device: leave it out of the build's output")
        size += about.st_size
        if size > LARGEST:
            raise ArtifactError(f"it would be larger than {LARGEST >> 30} GiB with {place}: leave it out of the output")
    for place in (*layout.files, *layout.links):
        if os.path.normpath(place) != place or place.startswith(("/", "../")):
            raise ArtifactError(f"{place:.80} is no path in an artifact: a package was changed by an install script")


def refuse_credentials(built: Built, layout: Layout) -> None:
    """Leave environment files and excluded files out; refuse an artifact with credentials."""
    spec = built.spec
    left_out, found = keep_out(layout.files, spec.include, spec.exclude, built.secrets)
    layout.left_out += left_out
    if found:
        more = f" and {len(found) - 5} more" if len(found) > 5 else ""
        named = ", ".join(f"{place} ({why})" for place, why in list(found.items())[:5])
        first = next(iter(found))
        raise BuildError(
            f"The artifact of {spec.name} would hold what looks like credentials: {named}{more}. Hosts, the artifact "
            "store and CI's caches would have them. Remove them from the repository, and replace them if they were "
            f"ever pushed; or leave them out with build.exclude: [{first}]. If {first} is harmless, name it in "
            "build.include."
        )


class How(NamedTuple):
    """How a layout is filled, and which files browsers get: the name of a folder, "" for all, None for none."""

    fill: Callable[[Built, Layout], None]
    compressed: Callable[[Spec], str | None] = lambda spec: None
    #: Environment variables of its builds.
    environment: Mapping[str, str] = {}


LAYOUTS: dict[str, How] = {
    "static": How(static, lambda spec: ""),
    "node": How(node),
    # The files that nginx serves; Next.js serves the rest, and does not use compressed files.
    "next": How(next_app, lambda spec: f"{spec.output}/static", {"NEXT_TELEMETRY_DISABLED": "1"}),
}


def make_layout(built: Built, brotli: Callable[[list[bytes]], list[bytes]]) -> Layout:
    """Return what goes into the artifact of a built project. Raises BuildError."""
    how = LAYOUTS[built.spec.layout]
    layout = Layout(built.tree)
    try:
        how.fill(built, layout)
        for path in built.spec.include:
            include(built, layout, path)
        layout.settle()
        refuse_unfit(built, layout)
    except (ArtifactError, ArrangeError) as error:
        raise BuildError(f"The artifact of {built.spec.name} cannot be created: {error}.") from error
    refuse_credentials(built, layout)
    check_commands(built.spec, {*layout.files, *layout.links}, layout.left_out, (built.app, built.spec.source))
    below = how.compressed(built.spec)
    if below is not None:
        layout.compress(brotli, below)
    return layout
