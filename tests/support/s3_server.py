"""A process that keeps an S3 API on loopback by moto: `s3_server.py PORT`, which it then prints.

Its buckets are in memory: whoever kills it has lost them.
"""

import logging
import signal
import sys

from moto.server import ThreadedMotoServer


def main() -> None:
    """Serve until killed."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # one line for each request otherwise
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=int(sys.argv[1]), verbose=False)
    server.start()
    sys.stdout.write(f"{server.get_host_and_port()[1]}\n")
    sys.stdout.flush()
    signal.pause()


if __name__ == "__main__":
    main()
