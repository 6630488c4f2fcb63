"""What a run that failed is told as."""

from __future__ import annotations

import json
import re
from typing import Any

from leptonc.ir.diagnostics import LeptonError, shown
from leptonc.ir.location import Location
from leptonc.manifest import FOR_EACH, Manifest

_CHECK = re.compile(
    r"\((-?\d+) vs\. -?\d+\) : leptonc(\{.*\}) match_cast error,\s+shape\[(\d+)\]", re.S
)
"""What the virtual machine says where a check of the compiler's does not hold."""


def failure(error: Exception, manifest: Manifest) -> LeptonError:
    """The error of the user's for what the compiled program raised."""
    found = _CHECK.search(str(error))
    if found is not None:
        return _broken(int(found[1]), json.loads(found[2]), int(found[3]))
    reason = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, MemoryError) or "bad_alloc" in str(error):
        sizes = [
            f"{size} bytes" if key == "peak" else f"{size} * {key.removeprefix(FOR_EACH)}"
            for key, size in manifest.plan.items()
            if size
        ]
        need = f"; a run takes {' + '.join(sizes)}" if sizes else ""
        return LeptonError(f"there is not enough memory for this run{need}", code="E704")
    return LeptonError(f"the compiled program failed: {shown(reason)}", code="E704")


def _broken(code: int, check: dict[str, Any], index: int) -> LeptonError:
    """The error of a check: unless `plain`, the code is twice the number met, plus one."""
    messages, number = check["messages"], code if check.get("plain") else code >> 1
    message = messages[min(index, len(messages) - 1)].replace("{}", str(number))
    return LeptonError(message, Location(tuple(check["nodes"])), code="E707")
