# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Check the platform through its front door once: one JSON object on standard output, failures on standard error.

    check.py SETTINGS.json

The settings are checks, connect_to, ca_file and timeout, as in the module verify.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from ansible_collections.fivepointers.platform.plugins.plugin_utils.verify.derive import explanations, summary
from ansible_collections.fivepointers.platform.plugins.plugin_utils.verify.run import Walker

# A CloudWatch event may hold far more; a person reads no more.
MOST_FAILURES = 20
LONGEST_FAILURE = 200


def check(settings: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """Run the checks; return what is published to CloudWatch, and the text for people."""
    start = time.monotonic()
    try:
        walker = Walker(settings["connect_to"] or None, settings["ca_file"] or None, settings["timeout"])
        results = walker.walk(settings["checks"])
    except Exception as error:  # a check that cannot run has failed
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
    """Return a text as one line of limited length."""
    line = " ".join(text.split())
    return line if len(line) <= LONGEST_FAILURE else line[: LONGEST_FAILURE - 3] + "..."


def main() -> int:
    """Check once. The exit status says whether the checks ran, not whether they passed."""
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    published, said = check(json.loads(Path(sys.argv[1]).read_text()))
    # One write per line, so that nothing that follows the file reads half a line.
    sys.stdout.write(json.dumps(published, ensure_ascii=False) + "\n")
    sys.stdout.flush()
    print(said, file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
