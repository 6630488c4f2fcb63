"""Which passes run at which optimisation level, as text that `leptonc-opt -p` takes."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

_REGIONS = (
    "trim-regions,hoist-invariants,unroll-loops,fold-constants,inline-branches,"
    "hoist-invariants,merge-branches,select-branches"
)
_SHAPES = "fold-constants,recognize-lookups,propagate-ranges,sink-expands"
_CLEAN = (
    f"eliminate-dead-code,simplify,{_SHAPES},spell-einsum,{_REGIONS},"
    "share-constants,eliminate-common-subexpressions,eliminate-dead-code,simplify,sink-expands"
)
_FOLD = (
    "reduce-strength,recognize-layer-norm,recognize-softmax,recognize-resampling,"
    "recognize-rotary,recognize-attention,turn-reductions,recognize-layer-norm,fold-pad,"
    "fold-blocks,fold-batch-norm,form-linear"
)
# factors that belong to an activation or a normalisation are no weights' before it is recognised
_RECOGNIZE = (
    "recognize-activations,form-linear,recognize-squeeze,fold-constants,fold-scale,"
    "merge-linear-maps,eliminate-common-subexpressions,merge-parallel,widen-attention"
)
_RECURRENT = "recognize-recurrent,turns-to-layer,join-steps"
# views that sink would hide the heads of attention before it is recognised
_FINISH = (
    "select-branches,narrow-rows,reduce-strength,merge-constants,sink-views,sink-expands,"
    "turn-reductions,sink-views,sink-expands,reduce-strength,simplify,merge-branches,"
    "select-branches,hoist-invariants,trim-regions,propagate-ranges,merge-constants,simplify,"
    "fold-constants,share-constants,eliminate-common-subexpressions,eliminate-dead-code"
)
_ALL = ",".join((_CLEAN, _FOLD, _RECOGNIZE, _RECURRENT, _FINISH))

OPTIMIZE: Mapping[int, str] = MappingProxyType({
    0: "fold-constants,inline-branches,eliminate-dead-code",
    1: _ALL,
    2: _ALL,
    3: _ALL,
})  # fmt: skip
"""What makes a model smaller and faster on any target; a target's own passes come after."""

PORTABLE: Mapping[int, str] = MappingProxyType({
    level: text.replace("fold-constants", "fold-constants{dequantize=false}")
    for level, text in OPTIMIZE.items()
})  # fmt: skip
"""The same where ONNX comes out: quantised weights stay in bytes, as runtimes look for them."""

WRITE: Mapping[int, str] = MappingProxyType({
    0: "",
    1: "join-slices,join-triangles,join-nodes,eliminate-common-subexpressions",
    2: "join-slices,join-triangles,join-nodes,eliminate-common-subexpressions",
    3: "join-slices,join-triangles,join-nodes,eliminate-common-subexpressions",
})  # fmt: skip
"""What says an optimised model in the fewest nodes of ONNX, before it is written."""

RESOLVE = (
    "check-places,scan-to-loop,count-turns,inline-branches,resolve-extents,settle-extents,"
    "fold-constants,eliminate-common-subexpressions,eliminate-dead-code"
)
"""What spells out run-time sizes for kernels, on any target; a model is optimised better before."""

_KERNELS = "split-to-slices,fold-transpose,simplify,eliminate-dead-code,group-operations"

GROUP: Mapping[int, str] = MappingProxyType({
    0: "group-operations{fuse=false}",
    1: _KERNELS,
    2: _KERNELS,
    3: _KERNELS,
})  # fmt: skip
"""What forms the kernels, last."""

DEFAULT_LEVEL = 2
