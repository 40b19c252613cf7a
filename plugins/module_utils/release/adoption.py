# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Take a port over from an application that was started manually or by pm2, and return it.

adopted.json of a service records who held its port, and how to start that again. It is on disk before anything is
stopped, and serves as the journal: after a kill, the next run resumes or reverts from there.

Standard library only, Python 3.9 or later: this runs on hosts, inside the module.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pwd
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible_collections.fivepointers.platform.plugins.module_utils.common import records, systemd
from ansible_collections.fivepointers.platform.plugins.module_utils.common.files import (
    DamagedError,
    read,
    sync_directory,
    write_file,
)
from ansible_collections.fivepointers.platform.plugins.module_utils.common.sockets import (
    is_free,
    listeners,
    processes_of,
    program_of,
    programs_at,
)
from ansible_collections.fivepointers.platform.plugins.module_utils.release import releases
from ansible_collections.fivepointers.platform.plugins.module_utils.release.releases import (
    ReleaseError,
    Seen,
    Wanted,
)

# States of a record.
STOPPING, ADOPTED, RETURNING = "stopping", "adopted", "returning"
NGINX_PID = "/run/nginx.pid"
RUN = "/run"
POLL = 0.002
# Seconds between SIGTERM and SIGKILL; pm2 gives its processes 1.6 s itself.
STOP_TIMEOUT, PM2_TIMEOUT = 5.0, 20.0
# nginx retries for 2.5 s to bind a port.
FRONT_TIMEOUT, START_TIMEOUT = 6.0, 60.0
PM2_DAEMON = re.compile(r"PM2 v\S+: God Daemon \((.+)\)\s*\Z")
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
# Belongs to the process that started it, and is useless or harmful to another.
PASSING = re.compile(r"NODE_CHANNEL_|NODE_UNIQUE_ID|LISTEN_|NOTIFY_SOCKET|INVOCATION_ID|JOURNAL_STREAM|SYSTEMD_")


# --- processes -----------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Process:
    """A process as /proc shows it."""

    pid: int
    parent: int
    started: str
    argv: list[str]
    executable: str
    directory: str
    environment: dict[str, str]
    uid: int
    gid: int
    umask: str
    output: str

    @property
    def user(self) -> str:
        """Its user's name, or number where it has none."""
        try:
            return pwd.getpwuid(self.uid).pw_name
        except KeyError:
            return str(self.uid)


def split_words(raw: bytes) -> list[str]:
    """Return the words of /proc/<pid>/cmdline or environ."""
    return [word.decode("utf-8", "replace") for word in raw.rstrip(b"\0").split(b"\0")]


def see(pid: int) -> Process:
    """Return what /proc says of a process; raise OSError if it is gone."""
    directory = "/proc/%d/" % pid
    status = dict(line.partition(":")[::2] for line in (read(directory + "status") or "").splitlines())
    if not status:
        raise ProcessLookupError(pid)
    content = {}
    for name in ("cmdline", "environ"):
        with open(directory + name, "rb") as handle:
            content[name] = split_words(handle.read())
    output = os.readlink(directory + "fd/1") if os.path.lexists(directory + "fd/1") else ""
    return Process(
        pid=pid,
        parent=int(status["PPid"]),
        started=started(pid),
        argv=content["cmdline"],
        executable=os.readlink(directory + "exe").replace(" (deleted)", ""),
        directory=os.readlink(directory + "cwd"),
        environment=dict(word.partition("=")[::2] for word in content["environ"] if "=" in word),
        uid=int(status["Uid"].split()[0]),
        gid=int(status["Gid"].split()[0]),
        umask=status.get("Umask", "0022").strip(),
        output=output if output.startswith("/") and os.path.isfile(output) else "",
    )


def started(pid: int) -> str:
    """Return when a process started, in ticks since the boot; empty if there is none."""
    text = read("/proc/%d/stat" % pid) or ""
    fields = text.rpartition(")")[2].split()
    return fields[19] if fields and fields[0] != "Z" else ""


def top(processes: Sequence[Process]) -> Process:
    """Return the process that started the others: sockets are inherited."""
    pids = {process.pid for process in processes}
    return next(process for process in processes if process.parent not in pids)


def service_of(cgroup: str) -> str:
    """Return the systemd service in the text of /proc/<pid>/cgroup, if there is one."""
    found = re.findall(r"/([^/\n]+\.service)\b", cgroup)
    return found[-1] if found else ""


def refusal(process: Process) -> str:
    """Return why a process cannot be adopted, or nothing."""
    if process.pid == 1 or os.path.basename(process.argv[0]) == "docker-proxy":
        return "it belongs to a container or a systemd socket: stop that"
    unit = service_of(read("/proc/%d/cgroup" % process.pid) or "")
    if unit:
        _status, output = systemd.run(["systemctl", "show", "--property=MainPID,Restart", unit])
        shown = dict(line.partition("=")[::2] for line in output.splitlines())
        if shown.get("Restart", "no") != "no" and shown.get("MainPID") in (str(process.pid), str(process.parent)):
            return "systemd would restart it: systemctl disable --now %s" % unit
    if len(process.argv) == 1 and " " in process.argv[0].strip():
        return "it hides its arguments, so it cannot be restarted: stop it"
    if not os.access(process.executable, os.X_OK):
        return "its program %s is gone, so it cannot be restarted: stop it" % process.executable
    return ""


# --- pm2 ----------------------------------------------------------------------


def pm2_home(process: Process) -> str:
    """Return the home of the pm2 that runs a process, or that a process is; empty if there is none."""
    daemon = PM2_DAEMON.match(" ".join(process.argv))
    if daemon:
        return daemon.group(1)
    home = process.environment.get("PM2_HOME", "")
    parent = PM2_DAEMON.match(" ".join(split_words((read("/proc/%d/cmdline" % process.parent) or "").encode())))
    return parent.group(1) if parent and (home or "pm_id" in process.environment) else ""


def pm2_command(process: Process) -> list[str]:
    """Return the command that calls pm2; empty if it cannot be found."""
    caller = process.environment.get("_", "")
    node = os.path.dirname(process.executable)
    path = os.pathsep.join((process.environment.get("PATH", ""), node, "/usr/local/bin", "/usr/bin"))
    program = caller if os.path.basename(caller) == "pm2" and os.access(caller, os.X_OK) else ""
    program = program or shutil.which("pm2", path=path) or ""
    return [process.executable, os.path.realpath(program)] if program else []


def choose_app(apps: Sequence[Mapping[str, Any]], process: Process, port: int) -> list[Mapping[str, Any]]:
    """Return the processes in pm2's list that a port belongs to: one, or all of a cluster. May be empty."""
    mine = [app for app in apps if str(app.get("pid")) == str(process.pid)]
    if mine:
        return mine
    # A cluster's socket is that of pm2 itself.
    cluster = [app for app in apps if app.get("pm2_env", {}).get("exec_mode") == "cluster_mode" and app.get("pid")]
    told = [app for app in cluster if str(app["pm2_env"].get("env", {}).get("PORT")) == str(port)]
    names = {app["name"] for app in told or cluster}
    return [app for app in cluster if app["name"] in names] if len(names) == 1 else []


def parse_list(output: str) -> list[dict[str, Any]]:
    """Parse the output of `pm2 jlist`, which may print other lines first."""
    for line in reversed(output.splitlines()):
        if line.startswith("["):
            with contextlib.suppress(ValueError):
                found = json.loads(line)
                return [app for app in found if isinstance(app, dict)]
    return []


def _pm2(record: Mapping[str, Any], *arguments: str) -> subprocess.Popen[bytes]:
    """Call pm2 as its own user."""
    process, pm2 = record["process"], record["pm2"]
    account = pwd.getpwuid(process["uid"])
    return subprocess.Popen(
        [*pm2["command"], *arguments],
        cwd="/",
        env={
            "PATH": os.path.dirname(process["executable"]) + ":" + process["environment"].get("PATH", os.defpath),
            "HOME": process["environment"].get("HOME", account.pw_dir),
            "USER": account.pw_name,
            "PM2_HOME": pm2["home"],
            "LC_ALL": "C.UTF-8",
        },
        user=process["uid"],
        group=process["gid"],
        extra_groups=os.getgrouplist(account.pw_name, process["gid"]),
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def _ask_pm2(record: Mapping[str, Any], *arguments: str) -> str:
    """Call pm2 and wait; return what it printed. Raises ReleaseError if it fails."""
    return _output(_pm2(record, *arguments), arguments[0])


def _output(calling: subprocess.Popen[bytes], what: str) -> str:
    """Wait for a call of pm2 to end; return what it printed. Raises ReleaseError if it fails."""
    try:
        output = calling.communicate(timeout=PM2_TIMEOUT)[0].decode("utf-8", "replace")
    except subprocess.TimeoutExpired:
        calling.kill()
        raise ReleaseError("`pm2 %s` did not end within %d s" % (what, PM2_TIMEOUT)) from None
    if calling.returncode:
        raise ReleaseError("`pm2 %s` failed: %s" % (what, output.strip()[-500:]))
    return output


# --- the record ---------------------------------------------------------------


def record_path(name: str) -> str:
    """Return the file that records from whom a port was taken over."""
    return os.path.join(releases.STATE, name, "adopted.json")


def recorded(name: str) -> dict[str, Any]:
    """Return the record of a port that was taken over; empty if it was not. Raises ReleaseError."""
    try:
        return records.read(record_path(name), {})
    except DamagedError as error:
        raise ReleaseError(
            "%s: %s Nothing was changed. Restore the file, or remove it on this host." % (name, error)
        ) from error


def write_record(name: str, record: Mapping[str, Any], state: str) -> dict[str, Any]:
    """Write the record, with how far the adoption is."""
    noted = {**record, "state": state}
    # Its environment holds secrets.
    records.write(record_path(name), noted, 0o600)
    return noted


def unfinished(name: str, seen: Seen) -> Seen:
    """Return what was seen, without the front of an interrupted adoption: nginx does not use it yet."""
    if underway(name) and "nginx" not in programs_at(recorded(name)["port"]):
        return dataclasses.replace(seen, front=None, live=None)
    return seen


def underway(name: str) -> bool:
    """Whether a run was killed while it took a port over or returned it."""
    return recorded(name).get("state", ADOPTED) != ADOPTED


def capture(name: str, port: int, inodes: Sequence[str]) -> dict[str, Any]:
    """Return the record of who holds a port. Raises ReleaseError if that cannot be stopped or restarted."""
    found = []
    for pid in processes_of(inodes):
        with contextlib.suppress(OSError):
            found.append(see(pid))
    if not found:
        raise ReleaseError("%s: the holder of port %d cannot be determined. Nothing was changed." % (name, port))
    process = top(found)
    record: dict[str, Any] = {
        "version": 1,
        "state": STOPPING,
        "port": port,
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "was": "process %d (%s) of user %s" % (process.pid, " ".join(process.argv)[:200], process.user),
        "process": {**dataclasses.asdict(process), "user": process.user},
        "pm2": {},
    }
    home = pm2_home(process)
    problem = _capture_pm2(record, process, port, home) if home else refusal(process)
    if problem:
        raise ReleaseError(
            "%s: port %d is in use by %s, which cannot be adopted. Nothing was changed. %s, and deploy again."
            % (name, port, record["was"], problem[0].upper() + problem[1:])
        )
    return record


def _capture_pm2(record: dict[str, Any], process: Process, port: int, home: str) -> str:
    """Add what pm2 knows to a record; return why that is not enough, if it is not."""
    command = pm2_command(process)
    if not command:
        return "pm2 runs it, and cannot be found: put it on the PATH of user %s" % process.user
    record["pm2"] = {"home": home, "command": command}
    apps = choose_app(parse_list(_ask_pm2(record, "jlist")), process, port)
    if not apps:
        return "pm2 does not tell which of its processes it is: stop it with `pm2 stop`"
    name = str(apps[0]["name"])
    ids = [int(app["pm_id"]) for app in apps]
    dump = read(os.path.join(home, "dump.pm2")) or "[]"
    record["pm2"].update(
        name=name,
        ids=ids,
        script=apps[0].get("pm2_env", {}).get("pm_exec_path", ""),
        # Whether pm2 would start it at boot.
        saved=any(app.get("name") == name for app in parse_list(dump.replace("\n", ""))),
    )
    record["was"] = "pm2's process %s (%s) of user %s" % (name, ", ".join(map(str, ids)), process.user)
    return ""


# --- taking over and giving back ----------------------------------------------


def _alive(record: Mapping[str, Any]) -> bool:
    """Whether the process of a record, and not a later one with its number, is running."""
    return started(record["process"]["pid"]) == record["process"]["started"]


def _signal(record: Mapping[str, Any], number: int) -> None:
    if _alive(record):
        with contextlib.suppress(ProcessLookupError):
            os.kill(record["process"]["pid"], number)


def reload_nginx() -> None:
    """Reload nginx, directly if it is running, which is faster than through systemd."""
    pid = (read(NGINX_PID) or "").strip()
    if pid.isdigit() and (read("/proc/%s/comm" % pid) or "").strip() == "nginx":
        os.kill(int(pid), signal.SIGHUP)
    else:
        systemd.systemctl("reload-or-restart", "nginx.service")


def _end(record: Mapping[str, Any], stopping: subprocess.Popen[bytes] | None) -> float:
    """Wait until the port is free, and enforce it; return the last moment at which it was in use."""
    begun = last = time.monotonic()
    killed = False
    while not is_free(record["port"]):
        last = time.monotonic()
        if not stopping and not killed and last - begun > STOP_TIMEOUT:
            killed = True
            for pid in processes_of([inode for _address, inode in listeners(record["port"])]):
                if program_of(pid) != "nginx":
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
        if last - begun > (PM2_TIMEOUT if stopping else 2 * STOP_TIMEOUT):
            raise ReleaseError(
                "port %d is still in use, %.0f s after its holder was stopped" % (record["port"], last - begun)
            )
        time.sleep(POLL)
    return last


def _finish(record: Mapping[str, Any], stopping: subprocess.Popen[bytes] | None) -> None:
    """Wait for the old process to finish its work; it must not run next to its successor for long."""
    if stopping:
        _output(stopping, "stop")
        if record["pm2"]["saved"]:
            # Or pm2 would start it at boot.
            _ask_pm2(record, "save")
        return
    deadline = time.monotonic() + STOP_TIMEOUT
    while _alive(record) and time.monotonic() < deadline:
        time.sleep(0.05)
    _signal(record, signal.SIGKILL)


def _wait(answers: Callable[[], bool], seconds: float) -> float:
    """Wait for an answer; return when it came, 0 if none came."""
    deadline = time.monotonic() + seconds
    while not answers():
        if time.monotonic() > deadline:
            return 0
        time.sleep(POLL)
    return time.monotonic()


def take_over(name: str, record: Mapping[str, Any], answers: Callable[[], bool]) -> float:
    """Stop the holder of the port, and start the front, whose file is in place; return the outage in ms.

    Raises ReleaseError if the front does not answer. The caller then returns the port.
    """
    stopping = _pm2(record, "stop", *map(str, record["pm2"]["ids"])) if record["pm2"] else None
    if not stopping:
        _signal(record, signal.SIGTERM)
    last = _end(record, stopping)
    reload_nginx()
    first = _wait(answers, FRONT_TIMEOUT)
    if not first:
        raise ReleaseError(
            "the front did not answer within %.0f s after port %d became free" % (FRONT_TIMEOUT, record["port"])
        )
    _finish(record, stopping)
    write_record(name, record, ADOPTED)
    return round((first - last) * 1000, 1)


def settle(name: str) -> None:
    """Complete an adoption whose run was killed after the front had answered."""
    if underway(name):
        record = recorded(name)
        if record["pm2"] and record["pm2"]["saved"]:
            _ask_pm2(record, "save")
        write_record(name, record, ADOPTED)


def live_release(name: str) -> Wanted | None:
    """Return the release behind an adopted port; None if the port was not adopted."""
    slot = releases.flagged(name) or "blue"
    if not recorded(name):
        return None
    return releases.load_wanted(name, os.path.basename(os.readlink(releases.slot_path(name, slot))))


def end_live(name: str) -> None:
    """Record that no release of a service is live any more."""
    state = releases.read_state(name)
    if state.pop("live", None):
        state.pop("held", None)
        releases.write_state(name, state)


def unit_of(name: str) -> str:
    """Return the unit of an application whose port was returned."""
    return "fivepointers-%s-given-back.service" % name


def unit_text(name: str, record: Mapping[str, Any], environment: str) -> str:
    """Return the text of that unit: the same program, arguments, directory, user and output as before."""
    process = record["process"]
    plain = {key: process[key].replace("%", "%%") for key in ("directory", "output")}
    return "".join(
        line + "\n"
        for line in (
            "[Unit]",
            "Description=%s, as it ran before it was adopted" % name,
            "CollectMode=inactive-or-failed",
            "[Service]",
            "Type=exec",
            "ExecStart=@" + systemd.exec_start([process["executable"], *process["argv"]]),
            "User=%s" % process["user"],
            "Group=%d" % process["gid"],
            "UMask=%s" % process["umask"],
            "WorkingDirectory=" + plain["directory"],
            "EnvironmentFile=" + environment,
            "StandardOutput=append:" + plain["output"] if plain["output"] else "StandardOutput=journal",
            "StandardError=inherit",
        )
    )


def prepare_return(name: str) -> dict[str, Any]:
    """Do everything slow before a front is removed; return the record, empty if nothing was adopted."""
    record = recorded(name)
    if not record:
        return {}
    record = write_record(name, record, RETURNING)
    if record["pm2"]:
        known = _pm2_ids(record)
        if not known and record["pm2"]["saved"]:
            _ask_pm2(record, "resurrect")
            known = _pm2_ids(record)
        if not known:
            raise ReleaseError(
                "%s: pm2 no longer knows its process %s, so it cannot be restarted. %s records how it ran: start it "
                "with pm2, stop it, and run this again." % (name, record["pm2"]["name"], record_path(name))
            )
        # After a restart, pm2 numbers its processes again.
        return write_record(name, {**record, "pm2": {**record["pm2"], "ids": known}}, RETURNING)
    variables = record["process"]["environment"].items()
    kept = {key: value for key, value in variables if NAME.match(key) and not PASSING.match(key)}
    write_file(_environment_path(name), systemd.environment_file(kept), 0o600)
    write_file(_unit_path(name), unit_text(name, record, _environment_path(name)), 0o644)
    systemd.systemctl("daemon-reload")
    return record


def _unit_path(name: str) -> str:
    # A unit of its own outlives this module and the session. A reboot removes it, as it ended the process before.
    # Nothing that fills the disk reaches /run.
    return os.path.join(RUN, "systemd/system", unit_of(name))


def _environment_path(name: str) -> str:
    return os.path.join(RUN, "fivepointers-%s-given-back.env" % name)


def _pm2_ids(record: Mapping[str, Any]) -> list[int]:
    """Return pm2's numbers for the process of a record: the recorded ones, or all of that name."""
    apps = [app for app in parse_list(_ask_pm2(record, "jlist")) if app.get("name") == record["pm2"]["name"]]
    ids = [int(app["pm_id"]) for app in apps]
    return [number for number in ids if number in record["pm2"]["ids"]] or ids


def give_back(name: str, record: Mapping[str, Any], answers: Callable[[], bool], begun: float) -> float:
    """Restart what was stopped, once the front is gone; return the outage since `begun` in ms.

    Does not start what is running already. Raises ReleaseError if nothing answers.
    """
    deadline = time.monotonic() + FRONT_TIMEOUT
    running = False
    # The workers of nginx release the port one by one.
    while not running and not is_free(record["port"]) and time.monotonic() < deadline:
        time.sleep(POLL)
        running = bool(programs_at(record["port"]) - {"nginx"})
    starting = None
    if not running and record["pm2"]:
        starting = _pm2(record, "start", *map(str, record["pm2"]["ids"]))
    elif not running:
        systemd.systemctl("start", unit_of(name))
    first = _wait(answers, START_TIMEOUT)
    if not first:
        if starting:
            _output(starting, "start")
        raise ReleaseError(
            "%s: %s was restarted and does not answer at port %d. %s records how it ran: start it manually, or deploy "
            "again with -e adopt=true." % (name, record["was"], record["port"], record_path(name))
        )
    if starting:
        _output(starting, "start")
    if record["pm2"] and record["pm2"]["saved"]:
        _ask_pm2(record, "save")
    for path in (_environment_path(name), _unit_path(name), record_path(name)):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
    sync_directory(os.path.dirname(record_path(name)))
    return 0.0 if running else round((first - begun) * 1000, 1)
