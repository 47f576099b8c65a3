"""Starts a confined process: `decode` answers a reader, `run` becomes another program."""

import os
import sys
from datetime import timedelta

from callsheet.media.child import serve
from callsheet.media.confinement import confine

match sys.argv[1:]:
    case ["decode", *limits]:
        serve(limits)
    case ["run", memory_bytes, cpu_seconds, *command]:
        confine(memory_bytes=int(memory_bytes), cpu_time=timedelta(seconds=int(cpu_seconds)))
        os.execv(command[0], command)  # noqa: S606  # its arguments are ours, and need no shell
    case arguments:
        sys.exit(f"nobody starts it with {arguments}")
