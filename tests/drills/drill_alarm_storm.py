"""scripts/drill alarm_storm: see tests/drills/reliability.py."""

import sys

from tests.drills.reliability import main

if __name__ == "__main__":
    sys.exit(main("alarm_storm"))
