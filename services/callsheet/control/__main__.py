"""`python -m callsheet.control`: run the control plane."""

import sys

from callsheet.control.main import main

if __name__ == "__main__":
    sys.exit(main())
