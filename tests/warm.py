# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Ansible's programs without their start.

An `ansible-playbook` imports for half a second of processor time before it reads its arguments, and a module that asks
AWS as long: boto3, and what describes EC2. Here, one process imports all that, and is forked for each program.

    subprocess.run(["ansible-playbook", ...], env={**os.environ, "PATH": f"{programs()}:{os.environ['PATH']}"})

It is the same code with the same arguments, environment, directory, input and output. What the imports depend on
(settings of Ansible in the environment) is compared: with others, and for other uses of Python, the program itself is
started.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import importlib
import marshal
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
import types
from collections.abc import Mapping, Sequence
from pathlib import Path

NAMES = ("ansible-playbook", "ansible-inventory", "python")
# Services of AWS that many modules ask, and whose description is long.
SERVICES = ("cloudwatch", "ec2", "elbv2", "iam", "logs", "rds", "s3", "sts")
# What a program is started as: it hands itself over to the process that is warm, and waits for its status.
CLIENT = """\
#!{python} -IS
import marshal, os, socket, sys

name = os.path.basename(sys.argv[0])
settings = {{key: value for key, value in os.environ.items() if key.startswith("ANSIBLE_") or key == "HOME"}}
if settings != {settings!r} or name == "python" and sys.argv[1:]:
    os.execv({real!r}, [{real!r}, *sys.argv[1:]])
request = marshal.dumps((sys.argv, dict(os.environ), os.getcwd()))
with socket.socket(socket.AF_UNIX) as warm:
    warm.connect(sys.argv[0] + ".socket")
    socket.send_fds(warm, [len(request).to_bytes(8, "big")], [0, 1, 2])
    warm.sendall(request)
    status = warm.recv(1)
sys.exit(status[0] if status else 70)
"""


def settings(environment: Mapping[str, str]) -> dict[str, str]:
    """Return what Ansible reads of an environment when it is imported."""
    return {key: value for key, value in environment.items() if key.startswith("ANSIBLE_") or key == "HOME"}


def programs(environment: Mapping[str, str] | None = None) -> Path:
    """Return a folder of programs that are warm, for PATH. Their process ends with this one.

    :param environment: where they will run, if not here.
    """
    return _programs(tuple(sorted(settings(os.environ if environment is None else environment).items())))


@functools.cache
def _programs(chosen: tuple[tuple[str, str], ...]) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="warm-"))
    listeners = []
    for name in NAMES:
        text = CLIENT.format(
            python=sys.executable, settings=dict(chosen), real=str(Path(sys.executable).with_name(name))
        )
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(f"{folder / name}.socket")
        listener.listen(64)
        listeners.append(listener)
    numbers = [listener.fileno() for listener in listeners]
    environment = {key: value for key, value in os.environ.items() if key not in settings(os.environ)} | dict(chosen)
    command = [sys.executable, "-P", __file__, str(folder), *map(str, numbers)]
    # Ends with its input, and so with this process.
    process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, pass_fds=numbers)
    for listener in listeners:
        listener.close()
    atexit.register(process.communicate)
    return folder


def serve(playbook: socket.socket, inventory: socket.socket, python: socket.socket) -> None:
    """Become two processes, one for Ansible's programs and one for modules, which know nothing of the former."""
    import boto3
    import botocore.session

    botocore.session.create_loader = functools.cache(botocore.session.create_loader)
    for service in SERVICES:
        boto3.session.Session("x", "x", region_name="us-east-1").client(service)
    modules = os.fork()
    if modules:
        importlib.import_module("ansible.cli.inventory")
        importlib.import_module("ansible.cli.playbook")
        python.close()
        _serve(playbook, inventory)
        os.waitpid(modules, 0)
    else:
        importlib.import_module("ansible.module_utils._internal._ansiballz._loader")
        playbook.close()
        inventory.close()
        _serve(python)


def _serve(*listeners: socket.socket) -> None:
    """Fork for each program that asks, until standard input ends."""
    gc.freeze()
    with selectors.DefaultSelector() as selector:
        for waited in (*listeners, sys.stdin):
            selector.register(waited, selectors.EVENT_READ)
        while True:
            for key, _events in selector.select():
                if key.fileobj is sys.stdin:
                    return
                if key.fileobj in listeners:
                    client = key.fileobj.accept()[0]
                    pid = _begin(client)
                    selector.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, client))
                    # Whoever waits for the program may be stopped.
                    selector.register(client, selectors.EVENT_READ, (pid, client))
                    continue
                pid, client = key.data
                if key.fileobj is not client:
                    selector.unregister(key.fd)
                    os.close(key.fd)
                    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                if client.fileno() < 0:
                    continue
                selector.unregister(client)
                if key.fileobj is client:
                    os.kill(pid, signal.SIGKILL)
                    client.close()
                else:
                    with client, contextlib.suppress(BrokenPipeError):
                        client.sendall(bytes([status & 255]))


def _begin(client: socket.socket) -> int:
    """Fork; return the process that becomes the program."""
    size, descriptors, _flags, _address = socket.recv_fds(client, 8, 3)
    with client.makefile("rb") as stream:
        argv, environment, directory = marshal.loads(stream.read(int.from_bytes(size, "big")))
    pid = os.fork()
    if pid:
        for descriptor in descriptors:
            os.close(descriptor)
        return pid
    status = 70
    try:
        for number, descriptor in enumerate(descriptors):
            os.dup2(descriptor, number)
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        os.environ.clear()
        os.environ.update(environment)
        os.chdir(directory)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        status = _become(argv)
    finally:
        os._exit(status)


def _become(argv: Sequence[str]) -> int:
    """Run a program to its end; return its status."""
    atexit._clear()
    sys.argv = list(argv)
    # What runs modules where it runs itself, has them run warm.
    sys.executable = str(Path(argv[0]).with_name("python"))
    name = Path(argv[0]).name
    status = 0
    try:
        if name == "python":
            main = sys.modules["__main__"] = types.ModuleType("__main__")
            exec(compile(sys.stdin.read(), "<stdin>", "exec"), vars(main))
        else:
            # Made when it is imported, and removed at the end.
            constants = sys.modules["ansible.constants"]
            constants.DEFAULT_LOCAL_TMP = tempfile.mkdtemp(dir=Path(constants.DEFAULT_LOCAL_TMP).parent)
            atexit.register(shutil.rmtree, constants.DEFAULT_LOCAL_TMP, ignore_errors=True)
            sys.modules[f"ansible.cli.{name.removeprefix('ansible-')}"].main()
    except SystemExit as ended:
        if isinstance(ended.code, str):
            print(ended.code, file=sys.stderr)
        status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
        status = 1
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    return status


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        serve(*(socket.socket(fileno=int(number)) for number in sys.argv[2:]))
    finally:
        shutil.rmtree(sys.argv[1], ignore_errors=True)
