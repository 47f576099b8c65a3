import sys

from callsheet.upkeep.main import main

if __name__ == "__main__":
    sys.exit(main())
