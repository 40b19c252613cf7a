# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""For which machines native code is: headers of ELF files, as linkers write them."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest
from ansible_collections.fivepointers.platform.plugins.module_utils.build.layouts import Layout
from ansible_collections.fivepointers.platform.plugins.module_utils.build.native import native, package_of
from ansible_collections.fivepointers.platform.plugins.module_utils.build.store import write_archive
from ansible_collections.fivepointers.platform.plugins.module_utils.common import platforms

from .conftest import elf

ARM, X64 = 183, 62
GLIBC = [b"libstdc++.so.6", b"libc.so.6"]


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (
            elf(ARM, GLIBC, [b"GLIBC_2.9", b"GLIBC_2.17", b"GLIBC_2.2.5", b"GLIBC_PRIVATE"]),
            ("linux-arm64", "glibc 2.17"),
        ),
        (elf(X64, GLIBC), ("linux-x64", "glibc")),
        (elf(X64, [b"libc.musl-x86_64.so.1"]), ("linux-x64", "musl")),
        (elf(X64, [b"libc.so"]), ("linux-x64", "musl")),
        (elf(ARM, [], interpreter=b"/lib/ld-musl-aarch64.so.1"), ("linux-arm64", "musl")),
        (elf(X64, [], interpreter=b"/lib64/ld-linux-x86-64.so.2"), ("linux-x64", "glibc")),
        # Linked statically, as programs in Go are.
        (elf(ARM, []), ("linux-arm64", "")),
        (elf(40, [], bits=1), ("linux-arm", "")),
        (elf(22, GLIBC, order=">"), ("linux-s390x", "glibc")),
        (elf(999, []), ("linux-machine999", "")),
        # What was compiled on the way to a program.
        (elf(ARM, [], kind=1), None),
        (elf(ARM, GLIBC)[:100], None),
        (b"\x7fELF", None),
        (b"\x7fELF" + b"\xff" * 200, None),
        (b"\xcf\xfa\xed\xfe and more", ("darwin", "")),
        (b"\xca\xfe\xba\xbe and more", ("darwin", "")),
        (b"MZ and more", ("win32", "")),
        (b"module.exports = 1", None),
    ],
)
def test_a_file_says_for_which_machines_it_is(content: bytes, found: tuple[str, str] | None) -> None:
    code = native("node_modules/x/a.node", content)
    assert (code and (code["platform"], code["libc"])) == found


def test_what_this_machine_runs_fits_it() -> None:
    code = native("bin/python", Path(sys.executable).resolve().read_bytes())
    assert code and code["platform"] == platforms.here().replace("-musl", "")
    assert platforms.unfit([code], platforms.here(), platforms.libc()) is None


@pytest.mark.parametrize(
    ("name", "package"),
    [
        ("node_modules/@img/sharp-linux-arm64/lib/a.node", "@img/sharp"),
        ("node_modules/@img/sharp-linuxmusl-x64/lib/a.node", "@img/sharp"),
        ("node_modules/@img/sharp-libvips-linux-x64/lib/a.so.42", "@img/sharp-libvips"),
        ("node_modules/@node-rs/argon2-linux-x64-gnu/a.node", "@node-rs/argon2"),
        ("node_modules/.pnpm/@esbuild+linux-x64@0.28.2/node_modules/@esbuild/linux-x64/bin/esbuild", "@esbuild"),
        ("node_modules/a/node_modules/turbo-linux-64/bin/turbo", "turbo"),
        ("node_modules/bcrypt/prebuilds/linux-x64/bcrypt.node", "bcrypt"),
        ("node_modules/.prisma/client/libquery_engine-debian-openssl-3.0.x.so.node", ".prisma"),
        ("node_modules/@x/windowstate/a.node", "@x/windowstate"),
        ("dist/linux-x64/a.node", ""),
    ],
)
def test_packages_for_several_machines_are_one(name: str, package: str) -> None:
    assert package_of(name) == package


def code(package: str, platform: str, libc: str = "") -> dict[str, str]:
    return {"package": package, "file": f"{package}-{platform}-{libc}", "platform": platform, "libc": libc}


@pytest.mark.parametrize(
    ("native", "first"),
    [
        ([], ""),
        ([code("a", "linux-arm64", "glibc 2.17"), code("b", "linux-arm64")], ""),
        ([code("a", "linux-x64", "glibc 2.17")], "a-linux-x64-glibc 2.17"),
        ([code("a", "darwin")], "a-darwin-"),
        # Another C library, and one that is too old.
        ([code("a", "linux-arm64", "musl")], "a-linux-arm64-musl"),
        ([code("a", "linux-arm64", "glibc 2.38")], "a-linux-arm64-glibc 2.38"),
        # Side by side.
        ([code("a", "linux-x64"), code("a", "win32"), code("a", "linux-arm64", "musl"), code("a", "linux-arm64")], ""),
        ([code("a", "linux-arm64"), code("b", "linux-x64"), code("a", "linux-x64")], "b-linux-x64-"),
        # The nearest one is named.
        ([code("a", "linux-x64"), code("a", "linux-arm64", "musl")], "a-linux-arm64-musl"),
    ],
)
def test_a_package_has_to_have_something_that_runs(native: list[dict[str, str]], first: str) -> None:
    found = platforms.unfit(native, "linux-arm64", "glibc 2.36")
    assert (found["file"] if found else "") == first


def test_a_manifest_names_each_package_and_machine_once(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    names = ["node_modules/a/one.node", "node_modules/a/two.node", "node_modules/b/one.node", "native/tool"]
    layout.files = {name: elf(ARM, GLIBC, [b"GLIBC_2.17"]) for name in names}
    layout.files |= {"node_modules/a/x64.node": elf(X64, GLIBC), "dist/main.js": b"1", "empty.node": b""}
    assert write_archive(layout, io.BytesIO())["native"] == [
        {"package": "", "file": "native/tool", "platform": "linux-arm64", "libc": "glibc 2.17"},
        {"package": "a", "file": "node_modules/a/one.node", "platform": "linux-arm64", "libc": "glibc 2.17"},
        {"package": "a", "file": "node_modules/a/x64.node", "platform": "linux-x64", "libc": "glibc"},
        {"package": "b", "file": "node_modules/b/one.node", "platform": "linux-arm64", "libc": "glibc 2.17"},
    ]
