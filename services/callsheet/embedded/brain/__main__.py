"""`python -m callsheet.embedded.brain`: run the embedded brain."""

import os
import sys

# numpy reads it when it is imported: more threads than cores make a vector ten times slower.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from callsheet.embedded.brain.main import main

if __name__ == "__main__":
    sys.exit(main())
