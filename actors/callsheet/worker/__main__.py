"""`python -m callsheet.worker`: run a worker."""

import sys

from callsheet.worker.main import main

if __name__ == "__main__":
    sys.exit(main())
