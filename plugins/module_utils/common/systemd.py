# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""What a release needs of systemd: quoting, unit states, journal lines.

Standard library only, Python 3.9 or later: this runs on hosts as well as on the controller.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ansible_collections.fivepointers.platform.plugins.module_utils.common import processes
from ansible_collections.fivepointers.platform.plugins.module_utils.common.files import sync_directory, write_link

UNITS = "/etc/systemd/system"
WANTS = UNITS + "/multi-user.target.wants"
# Links of units that do not start at boot. systemd does not look there.
PARKED = UNITS + "/fivepointers-parked"
COMMAND_TIMEOUT = 120
# A process may have up to an hour to end.
STOP_TIMEOUT = 3600 + COMMAND_TIMEOUT
ENVIRONMENT = {"LC_ALL": "C", "SYSTEMD_PAGER": "", "SYSTEMD_COLORS": "0"}
# Lines searched per line shown.
SEARCHED = 20
NUMBERS = re.compile(r"[0-9a-fA-F.:-]*\d[0-9a-fA-F.:-]*")
# Growing restart delays exist since this version; older ones would log them as unknown.
GROWING_DELAY_VERSION = 254
GROWING_DELAY = ("RestartSteps=", "RestartMaxDelaySec=")
PROPERTIES = (
    "Id",
    "LoadState",
    "ActiveState",
    "SubState",
    "MainPID",
    "NRestarts",
    "Result",
    "ExecMainCode",
    "ExecMainStatus",
    "InvocationID",
    "ExecMainStartTimestampMonotonic",
)


class SystemdError(Exception):
    """A unit that systemd did not load, start or stop. The text is for the operator."""


# --- quoting (pure) -----------------------------------------------------------


def quote_argument(argument: str) -> str:
    """Quote one word of ExecStart=.

    systemd expands % and $ and splits at white space; the result is exempt from all of these.
    """
    text = argument.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    text = text.replace("\n", "\\n").replace("\t", "\\t").replace("\r", "\\r")
    if text and not re.search(r"[\s'\";\\]", text):
        return text
    return '"%s"' % text


def exec_start(argv: Sequence[str]) -> str:
    """Return the value of ExecStart= for an argv whose first word is an absolute path."""
    return " ".join(quote_argument(word) for word in argv)


def environment_file(variables: Mapping[str, str]) -> str:
    """Return the text of an EnvironmentFile= that gives exactly these values, sorted by name.

    Between double quotes systemd keeps line breaks, and removes a backslash before " \\ ` and $.
    """
    lines = []
    for name, value in sorted(variables.items()):
        lines.append('%s="%s"\n' % (name, re.sub(r'(["\\`$])', r"\\\1", value)))
    return "".join(lines)


def parse_unit(text: str) -> dict[str, dict[str, list[str]]]:
    """Return a unit file as {section: {key: [values in order]}}; raise SystemdError if it is malformed.

    As systemd reads it: a trailing backslash continues a line, an empty value clears the list.
    """
    sections: dict[str, dict[str, list[str]]] = {}
    section: dict[str, list[str]] | None = None
    for number, line in enumerate(re.sub(r"\\\n\s*", " ", text).splitlines(), 1):
        line = line.strip()
        if not line or line[0] in "#;":
            continue
        if line.startswith("[") and line.endswith("]"):
            section = sections.setdefault(line[1:-1], {})
            continue
        key, equals, value = line.partition("=")
        if section is None or not equals or not re.match(r"[A-Za-z0-9]+\Z", key.strip()):
            raise SystemdError("line %d of the unit is neither a section nor key=value: %s" % (number, line))
        if value.strip():
            section.setdefault(key.strip(), []).append(value.strip())
        else:
            section[key.strip()] = []
    return sections


def for_version(unit: str, version: int) -> str:
    """Return a unit without settings that this version of systemd does not know."""
    if version >= GROWING_DELAY_VERSION:
        return unit
    return "".join(line for line in unit.splitlines(True) if not line.startswith(GROWING_DELAY))


# --- the running system -------------------------------------------------------


@dataclass(frozen=True)
class UnitState:
    """State of a unit. started: when its process was started last, in seconds of the clock of `time.monotonic`."""

    name: str
    load: str = "not-found"
    active: str = "inactive"
    sub: str = "dead"
    pid: int = 0
    restarts: int = 0
    result: str = "success"
    code: int = 0
    status: int = 0
    invocation: str = ""
    started: float = 0

    @property
    def running(self) -> bool:
        """Whether its process is running."""
        return self.active == "active"

    @property
    def stopped(self) -> bool:
        """Whether no process of it is running or about to be restarted."""
        return self.active in ("inactive", "failed")

    def exit(self) -> str:
        """Describe how its last process ended; empty if none ended."""
        if self.code == 1:
            return "its process exited with status %d" % self.status
        if self.code in (2, 3):
            return "its process was killed by signal %d" % self.status
        return "" if self.result == "success" else "systemd reports %s" % self.result


UNKNOWN = UnitState("")


def run(argv: Sequence[str], timeout: float = COMMAND_TIMEOUT) -> tuple[int, str]:
    """Run a command of systemd, whose output is then plain; return its exit status and its output."""
    return processes.run(argv, timeout, ENVIRONMENT)


def systemctl(*arguments: str, timeout: float = COMMAND_TIMEOUT) -> str:
    """Run systemctl; raise SystemdError with its output if it fails."""
    status, output = run(["systemctl", "--no-ask-password", *arguments], timeout)
    if status:
        raise SystemdError("`systemctl %s` failed (status %d): %s" % (" ".join(arguments), status, output))
    return output


def version() -> int:
    """Return the version of systemd, such as 252; 0 if it is unknown."""
    match = re.match(r"systemd (\d+)", run(["systemctl", "--version"])[1])
    return int(match.group(1)) if match else 0


def states(units: Sequence[str]) -> dict[str, UnitState]:
    """Return the states of units, in one call."""
    if not units:
        return {}
    status, output = run(["systemctl", "show", "--property=" + ",".join(PROPERTIES), "--", *units])
    if status:
        raise SystemdError("systemd does not respond: %s" % output)
    return parse_states(units, output)


def parse_states(units: Sequence[str], output: str) -> dict[str, UnitState]:
    """Parse the output of `systemctl show` for these units, in their order."""
    found: dict[str, UnitState] = {}
    blocks = [block for block in output.split("\n\n") if block.strip()]
    for name, block in zip(units, blocks):
        values = dict(line.partition("=")[::2] for line in block.splitlines())
        found[name] = UnitState(
            name=name,
            load=values.get("LoadState", "not-found"),
            active=values.get("ActiveState", "inactive"),
            sub=values.get("SubState", "dead"),
            pid=int(values.get("MainPID") or 0),
            restarts=int(values.get("NRestarts") or 0),
            result=values.get("Result", "success"),
            code=int(values.get("ExecMainCode") or 0),
            status=int(values.get("ExecMainStatus") or 0),
            invocation=values.get("InvocationID", ""),
            started=int(values.get("ExecMainStartTimestampMonotonic") or 0) / 1e6,
        )
    return {name: found.get(name, UnitState(name)) for name in units}


def journal(unit: str, since: float, lines: int) -> list[str]:
    """Return the last distinct lines that a unit's processes logged since a time (seconds since 1970).

    If they logged nothing, what systemd logged about them.
    """
    run(["journalctl", "--sync"], 10)
    # Without --reverse, --lines would return the first lines since then.
    command = ["journalctl", "--quiet", "--no-pager", "--output=cat", "--since=@%d" % int(since)]
    command += ["--reverse", "--lines=%d" % (lines * SEARCHED)]
    for match in ("_SYSTEMD_UNIT=" + unit, "UNIT=" + unit):
        status, output = run([*command, match], 20)
        if output and not status:
            return different(processes.readable(output).splitlines())[:lines][::-1]
    return []


def different(lines: Sequence[str]) -> list[str]:
    """Drop lines that differ from an earlier one only in numbers: health checks must not hide why they failed."""
    found: dict[str, str] = {}
    for line in lines:
        found.setdefault(NUMBERS.sub("#", line), line)
    return list(found.values())


# --- enabling without a reload of systemd -------------------------------------


def is_enabled(unit: str) -> bool:
    """Whether the unit starts at boot."""
    return os.path.islink(os.path.join(WANTS, unit))


def enable(unit: str) -> None:
    """Start a unit at boot. Needs no disk space if it is enabled or parked."""
    if is_enabled(unit):
        return
    park(unit)
    _move(unit, PARKED, WANTS)


def disable(unit: str) -> None:
    """No longer start a unit at boot."""
    if is_enabled(unit):
        try:
            _move(unit, WANTS, PARKED)
        except OSError:
            # A full disk, and a host of an earlier version, which has no such directory.
            os.unlink(os.path.join(WANTS, unit))


def park(unit: str) -> None:
    """Create the link that enables a unit, where it does not."""
    link = os.path.join(PARKED, unit)
    if not is_enabled(unit) and not os.path.islink(link):
        write_link(link, os.path.join(UNITS, unit))


def _move(unit: str, source: str, target: str) -> None:
    os.makedirs(target, 0o755, exist_ok=True)
    os.rename(os.path.join(source, unit), os.path.join(target, unit))
    # On disk before anything depends on it: after a power loss the live slot has to start.
    sync_directory(source)
    sync_directory(target)
