"""`python -m callsheet.sidecar`: run a sidecar."""

import sys

from callsheet.sidecar.main import main

if __name__ == "__main__":
    sys.exit(main())
