"""Refuse a contract that breaks the landed one: the last version on the main branch.

What has landed is what origin/main holds, or HEAD where there is no such branch. Where the contract
is that very version, the one before it is taken, so a change is checked in the working tree, on its
branch, and once more after it has landed. A commit that must break it says why in a trailer of its
message, `Breaks-Contract: <reason>`; later versions are compared with that commit.
"""

import io
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
CONTRACT = ("buf.yaml", "protos/callsheet", "third_party")
TRAILER = "Breaks-Contract"
BUF = Path(sys.executable).parent / "buf"


def landed_contract() -> str | None:
    """Return the commit to compare with, or None where no other contract was ever landed."""
    landed = _git("merge-base", "HEAD", "origin/main") or _git("rev-parse", "--verify", "HEAD")
    if landed is None:
        return None
    if not _differs_from(landed):
        changed = _git("log", "-1", "--format=%H", landed, "--", *CONTRACT)
        landed = _git("rev-parse", "--verify", f"{changed}^") if changed else None
    return landed and (_declared_break(landed) or landed)


def check(commit: str) -> int:
    """Compare the contract with the one of *commit*; return buf's exit status, 0 for no break."""
    with tempfile.TemporaryDirectory() as folder:
        present = [path for path in CONTRACT if _git("cat-file", "-t", f"{commit}:{path}")]
        if len(present) < len(CONTRACT):
            print(f"{commit[:12]} holds no contract yet")
            return 0
        command = ["git", "archive", commit, *present]
        archive = subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True).stdout
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            tar.extractall(folder, filter="data")
        result = subprocess.run([BUF, "breaking", "--against", folder], cwd=REPOSITORY, check=False)
    print(f"compared with the contract of {commit[:12]}")
    return result.returncode


def _declared_break(landed: str) -> str | None:
    """Return the newest commit since *landed* whose trailer says that it breaks the contract."""
    trailer = f"--format=%H %(trailers:key={TRAILER},valueonly,separator=%x20)"
    commits = _git("log", trailer, f"{landed}..HEAD", "--", *CONTRACT) or ""
    declared = [line.partition(" ") for line in commits.splitlines()]
    return next((commit for commit, _, reason in declared if reason.strip()), None)


def _differs_from(commit: str) -> bool:
    return _git("diff", "--quiet", commit, "--", *CONTRACT) is None or bool(
        _git("ls-files", "--others", "--exclude-standard", "--", *CONTRACT)
    )


def _git(*arguments: str) -> str | None:
    """Return what git answers, or None when it refuses or is not there."""
    command = ["git", *arguments]
    try:
        result = subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return result.stdout.strip()


if __name__ == "__main__":
    baseline = landed_contract()
    if baseline is None:
        print("buf breaking skipped: git knows no earlier contract to compare with")
        sys.exit(0)
    sys.exit(check(baseline))
