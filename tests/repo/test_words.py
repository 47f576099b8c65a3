"""The repository stands on its own: it names no machine it was written on."""

import re
from typing import Final

from tests.repo.tree import files, relative

#: Written in parts, for this file is checked too.
FOREIGN: Final = re.compile(
    "|".join(
        [
            r"(?<![\w.])/(?:work|root|opt|home)" + r"/",
            r"(?<![\w.])/tmp/\w",
            "py" + r"pi\.org",
            "python" + r"hosted\.org",
            "npm" + r"js\.(?:org|com)",
            "download\\." + "pytorch",
            "extra-" + "index-url",
            "find-" + "links",
        ]
    )
)


def test_no_file_names_a_folder_of_one_machine_or_a_package_index() -> None:
    found = [
        f"{relative(path)}:{number} {line.strip()}"
        for path in files()
        for number, line in enumerate(_text(path.read_bytes()).splitlines(), start=1)
        if FOREIGN.search(line)
    ]
    assert found == []


def _text(content: bytes) -> str:
    return "" if b"\0" in content else content.decode(errors="replace")
