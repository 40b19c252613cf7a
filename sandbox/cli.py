"""The command line."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from sandbox.console import Steps, say, warn
from sandbox.errors import SandboxError
from sandbox.paths import DEFAULT_NAME, REPO, VENV, repository_path

INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        if os.geteuid() != 0:
            raise SandboxError("The sandbox needs root, for containers and networks. Run it with sudo.")
        return int(options.run(options) or 0)
    except SandboxError as problem:
        if str(problem):
            warn(f"\nSANDBOX: {problem}")
        return 1
    except KeyboardInterrupt:
        warn("\nSANDBOX: interrupted. Run the same command again: it goes on from here.")
        return INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python3 -m sandbox", description="The integration environment.")
    commands = parser.add_subparsers(required=True, metavar="command")

    setup = commands.add_parser("setup", help="install packages, the virtual environment, Node.js and the test tools")
    setup.add_argument("--images", action="store_true", help="build the host images too")
    setup.set_defaults(run=_setup)

    stack = commands.add_parser("stack", help="setup and up, then build the applications and release them")
    stack.add_argument("--name", default=DEFAULT_NAME)
    stack.set_defaults(run=_stack)

    up = commands.add_parser("up", help="start a sandbox")
    up.add_argument("--name", default=DEFAULT_NAME, help="several sandboxes may be up, each with its name")
    up.add_argument("--topology", type=Path, help="YAML file with the hosts; default: by the name, or five hosts")
    up.add_argument("--bare", action="store_true", help="hosts only: no database, no AWS API, no certificates")
    up.add_argument(
        "--provisioned",
        action="store_true",
        help="the hosts are those that provision.yml made in the sandbox's account",
    )
    up.set_defaults(run=_up)

    down = commands.add_parser("down", help="remove a sandbox; keys, certificates and secrets are kept")
    down.add_argument("--name", default=DEFAULT_NAME)
    down.add_argument("--all", action="store_true", help="all sandboxes of this clone, the images and all caches")
    down.set_defaults(run=_down)

    status = commands.add_parser("status", help="show what is running and answering; exit status 3 unless all of it is")
    status.add_argument("--name", default=DEFAULT_NAME)
    status.add_argument("--json", action="store_true")
    status.set_defaults(run=_status)

    ssh = commands.add_parser("ssh", help="open a shell, or run a command, on a host")
    ssh.add_argument("--name", default=DEFAULT_NAME)
    ssh.add_argument("host")
    ssh.add_argument("command", nargs=argparse.REMAINDER)
    ssh.set_defaults(run=_ssh)

    reboot = commands.add_parser("reboot", help="reboot a host")
    reboot.add_argument("--name", default=DEFAULT_NAME)
    reboot.add_argument("host")
    reboot.set_defaults(run=_reboot)

    podman = commands.add_parser("podman", help="call podman where the sandbox's containers are")
    podman.add_argument("arguments", nargs=argparse.REMAINDER)
    podman.set_defaults(run=_podman)
    return parser


def _use_virtual_environment() -> None:
    """Go on with the virtual environment's Python, which has the packages."""
    python = VENV / "bin" / "python"
    if Path(sys.prefix).resolve() == VENV.resolve():
        return
    if not python.exists():
        raise SandboxError(f"{repository_path(VENV)} is missing. Run `make setup` first.")
    sys.stdout.flush()
    os.chdir(REPO)
    os.execv(python, [str(python), "-m", "sandbox", *sys.argv[1:]])  # noqa: S606 - the same program, with its packages


def _setup(options: argparse.Namespace) -> int:
    from sandbox.setup import setup

    setup(Steps(), tests=True, images=options.images)
    return 0


def _stack(options: argparse.Namespace) -> int:
    from sandbox.stack import stack

    stack(options.name)
    return 0


def _up(options: argparse.Namespace) -> int:
    _use_virtual_environment()
    from sandbox import lifecycle

    topology = options.topology and options.topology.resolve()
    if options.provisioned and (topology or options.bare):
        raise SandboxError("--provisioned takes the hosts from the account: leave out --topology and --bare.")
    content = lifecycle.up(options.name, topology, options.bare, Steps(), options.provisioned)
    for name, host in content["hosts"].items():
        say(f"  {name:12} {host['address']:15} {' '.join(host['services'])}")
    state = repository_path(Path(content["state"]))
    say(f"The sandbox {options.name} is up: {state}/endpoints.json, ssh -F {state}/ssh_config HOST")
    return 0


def _down(options: argparse.Namespace) -> int:
    _use_virtual_environment()
    from sandbox import lifecycle

    if options.all:
        lifecycle.down_all()
    else:
        lifecycle.down(options.name)
    return 0


def _status(options: argparse.Namespace) -> int:
    _use_virtual_environment()
    from sandbox import lifecycle

    report = lifecycle.status(options.name)
    if options.json:
        say(json.dumps(report, indent=2))
    else:
        for name, part in report["parts"].items():
            answers = "answers" if part["answers"] else "does not answer"
            say(f"  {name:12} {part['address']:15} {part['state']:8} {answers}")
        for name in report.get("missing", []):
            say(f"  {name:12} {'':15} missing")
        say(f"The sandbox {options.name} is {'up' if report['up'] else 'not up'}.")
    return 0 if report["up"] else 3


def _ssh(options: argparse.Namespace) -> int:
    from sandbox.paths import state_dir

    config = state_dir(options.name) / "ssh_config"
    if not config.exists():
        raise SandboxError(
            f"The sandbox {options.name} was never up. Run `python3 -m sandbox up --name {options.name}`."
        )
    ssh = shutil.which("ssh") or "ssh"
    os.execv(ssh, [ssh, "-F", str(config), options.host, *options.command])  # noqa: S606 - the terminal is ssh's now


def _reboot(options: argparse.Namespace) -> int:
    _use_virtual_environment()
    from sandbox import containers, runtime

    with runtime.session():
        names = [row["Names"][0] for row in containers.rows(options.name)]
        name = f"{options.name}.{options.host}"
        if name not in names:
            known = ", ".join(sorted(item.split(".", 1)[1] for item in names)) or "none: it is not up"
            raise SandboxError(f"The sandbox {options.name} has no host '{options.host}'. Its hosts: {known}.")
        containers.reboot(name)
    return 0


def _podman(options: argparse.Namespace) -> int:
    from sandbox import runtime

    if not runtime.installed():
        raise SandboxError("podman is not installed. Run `make setup` first.")
    with runtime.session(last=True):
        return runtime.shell(options.arguments)
