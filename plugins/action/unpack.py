# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The controller's half of unpack: downloads archives that hosts need, once, and sends them."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import typing as t
from collections.abc import Mapping
from urllib.parse import urlsplit
from urllib.request import url2pathname

from ansible.errors import AnsibleActionFail
from ansible.module_utils.urls import open_url
from ansible.plugins.action import ActionBase
from ansible_collections.fivepointers.platform.plugins.module_utils.common.archive import ArchiveError, sha256_of
from ansible_collections.fivepointers.platform.plugins.module_utils.common.files import locked
from ansible_collections.fivepointers.platform.plugins.module_utils.common.runtime_table import choose, pick

FETCH_TIMEOUT = 60


def local(entry: Mapping[str, t.Any], table: str) -> str:
    """Return the path of an archive with a file URL, once its checksum is verified."""
    path = url2pathname(urlsplit(entry["url"]).path)
    try:
        found = sha256_of(path)
    except OSError as error:
        raise ArchiveError(
            "%s (version %s of %s) cannot be read on the controller: %s"
            % (entry["url"], entry["version"], table, error.strerror)
        ) from error
    if found != entry["sha256"]:
        raise ArchiveError(
            "%s has the checksum %s, but version %s of %s says %s. One of them is wrong."
            % (path, found, entry["version"], table, entry["sha256"])
        )
    return path


def fetch(entry: Mapping[str, t.Any], path: str, table: str) -> None:
    """Download an archive into the cache unless it is there; raise ArchiveError with the URL and the fix."""
    # One process downloads; the tasks of other hosts wait, and then find the file.
    with locked(path + ".lock"):
        if os.path.isfile(path) and sha256_of(path) == entry["sha256"]:
            return
        where = "%s (version %s of %s)" % (entry["url"], entry["version"], table)
        descriptor, temporary = tempfile.mkstemp(prefix=".fetch-", dir=os.path.dirname(path))
        try:
            with os.fdopen(descriptor, "wb") as handle:
                with open_url(entry["url"], timeout=FETCH_TIMEOUT, follow_redirects="all") as answer:
                    shutil.copyfileobj(answer, handle, 1 << 20)
                handle.flush()
                os.fsync(handle.fileno())
            found = sha256_of(temporary)
            if found != entry["sha256"]:
                raise ArchiveError(
                    "The download from %s has the checksum %s instead of %s. If its publisher lists the former, "
                    "correct the table; otherwise do not use it." % (where, found, entry["sha256"])
                )
            os.rename(temporary, path)
        except (OSError, ValueError) as error:
            raise ArchiveError(
                "The controller cannot download %s: %s. Correct the URL in %s, or put the file at %s."
                % (where, error, table, path)
            ) from error
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)


class ActionModule(ActionBase):
    """The controller's half of unpack."""

    _requires_connection = True

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Ask the host once; download and send what it needs."""
        super().run(tmp, task_vars)
        variables = task_vars or {}
        args = dict(self._task.args)
        table = str(args.get("table") or "archives")
        for key in ("dest", "wanted"):
            if not args.get(key):
                if key == "wanted" and args.get(key) is not None:
                    return {"changed": False, "versions": {}}
                raise AnsibleActionFail("unpack: %s is not given" % key)
        try:
            chosen = {str(name): choose(args.get("archives") or {}, name, table) for name in args["wanted"]}
        except ArchiveError as error:
            raise AnsibleActionFail(str(error)) from error
        entries = {entry["version"]: entry for entry in chosen.values()}
        call = {
            "dest": args["dest"],
            "wanted": [],
            # The host knows its platform.
            "requests": list(entries.values()),
        }
        if args.get("proof"):
            call["proof"] = args["proof"]
        result = self._call(call, variables)
        if result.get("lacks"):
            try:
                for name, entry in chosen.items():
                    pick(entry["archives"], result["lacks"], "%s['%s']" % (table, name))
            except ArchiveError as error:
                raise AnsibleActionFail(str(error)) from error
        if result.get("needs"):
            sent = {}
            if not self._connection._shell.tmpdir:
                self._make_tmp_path()
            try:
                for version, platform in result["needs"].items():
                    entry = {**entries[version]["archives"][platform], "version": version, "platform": platform}
                    sent[version] = self._send(entry, str(args["dest"]), args.get("cache"), table)
                result = self._call({**call, "sent": sent}, variables)
            finally:
                self._remove_tmp_path(self._connection._shell.tmpdir)
        result["versions"] = {name: entry["version"] for name, entry in chosen.items()}
        return result

    def _call(self, arguments: dict[str, t.Any], variables: dict[str, t.Any]) -> dict[str, t.Any]:
        result: dict[str, t.Any] = self._execute_module(
            module_name="fivepointers.platform.unpack", module_args=arguments, task_vars=variables
        )
        result.pop("invocation", None)
        return result

    def _send(self, entry: Mapping[str, t.Any], dest: str, cache: t.Any, table: str) -> str:
        """Send one archive to the host's temporary directory; return its path there."""
        try:
            if entry["url"].startswith("file:"):
                path = local(entry, table)
            elif not cache:
                raise AnsibleActionFail("unpack: cache is not given; name a directory on the controller")
            else:
                file = "-".join(filter(None, [os.path.basename(dest), entry["version"], entry["platform"]])) + ".tar.gz"
                path = os.path.join(os.path.abspath(os.path.expanduser(str(cache))), file)
                fetch(entry, path, table)
        except ArchiveError as error:
            raise AnsibleActionFail(str(error)) from error
        target: str = self._connection._shell.join_path(self._connection._shell.tmpdir, os.path.basename(path))
        self._transfer_file(path, target)
        return target
