# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Walk through the front door once: one JSON object on standard output, and what failed on standard error.

    check.py SETTINGS.json

The settings hold checks, connect_to, ca_file and timeout, as the module verify takes them.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from ansible_collections.fivepointers.platform.plugins.plugin_utils.verify.derive import explanations, summary
from ansible_collections.fivepointers.platform.plugins.plugin_utils.verify.run import Walker

# An event of CloudWatch may hold far more; a person reads no more.
MOST_FAILURES = 20
LONGEST_FAILURE = 200


def check(settings: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """Carry the checks out; return what is published, and what is said to people."""
    start = time.monotonic()
    try:
        walker = Walker(settings["connect_to"] or None, settings["ca_file"] or None, settings["timeout"])
        results = walker.walk(settings["checks"])
    except Exception as error:  # a check that cannot be made is one that failed
        failures, said, count = [f"the check itself failed: {type(error).__name__}: {error}"], "", 0
    else:
        failed = [item for item in results if item["level"] == "failed"]
        failures = [f"{item['service']}: {item['check']}: {item['came']}" for item in failed]
        said, count = "\n\n".join(explanations(results)), len(results)
        said = "\n\n".join(filter(None, [said, summary(results, time.monotonic() - start)]))
    published = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "verify": {
            "succeeded": 0 if failures else 1,
            "seconds": round(time.monotonic() - start, 3),
            "checks": count,
            "failures": [shortened(text) for text in failures[:MOST_FAILURES]],
        },
    }
    return published, said or failures[0]


def shortened(text: str) -> str:
    """A text as one line of bounded length."""
    line = " ".join(text.split())
    return line if len(line) <= LONGEST_FAILURE else line[: LONGEST_FAILURE - 3] + "..."


def main() -> int:
    """Check once. The exit status says whether the check was made, and not how it went."""
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    published, said = check(json.loads(Path(sys.argv[1]).read_text()))
    # One write for one line, so that whoever follows the file never sees half of it.
    sys.stdout.write(json.dumps(published, ensure_ascii=False) + "\n")
    sys.stdout.flush()
    print(said, file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
