"""The corpus: a folder for each target, a small file for each input that once mattered."""

from hashlib import sha256
from pathlib import Path
from typing import Final

CORPUS: Final = Path(__file__).parent / "corpus"
#: What is kept of an input: the corpus is read by people and replayed in every run of the tests.
LARGEST_ENTRY: Final = 16 * 1024


def entries(target: str) -> dict[str, bytes]:
    """Return the target's inputs by the names of their files."""
    folder = CORPUS / target
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir()) if file.is_file()}


def keep(target: str, content: bytes, *, reason: str = "crash") -> Path:
    """Add an input to the target's corpus; the same one again is the same file."""
    file = CORPUS / target / f"{reason}-{sha256(content).hexdigest()[:16]}"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return file
