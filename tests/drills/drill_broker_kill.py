"""scripts/drill broker_kill: see tests/drills/reliability.py."""

import sys

from tests.drills.reliability import main

if __name__ == "__main__":
    sys.exit(main("broker_kill"))
