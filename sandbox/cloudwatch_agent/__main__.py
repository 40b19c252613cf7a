"""Build the stand-in's package: `python3 -m sandbox.cloudwatch_agent FILE.deb`."""

import sys
from pathlib import Path

from sandbox.cloudwatch_agent import build

if len(sys.argv) != 2:
    sys.exit(__doc__)
print(build(Path(sys.argv[1])))
