"""Reading graphs from their textual form."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from leptonc.ir.blob import Array, Blob
from leptonc.ir.build import infer_content
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.dims import Dim, symbols
from leptonc.ir.dims_parse import parse_dim
from leptonc.ir.graph import Attribute, Graph, Op, Region, Value
from leptonc.ir.location import UNKNOWN, Location
from leptonc.ir.table import CONST, GROUP, RETURN, OpDef, op_named
from leptonc.ir.types import DTYPE_OF_NAME, TensorType

_SPACE = re.compile(r"(?:\s+|//[^\n]*)*")
_TOKEN = re.compile(
    r'(?P<string>"(?:[^"\\\n]|\\.)*")|(?P<arrow>->)'
    r"|(?P<number>-?(?:\d+(?:\.\d*)?(?:[eE][-+]?\d+)?|inf\b|nan\b)(?![\w./-]))"
    r"|(?P<name>[A-Za-z_0-9][\w.\-/]*)|(?P<mark>[%@(){}\[\]:,=])|(?P<end>\Z)"
)
_FRESH = re.compile(r"u(\d+)_")

BlobSource = Callable[[str, TensorType], Blob]


class ParseError(LeptonError):
    """Textual IR that does not follow the grammar."""


class _Token(NamedTuple):
    kind: str
    text: str
    start: int
    end: int


def parse_graph(
    source: str,
    file: str = "<text>",
    blobs: Mapping[str, Blob] | None = None,
    rows: Mapping[str, OpDef] | None = None,
) -> Graph:
    """Read one graph. `rows` are operations beside those of the table, by name.

    Constants spelled ``blob("digest")`` are taken from `blobs`; one that is not there keeps its
    digest and fails only when its data is asked for.
    """
    return _Parser(source, file, blobs or {}, rows or {}).graph()


class _Parser:
    def __init__(
        self, source: str, file: str, blobs: Mapping[str, Blob], rows: Mapping[str, OpDef]
    ) -> None:
        self.source, self.file, self.blobs, self.rows = source, file, blobs, rows
        self.values: dict[str, Value] = {}
        self.fresh = 0
        self.token = self._lex(0)

    # ------------------------------------------------------------ tokens

    def _lex(self, position: int) -> _Token:
        space = _SPACE.match(self.source, position)
        start = space.end() if space else position
        found = _TOKEN.match(self.source, start)
        if found is None:
            raise self.error(f"unexpected character {self.source[start]!r}", start)
        return _Token(found.lastgroup or "", found.group() or "end of text", start, found.end())

    def error(self, message: str, position: int) -> ParseError:
        line = self.source.count("\n", 0, position) + 1
        start = self.source.rfind("\n", 0, position) + 1
        text = self.source[start:].partition("\n")[0]
        caret = " " * (position - start) + "^"
        return ParseError(
            f"{message}\n  --> {self.file}:{line}:{position - start + 1}\n  {text}\n  {caret}",
            code="E001",
        )

    def accept(self, text: str) -> bool:
        if self.token.text != text or self.token.kind == "string":
            return False
        self.token = self._lex(self.token.end)
        return True

    def expect(self, *what: str) -> str:
        """Take the next token, which is one of `what`: a literal, or a kind written <kind>."""
        token = self.token
        if token.text not in what and f"<{token.kind}>" not in what:
            raise self.error(f"expected {' or '.join(what)}, found {token.text}", token.start)
        self.token = self._lex(token.end)
        return token.text

    def several(self, close: str) -> Iterator[None]:
        """Step through a comma-separated list up to `close`."""
        while not self.accept(close):
            yield
            if self.token.text != close:
                self.expect(",")

    def name(self) -> str:
        token = self.token
        text = self.expect("<name>", "<number>", "<string>")
        return json.loads(text) if token.kind == "string" else text

    # ------------------------------------------------------------ structure

    def graph(self) -> Graph:
        self.expect("graph")
        self.expect("@")
        graph = Graph(self.name())
        for value in self._inputs():
            graph.add_input(value)
        self.expect("->")
        self.expect("(")
        names: list[str] = []
        for _ in self.several(")"):
            names.append(self.name())
            self.expect(":")
            self.type()
        graph.output_names = tuple(names)
        self._body(graph)
        if self.token.kind != "end":
            raise self.error(f"expected the end, found {self.token.text}", self.token.start)
        graph.reserve_dims(self.fresh)
        return graph

    def _inputs(self) -> list[Value]:
        self.expect("(")
        inputs: list[Value] = []
        for _ in self.several(")"):
            self.expect("%")
            start, name = self.token.start, self.name()
            self.expect(":")
            inputs.append(self._bind(name, Value(self.type()), start))
        return inputs

    def _body(self, region: Region) -> None:
        self.expect("{")
        while not self.accept("}"):
            region.append(self.op())

    def _bind(self, name: str, value: Value, start: int) -> Value:
        if name in self.values:
            raise self.error(f"%{name} is defined twice", start)
        value.name = "" if name.isdigit() else name
        self.values[name] = value
        return value

    def _use(self) -> Value:
        self.expect("%")
        start, name = self.token.start, self.name()
        if name not in self.values:
            raise self.error(f"%{name} is read before it is defined", start)
        return self.values[name]

    def type(self) -> TensorType:
        start = self.token.start
        dtype = DTYPE_OF_NAME.get(name := self.expect("<name>"))
        if dtype is None:
            raise self.error(f"unknown element type {name}", start)
        return TensorType(dtype, self._dims())

    def _dims(self) -> tuple[Dim, ...]:
        """A bracketed list of extents, read from the source since their grammar is their own."""
        start = self.token.start
        if self.token.text != "[":
            raise self.error(f"expected [, found {self.token.text}", start)
        close = self.source.find("]", start)
        if close < 0:
            raise self.error("the list of extents is not closed", start)
        try:
            dims = tuple(parse_dim(part) for part in _split(self.source[start + 1 : close]))
        except (ValueError, ZeroDivisionError) as problem:
            raise self.error(str(problem), start) from None
        for dim in dims:
            for name in symbols(dim):
                if found := _FRESH.fullmatch(name):
                    self.fresh = max(self.fresh, int(found.group(1)))
        self.token = self._lex(close + 1)
        return dims

    # ------------------------------------------------------------ operations

    def op(self) -> Op:
        if self.accept("return"):
            operands: list[Value] = []
            if self.token.text == "%":
                operands.append(self._use())
                while self.accept(","):
                    operands.append(self._use())
            return Op(RETURN, operands, (), location=self.location())
        starts, names = list[int](), list[str]()
        while True:
            self.expect("%")
            starts.append(self.token.start)
            names.append(self.name())
            if not self.accept(","):
                break
        self.expect("=")
        definition = self._definition()
        operands, labels = self._operands(definition)
        pending = self._attributes(definition)
        regions: list[Region] = []
        while self.token.text == "(":
            region = Region(self._inputs())
            if definition is GROUP:
                for inner, outer in zip(region.inputs, operands, strict=False):
                    inner.content = outer.content
            self._body(region)
            regions.append(region)
        self.expect(":")
        types = [self.type()]
        while self.accept(","):
            types.append(self.type())
        if len(types) != len(names):
            raise self.error(f"{len(names)} results have {len(types)} types", starts[0])
        # data of any other operation is the one element that it repeats
        holds = types[0] if definition is CONST else types[0].with_shape(1)
        attrs = definition.complete({key: value(holds) for key, value in pending.items()})
        op = Op(
            definition,
            operands,
            types,
            operand_names=labels,
            attrs=attrs,
            regions=regions,
            location=self.location(),
        )
        op.results[0].content = infer_content(op)
        for name, value, start in zip(names, op.results, starts, strict=True):
            self._bind(name, value, start)
        return op

    def _definition(self) -> OpDef:
        start = self.token.start
        spelled = self.expect("<name>")
        definition = self.rows.get(spelled) or op_named(spelled)
        if definition is None:
            raise self.error(f"unknown operation {spelled}", start)
        return definition

    def _operands(self, definition: OpDef) -> tuple[list[Value], list[str]]:
        self.expect("(")
        operands, labels, start = list[Value](), list[str](), self.token.start
        for _ in self.several(")"):
            if self.token.text == "%":
                try:
                    labels.append(definition.slot_names(len(labels) + 1)[-1])
                except LeptonError as problem:
                    raise self.error(problem.message, start) from None
            else:
                labels.append(self.expect("<name>"))
                self.expect("=")
            operands.append(self._use())
        return operands, labels

    def _attributes(self, definition: OpDef) -> dict[str, Callable[[TensorType], Attribute]]:
        pending: dict[str, Callable[[TensorType], Attribute]] = {}
        if self.accept("{"):
            for _ in self.several("}"):
                start, key = self.token.start, self.expect("<name>")
                if key not in definition.attrs:
                    raise self.error(f"{definition.name} has no attribute {key}", start)
                self.expect("=")
                pending[key] = self._attribute(definition.attrs[key].kind)
        return pending

    def _attribute(self, kind: str) -> Callable[[TensorType], Attribute]:
        if kind == "blob":
            return self._blob()
        if kind == "dims" and self.token.text == "[":
            dims = self._dims()
            return lambda _: dims
        value = self._plain_attribute(kind)
        return lambda _: value

    def _plain_attribute(self, kind: str) -> Attribute:
        if self.accept("["):
            items = tuple(self._plain_attribute(kind.removesuffix("s")) for _ in self.several("]"))
            return items  # pyright: ignore[reportReturnType]
        token = self.token
        text = self.expect("<string>", "<number>", "<name>")
        if token.kind == "string":
            return json.loads(text)
        if token.kind == "number":
            return float(text) if kind.startswith("float") else _number(text)
        words: dict[str, Attribute] = {"true": True, "false": False, "none": None}
        words.update(DTYPE_OF_NAME if kind == "dtype" else {})
        if text not in words:
            raise self.error(f"unknown value {text}", token.start)
        return words[text]

    def _blob(self) -> Callable[[TensorType], Blob]:
        start, recipe = self.token.start, self.expect("<name>")
        self.expect("(")
        if recipe == "dense":
            self.expect("[")
            numbers = [self.expect("<number>") for _ in self.several("]")]
            self.expect(")")
            return lambda type: self._dense(numbers, type, start)
        argument = self.token
        text = self.expect("<number>", "<string>")
        self.expect(")")
        if recipe == "splat":
            return lambda type: Blob.splat(_number(text), type)
        if recipe == "random":
            return lambda type: Blob.random(int(text), type)
        if recipe == "blob" and argument.kind == "string":
            return lambda type: self.blobs.get(json.loads(text)) or _absent(json.loads(text), type)
        raise self.error(f"unknown recipe {recipe}", start)

    def location(self) -> Location:
        if not self.accept("loc"):
            return UNKNOWN
        self.expect("(")
        nodes, rules = list[str](), list[str]()
        self.accept("unknown")
        while self.token.kind == "string":
            nodes.append(json.loads(self.expect("<string>")))
            self.accept(",")
        if self.accept("via"):
            while self.token.kind == "name":
                rules.append(self.expect("<name>"))
                self.accept(",")
        self.expect(")")
        return Location(tuple(nodes), tuple(rules))

    def _dense(self, numbers: list[str], type: TensorType, start: int) -> Blob:
        count = math.prod(type.extents)
        if len(numbers) != count:
            raise self.error(f"{len(numbers)} numbers are given for {count} elements", start)
        try:
            array = np.array([_number(text) for text in numbers], type.dtype.numpy)
        except (ValueError, OverflowError) as problem:
            raise self.error(str(problem).lower(), start) from None
        recipe = f"dense([{', '.join(numbers)}])"
        return Blob(type, lambda: array.reshape(type.extents), recipe=recipe)


def _split(text: str) -> list[str]:
    """Split at the commas that stand outside parentheses."""
    parts, depth, start = list[str](), 0, 0
    for at, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if character == "," and depth == 0:
            parts.append(text[start:at])
            start = at + 1
    return [*parts, text[start:]] if text.strip() else []


def _number(text: str) -> int | float:
    return int(text) if text.lstrip("-").isdigit() else float(text)


def _absent(digest: str, type: TensorType) -> Blob:
    def load() -> Array:
        raise LeptonError(f"the data of blob {digest} is not at hand", code="E002")

    return Blob(type, load, recipe=f'blob("{digest}")', digest=digest, is_absent=True)
