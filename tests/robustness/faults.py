"""Everything that can be wrong with one model, and the model with any of it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from onnx import helper as h

from tests.robustness import fault_sections as sections
from tests.robustness.draft import OPSET, UNDECODED, Draft, Section
from tests.robustness.models import F32, tensor, value


@dataclass(frozen=True)
class Fault:
    """What is said of a section that is broken."""

    code: str
    where: str
    """The node that is named, or a part of the message where no node is to blame."""
    section: Section


FAULTS: dict[str, Fault] = {
    "ir version": Fault("E012", "IR version 9999", sections.ir_version),
    "unknown operator": Fault(
        "E013", "unknown operator", lambda d, broken: d.add("Frobnicate" if broken else "Relu")
    ),
    "unknown domain": Fault(
        "E013",
        "unknown domain",
        lambda d, broken: d.add("Evil" if broken else "Relu", domain="com.evil" if broken else ""),
    ),
    "attribute of wrong type": Fault(
        "E015",
        "attribute of wrong type",
        lambda d, broken: d.add("LeakyRelu", alpha="much" if broken else 0.5),
    ),
    "unknown attribute": Fault("E015", "unknown attribute", sections.unknown_attribute),
    "missing attribute": Fault("E015", "missing attribute", sections.missing_attribute),
    "attribute twice": Fault("E015", "attribute twice", sections.attribute_twice),
    "fault behind a fault": Fault("E015", "fault behind a fault", sections.fed_by_failed),
    "cycle": Fault("E014", "cycle", sections.cycle),
    "undefined input": Fault(
        "E014", "undefined input", lambda d, broken: d.add("Relu", ("nothing" if broken else "x",))
    ),
    "missing initializer": Fault(
        "E014",
        "missing initializer",
        lambda d, broken: d.add("Add", ("x", "w of nobody" if broken else d.weight(1.0))),
    ),
    "defined twice": Fault("E014", "defined twice", sections.twice),
    "output twice": Fault(
        "E014", "output 'y of output twice' is there twice", sections.output_twice
    ),
    "input twice": Fault("E014", "input 'doubled input' is there twice", sections.input_twice),
    "initializer twice": Fault(
        "E014", "initialiser 'w of initializer twice' is there twice", sections.weight_twice
    ),
    "matmul": Fault(
        "E103",
        "matmul",
        lambda d, broken: d.add("MatMul", ("x", d.weight(np.ones((4 if broken else 3, 5))))),
    ),
    "concat": Fault(
        "E103",
        "concat",
        lambda d, broken: d.add(
            "Concat", ("x", d.weight(np.ones((4, 4 if broken else 3)))), axis=0
        ),
    ),
    "broadcast": Fault(
        "E103",
        "broadcast",
        lambda d, broken: d.add("Mul", ("x", d.weight(np.ones((2, 4 if broken else 3))))),
    ),
    "conv channels": Fault(
        "E103", "conv channels", lambda d, broken: sections.conv(d, 3 if broken else 4)
    ),
    "kernel shape": Fault(
        "E103",
        "kernel shape",
        lambda d, broken: sections.conv(d, 4, kernel_shape=[5, 5] if broken else [3, 3]),
    ),
    "reshape": Fault(
        "E103",
        "reshape",
        lambda d, broken: d.add("Reshape", ("x", d.weight([7] if broken else [6], np.int64))),
    ),
    "declared output": Fault("E019", "output 'y of declared output'", sections.declared_output),
    "extent over 2^31": Fault(
        "E018",
        "input 'input of extent over 2^31'",
        lambda d, broken: sections.an_input(d, 2**31 if broken else 5),
    ),
    "negative extent": Fault(
        "E016",
        "input 'input of negative extent'",
        lambda d, broken: sections.an_input(d, -7 if broken else 5),
    ),
    "external above": Fault(
        "E017",
        "'w of external above'",
        lambda d, broken: d.external("../outside.bin" if broken else "data.bin"),
    ),
    "external absolute": Fault(
        "E017",
        "'w of external absolute'",
        lambda d, broken: d.external(str(d.folder / "data.bin") if broken else "data.bin"),
    ),
    "external link": Fault("E017", "'w of external link'", sections.link),
    "external missing": Fault(
        "E017",
        "'w of external missing'",
        lambda d, broken: d.external("missing.bin" if broken else "data.bin"),
    ),
    "external short": Fault(
        "E017",
        "'w of external short'",
        lambda d, broken: d.external("short.bin" if broken else "data.bin"),
    ),
    "external offset": Fault(
        "E017",
        "'w of external offset'",
        lambda d, broken: d.external("data.bin", offset="-4" if broken else "0"),
    ),
    "external length": Fault(
        "E016",
        "'w of external length'",
        lambda d, broken: d.external("data.bin", length="4" if broken else "12"),
    ),
    "raw data": Fault(
        "E016",
        "'w of raw data'",
        lambda d, broken: d.tensor(tensor((3,), raw_data=bytes(7 if broken else 12))),
    ),
    "negative weight": Fault(
        "E016",
        "'w of negative weight'",
        lambda d, broken: d.tensor(tensor((-3 if broken else 3,), raw_data=bytes(12))),
    ),
    "element type": Fault(
        "E016",
        "'w of element type'",
        lambda d, broken: d.tensor(tensor((3,), 999 if broken else F32, raw_data=bytes(12))),
    ),
    "dtype of initializer": Fault(
        "E101",
        "dtype of initializer",
        lambda d, broken: d.add(
            "Add", ("x", d.weight([1, 2, 3], np.int64 if broken else np.float32))
        ),
    ),
    "data of an attribute": Fault(
        "E016",
        "data of an attribute",
        lambda d, broken: d.add(
            "Constant", (), value=tensor((3,), raw_data=bytes(7 if broken else 12))
        ),
    ),
    "sparse initializer": Fault("E016", "sparse tensor 'w of sparse initializer'", sections.sparse),
    "too many inputs": Fault(
        "E014", "too many inputs", lambda d, broken: d.add("Relu", ("x", "x") if broken else ("x",))
    ),
    "too many outputs": Fault(
        "E014",
        "too many outputs",
        lambda d, broken: d.add("Relu", ("x",), ("p", "q") if broken else ("p",)),
    ),
    "lacks an input": Fault(
        "E014",
        "lacks an input",
        lambda d, broken: d.add("MatMul", ("x", "" if broken else d.weight(np.ones((3, 2))))),
    ),
    "domain not imported": Fault(
        "E012",
        "domain not imported",
        lambda d, broken: d.add(
            "Scaler" if broken else "Relu", domain="ai.onnx.ml" if broken else ""
        ),
    ),
    "function too new": Fault(
        "E012",
        "function too new",
        lambda d, broken: sections.call_of(
            d, [h.make_node("Relu", ["a"], ["b"])], 9999 if broken else OPSET
        ),
    ),
    "function too old": Fault("E013", "function too old/old node", sections.old_in_function),
    "function of one": Fault(
        "E014",
        "function of one",
        lambda d, broken: sections.call_of(
            d, [h.make_node("Relu", ["a"], ["b"])], inputs=("x", "x") if broken else ("x",)
        ),
    ),
    "recursion": Fault(
        "E014", "functions call themselves: 'Recursion' -> 'Recursion'", sections.recursion
    ),
    "subgraph output": Fault("E014", "subgraph output", sections.subgraph_output),
    "branches": Fault("E103", "branches", sections.branches),
    "fault in a branch": Fault("E013", "node in a branch", sections.inside_a_branch),
    "loop": Fault("E015", "loop", sections.loop),
    "axis": Fault("E107", "axis", lambda d, broken: d.add("Flatten", axis=7 if broken else 1)),
    "permutation": Fault(
        "E107",
        "permutation",
        lambda d, broken: d.add("Transpose", perm=[0, 0] if broken else [1, 0]),
    ),
    "attribute not text": Fault("E016", "attribute not text", sections.not_text),
    "name not text": Fault("E014", "name not text", sections.name_not_text),
    "index out of range": Fault(
        "E110",
        "index out of range",
        lambda d, broken: d.add("Gather", ("x", d.weight(9 if broken else 1, np.int64))),
    ),
}
"""Everything that can be wrong with the model, by the name of its section."""


def build(folder: Path, broken: Collection[str]) -> Path:
    """The file of the model with these sections broken, and the files beside it."""
    home = folder / "model"
    home.mkdir(exist_ok=True)
    (folder / "outside.bin").write_bytes(bytes(12))
    (home / "data.bin").write_bytes(np.array([1, 2, 3], np.float32).tobytes())
    (home / "short.bin").write_bytes(bytes(8))
    draft = Draft(home, inputs=[value("x", (2, 3))])
    for draft.name, fault in FAULTS.items():
        fault.section(draft, draft.name in broken)
    made = h.make_graph(
        draft.nodes, "faults", draft.inputs, draft.outputs, draft.weights,
        sparse_initializer=draft.sparse,
    )  # fmt: skip
    imports = [
        h.make_opsetid("", OPSET),
        *(h.make_opsetid(*item) for item in draft.domains.items()),
    ]
    proto = h.make_model(
        made, opset_imports=imports, functions=draft.functions, ir_version=draft.ir_version
    )
    path = home / "model.onnx"
    path.write_bytes(proto.SerializeToString().replace(UNDECODED.encode(), b"\xff" * 7))
    return path
