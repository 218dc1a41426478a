"""scripts/drill camera: see tests/drills/camera.py."""

import sys

from tests.drills.camera import main

if __name__ == "__main__":
    sys.exit(main())
