"""All passes by name: those of leptonc, imported when first asked for, and those of plugins."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType

from leptonc.ir.diagnostics import LeptonError
from leptonc.passes.base import Pass

BUILTIN: Mapping[str, str] = MappingProxyType({
    "block-channels": "leptonc.passes.layout.block_channels:BlockChannels",
    "choose-winograd": "leptonc.passes.layout.choose_winograd:ChooseWinograd",
    "count-turns": "leptonc.passes.control_flow.count_turns:CountTurns",
    "eliminate-common-subexpressions":
        "leptonc.passes.cleanup.eliminate_common_subexpressions:EliminateCommonSubexpressions",
    "eliminate-dead-code": "leptonc.passes.cleanup.eliminate_dead_code:EliminateDeadCode",
    "fold-constants": "leptonc.passes.cleanup.fold_constants:FoldConstants",
    "fold-blocks": "leptonc.passes.fusion.fold_blocks:FoldBlocks",
    "fold-batch-norm": "leptonc.passes.fusion.fold_batch_norm:FoldBatchNorm",
    "fold-pad": "leptonc.passes.fusion.fold_pad:FoldPad",
    "fold-scale": "leptonc.passes.fusion.fold_scale:FoldScale",
    "fold-transpose": "leptonc.passes.fusion.fold_transpose:FoldTranspose",
    "form-linear": "leptonc.passes.fusion.form_linear:FormLinear",
    "group-operations": "leptonc.passes.fusion.group_operations:GroupOperations",
    "halve-convolutions": "leptonc.passes.layout.halve_convolutions:HalveConvolutions",
    "hoist-invariants": "leptonc.passes.control_flow.hoist_invariants:HoistInvariants",
    "inline-branches": "leptonc.passes.cleanup.inline_branches:InlineBranches",
    "join-steps": "leptonc.passes.recurrent.join_steps:JoinSteps",
    "keep-integers": "leptonc.passes.precision.keep_integers:KeepIntegers",
    "keep-weights-in-bytes":
        "leptonc.passes.precision.keep_weights_in_bytes:KeepWeightsInBytes",
    "merge-branches": "leptonc.passes.control_flow.merge_branches:MergeBranches",
    "join-nodes": "leptonc.passes.fusion.join_nodes:JoinNodes",
    "merge-linear-maps": "leptonc.passes.fusion.merge_linear_maps:MergeLinearMaps",
    "merge-parallel": "leptonc.passes.fusion.merge_parallel:MergeParallel",
    "merge-products": "leptonc.passes.fusion.merge_products:MergeProducts",
    "check-places": "leptonc.passes.extents.check_places:CheckPlaces",
    "resolve-extents": "leptonc.passes.extents.resolve_extents:ResolveExtents",
    "settle-extents": "leptonc.passes.extents.settle_extents:SettleExtents",
    "integers-to-float": "leptonc.passes.precision.integers_to_float:IntegersToFloat",
    "join-slices": "leptonc.passes.fusion.join_slices:JoinSlices",
    "join-triangles": "leptonc.passes.shapes.join_triangles:JoinTriangles",
    "merge-constants": "leptonc.passes.fusion.merge_constants:MergeConstants",
    "narrow-rows": "leptonc.passes.fusion.narrow_rows:NarrowRows",
    "recognize-activations": "leptonc.passes.fusion.recognize_activations:RecognizeActivations",
    "recognize-attention": "leptonc.passes.fusion.recognize_attention:RecognizeAttention",
    "recognize-fourier": "leptonc.passes.fusion.recognize_fourier:RecognizeFourier",
    "recognize-integer-convolutions":
        "leptonc.passes.precision.recognize_integer_convolutions:RecognizeIntegerConvolutions",
    "recognize-integer-products":
        "leptonc.passes.precision.recognize_integer_products:RecognizeIntegerProducts",
    "recognize-layer-norm": "leptonc.passes.fusion.recognize_layer_norm:RecognizeLayerNorm",
    "recognize-lookups": "leptonc.passes.fusion.recognize_lookups:RecognizeLookups",
    "recognize-recurrent":
        "leptonc.passes.recurrent.recognize_recurrent:RecognizeRecurrent",
    "carry-in-bf16": "leptonc.passes.precision.carry_in_bf16:CarryInBf16",
    "lower-precision": "leptonc.passes.precision.lower_precision:LowerPrecision",
    "narrow-integers": "leptonc.passes.precision.narrow_integers:NarrowIntegers",
    "propagate-ranges": "leptonc.passes.shapes.propagate_ranges:PropagateRanges",
    "recognize-for-kernels": "leptonc.passes.fusion.recognize_for_kernels:RecognizeForKernels",
    "recognize-quantized": "leptonc.passes.precision.recognize_quantized:RecognizeQuantized",
    "recognize-resampling":
        "leptonc.passes.fusion.recognize_resampling:RecognizeResampling",
    "recognize-softmax": "leptonc.passes.fusion.recognize_softmax:RecognizeSoftmax",
    "recognize-squeeze": "leptonc.passes.fusion.recognize_squeeze:RecognizeSqueeze",
    "recognize-rotary": "leptonc.passes.fusion.recognize_rotary:RecognizeRotary",
    "reduce-strength": "leptonc.passes.fusion.reduce_strength:ReduceStrength",
    "scan-to-loop": "leptonc.passes.control_flow.scan_to_loop:ScanToLoop",
    "select-branches": "leptonc.passes.control_flow.select_branches:SelectBranches",
    "share-constants": "leptonc.passes.cleanup.share_constants:ShareConstants",
    "simplify": "leptonc.passes.cleanup.simplify:Simplify",
    "skip-later-keys": "leptonc.passes.fusion.skip_later_keys:SkipLaterKeys",
    "sink-expands": "leptonc.passes.shapes.sink_expands:SinkExpands",
    "sink-transposes": "leptonc.passes.cleanup.sink_transposes:SinkTransposes",
    "sink-views": "leptonc.passes.cleanup.sink_views:SinkViews",
    "spell-attention": "leptonc.passes.fusion.spell_attention:SpellAttention",
    "spell-einsum": "leptonc.passes.fusion.spell_einsum:SpellEinsum",
    "spell-out-norms": "leptonc.passes.fusion.spell_out_norms:SpellOutNorms",
    "spell-rare-attention": "leptonc.passes.fusion.spell_rare_attention:SpellRareAttention",
    "split-to-slices": "leptonc.passes.fusion.split_to_slices:SplitToSlices",
    "tabulate-bytes": "leptonc.passes.precision.tabulate_bytes:TabulateBytes",
    "trim-regions": "leptonc.passes.control_flow.trim_regions:TrimRegions",
    "turns-to-layer": "leptonc.passes.recurrent.turns_to_layer:TurnsToLayer",
    "unroll-loops": "leptonc.passes.control_flow.unroll_loops:UnrollLoops",
    "turn-reductions": "leptonc.passes.fusion.turn_reductions:TurnReductions",
    "widen-to-planes": "leptonc.passes.layout.widen_to_planes:WidenToPlanes",
    "widen-attention": "leptonc.passes.fusion.widen_attention:WidenAttention",
})  # fmt: skip
"""Where each built-in pass is defined."""

GROUP = "leptonc.passes"
"""The entry points by which other packages add passes."""


class Registry(Mapping[str, type[Pass]]):
    """Pass classes by name. Names that clash are an error: nobody replaces a pass by accident."""

    def __init__(self, plugins: Iterable[EntryPoint] | None = None) -> None:
        self._loaded: dict[str, type[Pass]] = {}
        self._plugins: dict[str, EntryPoint] = {}
        for point in entry_points(group=GROUP) if plugins is None else plugins:
            taken = BUILTIN.get(point.name)
            if point.name in self._plugins:
                taken = self._plugins[point.name].value
            if taken is not None:
                raise LeptonError(
                    f"two passes are called {point.name!r}: {taken} and {point.value}",
                    notes=[f"uninstall one, or rename its entry point in the group {GROUP}"],
                    code="E405",
                )
            self._plugins[point.name] = point

    def __getitem__(self, name: str) -> type[Pass]:
        if name not in self._loaded:
            self._loaded[name] = self._load(name)
        return self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        return iter((*BUILTIN, *self._plugins))

    def __len__(self) -> int:
        return len(BUILTIN) + len(self._plugins)

    def __contains__(self, name: object) -> bool:
        return name in BUILTIN or name in self._plugins

    def _load(self, name: str) -> type[Pass]:
        if name in BUILTIN:
            module, _, attribute = BUILTIN[name].partition(":")
            return getattr(importlib.import_module(module), attribute)
        kind = self._plugins[name].load()
        if not (isinstance(kind, type) and issubclass(kind, Pass) and kind.name == name):
            raise LeptonError(
                f"{self._plugins[name].value} is no pass called {name!r}",
                notes=["an entry point names a subclass of leptonc.passes.base.Pass"],
                code="E405",
            )
        return kind
