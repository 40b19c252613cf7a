# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""A release of one service, assembled on the controller: its files, its parts and its identifier. Pure functions."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import typing as t
from collections.abc import Mapping

import jinja2
from ansible_collections.fivepointers.platform.plugins.module_utils.common import systemd
from ansible_collections.fivepointers.platform.plugins.module_utils.common.placeholders import render
from ansible_collections.fivepointers.platform.plugins.module_utils.release import environments, releases, schedules
from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue import engines
from ansible_collections.fivepointers.platform.plugins.plugin_utils.plan.names import process_title

TEMPLATES = os.path.join(os.path.dirname(os.path.realpath(__file__)), "templates")

HANDOFF = "handoff.cjs"
# Describes the schemas of the databases of a service.
FINGERPRINT = "fingerprint.cjs"

# Seconds that a command may take that runs once.
ONCE_TIMEOUT = 900
FINGERPRINT_TIMEOUT = 60

RUNTIMES = "/opt/fivepointers/node"

# The placeholder for the release's identifier in the texts from which the identifier is derived.
RELEASE = "@release@"


def render_template(name: str, variables: Mapping[str, t.Any]) -> str:
    """Render a template of a unit or a front."""
    return _environment().get_template(name).render(**variables)


@functools.cache
def _environment() -> jinja2.Environment:
    """Keep what is compiled of the templates: that takes longer than to render them."""
    # Units and nginx configuration are not HTML, so nothing is escaped.
    return jinja2.Environment(  # noqa: S701
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def command(argv: list[str], runtime: str, app: str, title: str = "") -> str:
    """Return ExecStart= for a command of the catalogue: `node` is the runtime's, and a path is relative to the code.

    title: the name in the list of processes, in place of the program. A program found in PATH keeps its own.
    """
    program = argv[0]
    if program == "node":
        program = runtime + "/bin/node"
    elif "/" in program:
        program = os.path.normpath(os.path.join(app, program))
    else:
        return "/usr/bin/env " + systemd.exec_start(argv)
    if title:
        return "@" + systemd.exec_start([program, title, *argv[1:]])
    return systemd.exec_start([program, *argv[1:]])


def unit_text(
    spec: Mapping[str, t.Any],
    runtime: str,
    release: str,
    once: str = "",
    argv: list[str] | None = None,
    timeout: int = ONCE_TIMEOUT,
) -> str:
    """Return a service's unit, the same for both slots; or a unit that runs another command of it once.

    timeout: seconds that this command may take.
    What runs by a schedule runs once, too, and says how it ended.
    """
    app = os.path.join(releases.release_path(spec["name"], release), "app")
    return render_template(
        "unit.service.j2",
        {
            "name": spec["name"],
            "kind": spec["kind"],
            "user": spec["user"],
            "memory": spec["memory"],
            "writable": spec["writable"],
            "write": spec["write"],
            "aws": spec["aws"],
            "release": release,
            "runtime": runtime,
            "app": app,
            "once": once,
            "timeout": timeout if once else spec["timeout"],
            "scheduled": spec["handover"] == releases.SCHEDULE and not once,
            "ended": schedules.ended_path(spec["name"]),
            # A process without a port has no requests to finish; it gets its time when it is told to end.
            # To systemd, 0 is for ever.
            "stop": 30 if spec["port"] else max(1, spec["drain"]),
            # Exists while the slot is live.
            "live": releases.flag_path(spec["name"], "%i"),
            "live_signal": spec["live_signal"] and not once,
            # It starts only where it is live: never two at once, not even at boot.
            "alone": spec["handover"] == releases.ALONE and not once,
            "health_file": releases.HEALTH_FILE if spec["health"]["type"] == "file" and not once else "",
            "slots": spec["slots"],
            "handoff": os.path.join(releases.release_path(spec["name"], release), HANDOFF)
            if spec["hand_off"] == "bridge" and not once
            else "",
            "start": command(argv or spec["start"], runtime, app, "" if once else process_title(spec["name"])),
        },
    )


def fingerprint_files(spec: Mapping[str, t.Any]) -> dict[str, str]:
    """Return the files of a release that describe the schemas of its databases; none if they are not compared."""
    if not spec["schemas"]:
        return {}
    paths = {FINGERPRINT: os.path.join(TEMPLATES, FINGERPRINT)}
    for database in spec["schemas"]:
        engine = database["engine"] + ".cjs"
        paths["engine-" + engine] = os.path.join(os.path.dirname(engines.__file__), engine)
    texts = {}
    for name, path in paths.items():
        with open(path, encoding="utf-8") as handle:
            texts[name] = handle.read()
    # A package of a workspace has its own packages.
    program = next((word for word in spec["start"][1:] if not word.startswith("-")), "")
    settings = {"databases": spec["schemas"], "from": os.path.dirname(program)}
    return {**texts, "fingerprint.json": json.dumps(settings, indent=1) + "\n"}


def front_text(spec: Mapping[str, t.Any]) -> str:
    """Return a service's front, the same for all releases with the same settings."""
    home = os.path.join(releases.HOME, spec["name"])
    paths = {address["path"] for address in spec["public"]}
    variables = {
        "id": "fp_" + re.sub(r"[^a-z0-9]", "_", spec["name"]),
        "name": spec["name"],
        "pages": spec["pages"],
        "hashed": spec["hashed"],
        "port": spec["port"],
        "slots": spec["slots"],
        "flag": releases.flag_path(spec["name"]),
        "shared": os.path.join(home, "shared"),
        "slots_directory": os.path.join(home, "slots"),
        "websocket": spec["listens"] == "websocket",
        "body_limit": spec["body_limit"],
        "timeout": spec["timeout"],
        "spa": spec["spa"],
        # A prefix may begin with another one.
        "prefixes": {path: re.escape(path) for path in sorted(sorted(paths - {"/"}), key=len, reverse=True)},
    }
    return render_template("front_process.conf.j2" if spec["slots"] else "front_static.conf.j2", variables)


def runtime_config(environment: Mapping[str, str]) -> str:
    """Return the script that gives a static frontend its environment's values."""
    values = {name: render(template, "", {})[0] for name, template in environment.items()}
    text = json.dumps(values, indent=2, sort_keys=True, ensure_ascii=False)
    # No value may close the script element if the text is put into a page.
    text = text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    return "window.__CONFIG__ = %s;\n" % text


def digest(text: str) -> str:
    """Return the short digest by which parts of a release are compared."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def compose(
    spec: Mapping[str, t.Any],
    manifest: Mapping[str, t.Any],
    node: str,
    secrets: Mapping[str, str],
    host: str,
    environment_digest: str = "",
) -> dict[str, t.Any]:
    """Return what the module on the host gets for one service: everything in a release except its code.

    node: exact version, empty for static files. environment_digest: the part C(environment) of the same release, if an
    earlier phase computed it. The result contains no secrets: they are passed separately.
    """
    process = bool(spec["slots"])
    runtime = os.path.join(RUNTIMES, node) if process else ""
    files = {}
    if process:
        if spec["hand_off"] == "bridge":
            with open(os.path.join(TEMPLATES, HANDOFF), encoding="utf-8") as handle:
                files[HANDOFF] = handle.read()
        files.update(fingerprint_files(spec))
        environment = dict(spec["environment"])
        if HANDOFF in files and "NODE_OPTIONS" in environment:
            # It replaces the unit's. The process runs in the directory of the code.
            environment["NODE_OPTIONS"] = "--require=../%s %s" % (HANDOFF, environment["NODE_OPTIONS"])
        if spec["node_options"]:
            environment["NODE_OPTIONS"] = f"{spec['node_options']} {environment.get('NODE_OPTIONS', '')}".strip()
        variables = environment_digest or environments.secret_digest(
            spec["name"], releases.fill_secrets(environment, secrets)
        )
    else:
        environment = {}
        files["runtime-config.js"] = runtime_config(spec["environment"])
        variables = digest(files["runtime-config.js"])
    once = {"migration": spec["migrate"], "listing": spec["migrations"], "check": spec["health"].get("command")}
    once["fingerprint"] = ["node", "../" + FINGERPRINT] if FINGERPRINT in files else []
    limits = {"fingerprint": FINGERPRINT_TIMEOUT, "check": spec["health"]["timeout"]}
    texts = {"unit": unit_text(spec, runtime, RELEASE) if process else ""}
    for what, argv in once.items():
        limit = limits.get(what, ONCE_TIMEOUT)
        texts[what] = unit_text(spec, runtime, RELEASE, what, argv, limit) if process and argv else ""
    front = front_text(spec) if spec["port"] else ""
    parts = {
        # The id says what went into the build, and the digest what came out.
        "code": "%s:%s" % (manifest["id"], manifest["archive_sha256"][:16]),
        "environment": variables,
        "unit": digest("".join([*texts.values(), *(files.values() if process else ()), spec["schedule"]])),
        "front": digest(front),
        "runtime": node,
    }
    release = environments.release_id(parts)
    first = host == next(iter(spec["hosts"]), host)
    if not first:
        texts["fingerprint"] = ""
    return {
        "name": spec["name"],
        "kind": spec["kind"],
        "release": release,
        "artifact": manifest["id"],
        "parts": parts,
        "archive": {
            "sha256": manifest["archive_sha256"],
            "size": manifest["archive_size"],
            "unpacked": manifest["unpacked_size"],
            "files": manifest["files_count"],
        },
        # What a page offers for download runs elsewhere.
        "native": manifest.get("native", []) if process else [],
        # Like the ports of the slots: 0 if it listens on nothing, and then it has no front.
        "port": spec["port"] or 0,
        "slots": spec["slots"],
        "health": spec["health"],
        "user": spec["user"],
        "runtime": runtime,
        **{key: text.replace(RELEASE, release) for key, text in texts.items()},
        # Once per deployment, by the first of the service's hosts.
        "migrate": bool(texts["migration"]) and first,
        "front": front,
        "environment": environment,
        "files": files,
        "shared": {hashed["target"]: hashed["source"] for hashed in spec["hashed"]},
        "drain": spec["drain"] if process and (spec["port"] or spec["schedule"]) else 0,
        "hold": spec["hold"] if process else 0,
        "keep": spec["keep"],
        "writable": [*([spec["writable"]] if spec["writable"] else []), *spec["write"]],
        "handover": spec["handover"],
        "schedule": spec["schedule"],
        # On one host at a time.
        "here": bool(spec["schedule"]) and first,
        "schema_at_start": spec["schema_at_start"],
        "commit": manifest.get("commit") or {},
    }
