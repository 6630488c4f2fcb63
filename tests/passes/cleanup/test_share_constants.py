"""Constants that are larger than what is compared at once."""

from __future__ import annotations

import numpy as np
import pytest

from leptonc.ir.blob import Blob
from leptonc.ir.text import parse_graph
from leptonc.passes.base import parse_pipeline
from leptonc.passes.context import PassContext
from leptonc.passes.manager import PassManager
from leptonc.passes.registry import Registry

ROWS = 40_000
TEXT = f"""graph @m(%x: f32[{ROWS},3]) -> (y: f32[{ROWS},3]) {{
  %k = const() {{value = random(1)}} : f32[{ROWS},3]
  %y = add(%x, %k) : f32[{ROWS},3]
  return %y
}}
"""


@pytest.mark.parametrize(("odd", "rows"), [(None, 1), (1, ROWS), (20_000, ROWS), (ROWS - 1, ROWS)])
def test_one_row_that_differs_keeps_them_all(odd: int | None, rows: int) -> None:
    array = np.tile(np.array([1, 0, 2], np.float32), (ROWS, 1))
    if odd is not None:
        array[odd, 1] = -0.0
    graph = parse_graph(TEXT)
    (op,) = (op for op in graph if op.name == "const")
    op.set_attr("value", Blob.of(array))
    passes = parse_pipeline("share-constants", Registry())
    PassManager(passes, ()).run(graph, PassContext())
    (found,) = (op.result.type.shape for op in graph if op.name == "const")
    assert found == (rows, 3)
