"""Which passes run at which optimisation level, as text that `leptonc-opt -p` takes."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

OPTIMIZE: Mapping[int, str] = MappingProxyType({
    0: "fold-constants,eliminate-dead-code",
    1: "fold-constants,eliminate-dead-code,eliminate-common-subexpressions",
    2: "fold-constants,eliminate-dead-code,eliminate-common-subexpressions",
    3: "fold-constants,eliminate-dead-code,eliminate-common-subexpressions",
})  # fmt: skip
"""What makes a model smaller and faster on any target; the result is a model like the one before."""

GROUP: Mapping[int, str] = MappingProxyType({
    0: "group-operations{fuse=false}",
    1: "group-operations",
    2: "group-operations",
    3: "group-operations",
})  # fmt: skip
"""What forms the kernels, after the target's own passes."""

DEFAULT_LEVEL = 2
