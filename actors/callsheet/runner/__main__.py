import sys

from callsheet.runner.main import serve

if __name__ == "__main__":
    serve(sys.argv[1:])
