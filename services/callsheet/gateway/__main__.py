"""`python -m callsheet.gateway`: run the gateway."""

import sys

from callsheet.gateway.main import main

if __name__ == "__main__":
    sys.exit(main())
