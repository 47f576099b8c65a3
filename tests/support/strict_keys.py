"""Scripts that are refused for touching a key they did not declare."""

from collections.abc import Sequence
from typing import Final

from callsheet.ledger.redis_connection import RedisConnection, Word

# Stands before a script; its `redis` is this one. Commands that name no key, or not first, are
# listed.
_PRELUDE: Final = r"""
local declared, real = {}, redis
for _, k in ipairs(KEYS) do declared[k] = true end
local redis = {call = function(command, ...)
  local words = {...}
  local key = words[1]
  if command == 'TIME' then return real.call(command) end
  if command == 'XINFO' then key = words[2] end
  if not declared[key] then error('undeclared key ' .. tostring(key)) end
  return real.call(command, ...)
end}
"""


def strict(source: str) -> str:
    """Return the script with the prelude, behind its line of flags if it has one."""
    flags, rest = "", source
    if source.startswith("#!"):
        flags, _, rest = source.partition("\n")
        flags += "\n"
    return flags + _PRELUDE + rest


class StrictConnection(RedisConnection):
    """Runs every script under the prelude, and remembers which ones ran."""

    ran: Final = set[str]()

    async def script(
        self, source: str, keys: Sequence[Word], arguments: Sequence[Word]
    ) -> list[object]:
        """Run a script; raises ResponseError when it touches a key that it did not declare."""
        self.ran.add(source)
        return await super().script(strict(source), keys, arguments)
