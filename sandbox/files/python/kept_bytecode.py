"""Keep what Python compiles of modules in archives, as it does of modules in folders.

Ansible sends each module as an archive, and Python compiles all of it again in each task: 0.16 s of the processor for
the smallest one, two fifths of what a task costs a host. Here controller and hosts share the same two processors.
What is kept is found by the source itself and Python's version, so nothing outdated is ever run.

Files `.pth` load this when Python starts, on the sandbox's hosts and in the virtual environment.
"""

import os
import zipimport


def install(folder: str) -> None:
    """Look into the folder before a source is compiled. Who may not write there compiles.

    A file named off in the folder turns this off, as benchmarks do: hosts on AWS compile.
    """
    if not os.access(folder, os.W_OK) or os.path.exists(f"{folder}/off"):
        return
    import _imp
    import marshal
    from _frozen_importlib_external import MAGIC_NUMBER

    compile_source = zipimport._compile_source
    version = int.from_bytes(MAGIC_NUMBER, "little")

    def kept(path, source):
        name = f"{folder}/{_imp.source_hash(version, source).hex()}-{len(source)}"
        try:
            with open(name, "rb") as file:
                code = marshal.loads(file.read())  # noqa: S302 — written by us, below
        except (OSError, EOFError, ValueError, TypeError):
            code = compile_source(path, source)
            _write(name, marshal.dumps(code))
        else:
            # Tracebacks name the archive that it came in now.
            _imp._fix_co_filename(code, path)
        return code

    zipimport._compile_source = kept


def _write(name: str, content: bytes) -> None:
    """Write a file as a whole, or not at all: others read it meanwhile."""
    temporary = f"{name}.{os.getpid()}.{os.urandom(4).hex()}"
    try:
        with open(temporary, "wb") as file:
            file.write(content)
        os.replace(temporary, name)
    except OSError:
        return
