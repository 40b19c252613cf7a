# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Run a command for a bounded time, and end it with everything that it started.

Standard library only, Python 3.9 or later: this runs on hosts as well as on the controller.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Mapping, Sequence

# Sequences of a terminal: colours and the cursor, titles and links, single commands.
ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]P^_X][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~])")
# What YAML does not print as it is: one such character turns a whole message into one escaped line.
UNPRINTABLE = re.compile("[^\n\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd]")

TIMED_OUT, NOT_EXECUTABLE, NOT_FOUND = 124, 126, 127


def run(
    argv: Sequence[str],
    timeout: float,
    environment: Mapping[str, str] | None = None,
) -> tuple[int, str]:
    """Run a command; return its exit status and its output, standard error included.

    As in a shell, the status is 124 if the command timed out, 126 if it cannot be executed and 127 if it does not
    exist. environment: added to that of this process.
    """
    try:
        process = subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, **(environment or {})},
        )
    except FileNotFoundError:
        return NOT_FOUND, "%s is not installed" % argv[0]
    except OSError as error:
        return NOT_EXECUTABLE, "%s cannot be executed: %s" % (argv[0], error.strerror)
    with process:
        try:
            output = process.communicate(timeout=timeout)[0]
        except subprocess.TimeoutExpired as error:
            end(process)
            return TIMED_OUT, _text(error.stdout) + "\n(timed out after %g s)" % timeout
        except BaseException:
            end(process)
            raise
    return process.returncode, _text(output)


def _text(output: bytes | None) -> str:
    return (output or b"").decode("utf-8", "replace").strip()


def readable(text: str) -> str:
    """Return what a program said as it can stand in a message: without colours, and without trailing spaces.

    A character that would have the message escaped as a whole, such as an emoji, becomes its number: <U+1F680>.
    """
    plain = ESCAPES.sub("", text).replace("\r\n", "\n").replace("\r", "\n").expandtabs(4)
    plain = UNPRINTABLE.sub(lambda found: "<U+%04X>" % ord(found[0]) if found[0] > "\x7f" else "", plain)
    return "\n".join(line.rstrip() for line in plain.split("\n"))


def end(process: subprocess.Popen[bytes]) -> None:
    """End a command that leads its own session, and whatever it left in the background: SIGTERM, then SIGKILL."""
    for number, patience in ((signal.SIGTERM, 3.0), (signal.SIGKILL, 5.0)):
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(patience)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
