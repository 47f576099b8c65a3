"""`python -m callsheet.client.cli` is the command `callsheet`."""

import sys

from callsheet.client.cli.main import main

sys.exit(main())
