# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The controller's half of a release: artifacts, files and identifiers; and the archives that a host lacks."""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
import typing as t
from collections.abc import Mapping

import jinja2
from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.fivepointers.platform.plugins.module_utils.common import systemd
from ansible_collections.fivepointers.platform.plugins.module_utils.common.archive import ArchiveError
from ansible_collections.fivepointers.platform.plugins.module_utils.common.placeholders import PlaceholderError, render
from ansible_collections.fivepointers.platform.plugins.module_utils.common.runtime_table import choose
from ansible_collections.fivepointers.platform.plugins.module_utils.common.schema import plain
from ansible_collections.fivepointers.platform.plugins.module_utils.release import releases
from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue.kinds import KINDS
from ansible_collections.fivepointers.platform.plugins.plugin_utils.plan.plan import process_title

TEMPLATES = os.path.join(os.path.dirname(os.path.realpath(__file__)), "../../roles/node_service/templates")
HANDOFF = "handoff.cjs"
# Next.js calls its process next-server, and nobody could tell whose it is.
KEEP_TITLE = "--import=data:text/javascript,Object.defineProperty(process,'title',{get:()=>process.argv0,set(){}})"
RUNTIMES = "/opt/fivepointers/node"
# Stands for the release's identifier in the texts from which this is derived.
RELEASE = "@release@"
#: Hashed files that outlive their release: directory of the code, and directory of the front.
SHARED = {
    "static_frontend": {"source": "assets", "target": "assets"},
    "nextjs": {"source": ".next/static", "target": "_next/static"},
}
#: Directories below the code in which a service writes, and what moves at a switch if it is not requests.
WRITABLE = {"nextjs": [".next/cache"]}
HANDOVER = {"yjs_websocket": "documents"}
BUILD_FIRST = "Build it first: ansible-playbook playbooks/build.yml"
TABLE = "platform_environment.nodejs"
NOTHING: dict[str, t.Any] = {"changed": False, "services": {}, "differing": []}
# A twentieth of a second for each guess at a secret.
SCRYPT = {"n": 1 << 14, "r": 8, "p": 1}
ARGUMENTS = {
    "services", "artifacts", "artifact_ids", "targets", "secrets", "nodejs_archives", "phase", "deployment",
    "allow_contract_migrations", "adopt", "lacking",
}  # fmt: skip


# --- pure ---------------------------------------------------------------------


def render_template(name: str, variables: Mapping[str, t.Any]) -> str:
    """Return one of the templates of units and fronts, rendered."""
    # Units and nginx configuration, no pages: nothing is to be escaped for HTML.
    environment = jinja2.Environment(  # noqa: S701
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(name).render(**variables)


def command(argv: list[str], runtime: str, app: str, title: str = "") -> str:
    """Return ExecStart= for a command of the catalogue: `node` is the runtime's, a path that of the code.

    title: what the process is called in the list of processes, in place of its program. One that is looked for in
    PATH keeps its own.
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


def unit_text(spec: Mapping[str, t.Any], runtime: str, release: str, key: str = "start", once: str = "") -> str:
    """Return a service's unit, the same for both slots; or one that runs another of its commands once."""
    app = os.path.join(releases.release_path(spec["name"], release), "app")
    return render_template(
        "unit.service.j2",
        {
            "name": spec["name"],
            "kind": spec["kind"],
            "user": spec["user"],
            "memory": spec["memory"],
            "release": release,
            "runtime": runtime,
            "app": app,
            "once": once,
            "slots": spec["slots"],
            "handoff": os.path.join(releases.release_path(spec["name"], release), HANDOFF)
            if spec["hand_off"] == "bridge" and not once
            else "",
            "start": command(spec[key], runtime, app, "" if once else process_title(spec["name"])),
        },
    )


def front_text(spec: Mapping[str, t.Any]) -> str:
    """Return a service's front, the same for all its releases with the same settings."""
    home = os.path.join(releases.HOME, spec["name"])
    kind = KINDS[spec["kind"]]
    variables = {
        "id": "fp_" + re.sub(r"[^a-z0-9]", "_", spec["name"]),
        "name": spec["name"],
        "kind": spec["kind"],
        "port": spec["port"],
        "slots": spec["slots"],
        "flag": releases.flag_path(spec["name"]),
        "shared": os.path.join(home, "shared"),
        "slots_directory": os.path.join(home, "slots"),
        "websocket": kind.websocket,
        "body_limit": spec["body_limit"],
        "spa": spec["spa"],
    }
    return render_template("front_process.conf.j2" if kind.process else "front_static.conf.j2", variables)


def runtime_config(environment: Mapping[str, str]) -> str:
    """Return the script that tells a static frontend its environment's values."""
    values = {name: render(template, "", {})[0] for name, template in environment.items()}
    text = json.dumps(values, indent=2, sort_keys=True, ensure_ascii=False)
    # So that no value can end the script element, should someone put the text into a page.
    text = text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    return "window.__CONFIG__ = %s;\n" % text


def digest(text: str) -> str:
    """Return the short digest by which parts of a release are compared."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def secret_digest(name: str, filled: Mapping[str, str]) -> str:
    """Return a digest of environment variables from which nobody can try out their secrets cheaply."""
    text = json.dumps(filled, sort_keys=True).encode()
    return hashlib.scrypt(text, salt=b"fivepointers release " + name.encode(), dklen=8, **SCRYPT).hex()


def release_id(parts: Mapping[str, str]) -> str:
    """Return the identifier of a release with these parts."""
    return hashlib.sha256(json.dumps([parts[part] for part in releases.PARTS]).encode()).hexdigest()[:12]


def compose(
    spec: Mapping[str, t.Any],
    manifest: Mapping[str, t.Any],
    node: str,
    secrets: Mapping[str, str],
    host: str,
) -> dict[str, t.Any]:
    """Return what the host's module gets of one service: all of a release but its code.

    node: exact version, empty for files. The result holds no secret: these travel beside it.
    """
    process = bool(spec["slots"])
    runtime = os.path.join(RUNTIMES, node) if process else ""
    files = {}
    if process:
        if spec["hand_off"] == "bridge":
            with open(os.path.join(TEMPLATES, "../files", HANDOFF), encoding="utf-8") as handle:
                files[HANDOFF] = handle.read()
        environment = dict(spec["environment"])
        if HANDOFF in files and "NODE_OPTIONS" in environment:
            # It takes the place of the unit's. The code's directory is the process's.
            environment["NODE_OPTIONS"] = "--require=../%s %s" % (HANDOFF, environment["NODE_OPTIONS"])
        if spec["kind"] == "nextjs":
            environment["NODE_OPTIONS"] = " ".join([KEEP_TITLE, environment.get("NODE_OPTIONS", "")]).strip()
        variables = secret_digest(spec["name"], releases.fill_secrets(environment, secrets))
    else:
        environment = {}
        files["runtime-config.js"] = runtime_config(spec["environment"])
        variables = digest(files["runtime-config.js"])
    texts = {
        "unit": unit_text(spec, runtime, RELEASE) if process else "",
        "migration": unit_text(spec, runtime, RELEASE, "migrate", "migration") if process and spec["migrate"] else "",
        "listing": unit_text(spec, runtime, RELEASE, "migrations", "listing") if process and spec["migrations"] else "",
    }
    front = front_text(spec)
    parts = {
        "code": manifest["id"],
        "environment": variables,
        "unit": digest("".join([*texts.values(), *(files.values() if process else ())])),
        "front": digest(front),
        "runtime": node,
    }
    release = release_id(parts)
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
        "port": spec["port"],
        "slots": spec["slots"],
        "health": spec["health"],
        "user": spec["user"],
        "runtime": runtime,
        **{key: text.replace(RELEASE, release) for key, text in texts.items()},
        # Once for a deploy: the first of the service's hosts does it.
        "migrate": bool(texts["migration"]) and host == next(iter(spec["hosts"]), host),
        "front": front,
        "environment": environment,
        "files": files,
        "shared": SHARED.get(spec["kind"], {}),
        "drain": spec["drain"] if process else 0,
        "hold": spec["hold"] if process else 0,
        "keep": spec["keep"],
        "writable": WRITABLE.get(spec["kind"], []),
        "handover": HANDOVER.get(spec["kind"], "requests"),
    }


# --- artifacts ----------------------------------------------------------------


def read_manifest(artifacts: str, service: str, artifact: str | None) -> dict[str, t.Any]:
    """Return the manifest of a service's newest artifact, or of the one asked for; raise ArchiveError."""
    directory = os.path.join(artifacts, service)
    path = os.path.join(directory, (artifact or "latest") + ".json")
    try:
        with open(path, encoding="utf-8") as handle:
            manifest = json.load(handle)
        needed = ("id", "archive_sha256", "archive_size", "unpacked_size", "files_count")
        lacking = [key for key in needed if key not in manifest]
    except FileNotFoundError:
        if artifact:
            known = sorted(name[:-5] for name in _listed(directory) if name.endswith(".json") and name != "latest.json")
            raise ArchiveError(
                "%s: there is no artifact '%s' in %s. Known are: %s."
                % (service, artifact, directory, ", ".join(known) or "none")
            ) from None
        raise ArchiveError(
            "%s: there is no artifact (no %s). %s -e service=%s" % (service, path, BUILD_FIRST, service)
        ) from None
    except (ValueError, TypeError) as error:
        raise ArchiveError("%s: %s is no manifest: %s. %s" % (service, path, error, BUILD_FIRST)) from error
    if lacking:
        raise ArchiveError("%s: the manifest %s lacks %s. %s" % (service, path, ", ".join(lacking), BUILD_FIRST))
    archive = archive_path(artifacts, service, manifest)
    if not os.path.isfile(archive):
        raise ArchiveError("%s: the archive %s is missing. %s -e service=%s" % (service, archive, BUILD_FIRST, service))
    return manifest


def archive_path(artifacts: str, service: str, manifest: Mapping[str, t.Any]) -> str:
    """Return where an artifact's archive lies on the controller."""
    return os.path.join(artifacts, service, manifest["id"] + ".tar.gz")


def _listed(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError:
        return []


def check_runtime(spec: Mapping[str, t.Any], manifest: Mapping[str, t.Any], node: str) -> None:
    """Raise ArchiveError if the artifact was built with another major version of Node.js than it will run with."""
    built = str(manifest.get("node") or "")
    if built and built.lstrip("v").partition(".")[0] != node.partition(".")[0]:
        raise ArchiveError(
            "%s: artifact %s was built with Node.js %s, and the catalogue says node: '%s' (%s). Native modules would "
            "not load. Build it again: ansible-playbook playbooks/build.yml -e service=%s"
            % (spec["name"], manifest["id"], built, spec["node"], node, spec["name"])
        )


def note_step(
    args: Mapping[str, t.Any], host: str, specs: list[dict[str, t.Any]], started: float, result: Mapping[str, t.Any]
) -> None:
    """Add what a phase did on a host to the deployment's journal on the controller, if there is one.

    One line each, written in one call: the phases of all hosts write at once.
    """
    journal = (args.get("deployment") or {}).get("journal")
    if not journal or not (result.get("services") or result.get("failed")):
        return
    step = {
        "name": args.get("phase", "all").replace("_", " "),
        "host": host,
        "services": [spec["name"] for spec in specs],
        "start": started,
        "end": time.time(),
        "changed": bool(result.get("changed")),
        "failed": bool(result.get("failed")),
        "message": str(result.get("msg", "")) if result.get("failed") else "",
        "releases": {
            name: {"from": item["serving"], "to": item["release"]}
            for name, item in (result.get("services") or {}).items()
            if "serving" in item
        },
    }
    with open(journal, "a", encoding="utf-8") as handle:
        handle.write(json.dumps(step) + "\n")


# --- the action ---------------------------------------------------------------


class ActionModule(ActionBase):
    """The controller's half of release."""

    _requires_connection = True

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Compose, ask the host once, and send what it lacks."""
        super().run(tmp, task_vars)
        variables = task_vars or {}
        args = plain(self._task.args)
        for key in args:
            if key not in ARGUMENTS:
                raise AnsibleActionFail(
                    "release: unknown argument '%s'; known are %s" % (key, ", ".join(sorted(ARGUMENTS)))
                )
        specs = args.get("services") or []
        if not isinstance(specs, list) or not all(isinstance(spec, dict) for spec in specs):
            raise AnsibleActionFail("release: services is %r; give a list of services of the plan" % (specs,))
        host = str(self._task.delegate_to or variables.get("inventory_hostname", "this host"))
        started = time.time()
        try:
            result = self._release(args, specs, host, variables)
        except Exception as error:
            note_step(args, host, specs, started, {"failed": True, "msg": str(error)})
            raise
        note_step(args, host, specs, started, result)
        return result

    def _release(
        self, args: dict[str, t.Any], specs: list[dict[str, t.Any]], host: str, variables: dict[str, t.Any]
    ) -> dict[str, t.Any]:
        phase = args.get("phase", "all")
        call = {
            "services": [],
            "phase": phase,
            "host": host,
            "deployment": args.get("deployment") or {},
            "allow_contract_migrations": args.get("allow_contract_migrations", False),
            "adopt": args.get("adopt", False),
        }
        if phase in ("look", "give_back"):
            return self._call({**call, "requests": [{"name": spec["name"]} for spec in specs]}, variables)
        if args.get("targets") is not None:
            # In the order of the services, which is that of the deployment.
            targets = {spec["name"]: args["targets"][spec["name"]] for spec in specs if spec["name"] in args["targets"]}
            return self._call({**call, "targets": targets}, variables) if targets else dict(NOTHING)
        if not specs:
            return dict(NOTHING)
        if not args.get("artifacts"):
            raise AnsibleActionFail("release: artifacts is not given; name the controller's directory of artifacts")
        args["artifacts"] = os.path.expanduser(str(args["artifacts"]))
        secrets = self._secrets(args.get("secrets") or {}, specs)
        manifests, requests = self._compose(args, specs, secrets, host)
        if phase == "migrate" and not any(request["migrate"] for request in requests):
            return dict(NOTHING)
        call.update(requests=requests, secrets=secrets)
        lacking = [name for name in args.get("lacking") or [] if name in manifests]
        result = {"needs": lacking} if lacking else self._call(call, variables)
        if result.get("needs"):
            sent = self._send(args["artifacts"], manifests, result["needs"])
            try:
                result = self._call({**call, "sent": sent}, variables)
            finally:
                self._remove_tmp_path(self._connection._shell.tmpdir)
        return {**result, "artifacts": {name: manifest["id"] for name, manifest in manifests.items()}}

    def _secrets(self, secrets: dict[str, t.Any], specs: list[dict[str, t.Any]]) -> dict[str, str]:
        """Return the secrets that these services use, and no others."""
        needed = {name for spec in specs for name in spec.get("secrets", [])}
        for name in sorted(needed):
            if not isinstance(secrets.get(name), str) or not secrets[name]:
                users = ", ".join(spec["name"] for spec in specs if name in spec.get("secrets", []))
                raise AnsibleActionFail(
                    "release: the secret '%s', which %s uses, was not handed over (or is empty). Pass the result of "
                    "lookup('fivepointers.platform.secrets', …) as secrets." % (name, users)
                )
        return {name: secrets[name] for name in sorted(needed)}

    def _compose(
        self, args: dict[str, t.Any], specs: list[dict[str, t.Any]], secrets: dict[str, str], host: str
    ) -> tuple[dict[str, dict[str, t.Any]], list[dict[str, t.Any]]]:
        """Return the manifests by service, and what the module gets. All problems are reported at once."""
        manifests, requests, problems = {}, [], []
        for spec in specs:
            name = spec["name"]
            try:
                manifest = read_manifest(args["artifacts"], name, (args.get("artifact_ids") or {}).get(name))
                node = ""
                if spec["slots"]:
                    node = choose(args.get("nodejs_archives") or {}, spec["node"], TABLE)["version"]
                    check_runtime(spec, manifest, node)
                requests.append(compose(spec, manifest, node, secrets, host))
                manifests[name] = manifest
            except (ArchiveError, PlaceholderError) as error:
                text = str(error)
                problems.append(text if text.startswith(name + ":") else "%s: %s" % (name, text))
            except KeyError as error:
                problems.append("%s: its description lacks %s; pass services of the plan, unchanged" % (name, error))
        if problems:
            raise AnsibleActionFail("\n".join(problems))
        return manifests, requests

    def _call(self, arguments: dict[str, t.Any], variables: dict[str, t.Any]) -> dict[str, t.Any]:
        result: dict[str, t.Any] = self._execute_module(
            module_name="fivepointers.platform.release", module_args=arguments, task_vars=variables
        )
        # The arguments are long, and nothing that helps an operator.
        result.pop("invocation", None)
        return result

    def _send(self, artifacts: str, manifests: Mapping[str, Mapping[str, t.Any]], needed: list[str]) -> dict[str, str]:
        """Send archives to the host's temporary directory; return their paths there."""
        if not self._connection._shell.tmpdir:
            self._make_tmp_path()
        sent = {}
        for name in needed:
            target = self._connection._shell.join_path(
                self._connection._shell.tmpdir, manifests[name]["id"] + ".tar.gz"
            )
            self._transfer_file(archive_path(artifacts, name, manifests[name]), target)
            sent[name] = target
        return sent
