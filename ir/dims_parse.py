"""Extents from their spelling."""

from __future__ import annotations

import re

from leptonc.ir.dims import FUNCTIONS, Dim, floordiv, symbol

_TOKEN = re.compile(r"\s*(?:(\d+)|([A-Za-z_?][\w.?]*)|(//|[-+*%(),]))")


def parse_dim(text: str) -> Dim:
    """Read back what `str` of an extent gives; raises ValueError on anything else."""
    tokens: list[str] = []
    position = 0
    while position < len(text.rstrip()):
        found = _TOKEN.match(text, position)
        if found is None:
            raise ValueError(f"cannot read the extent {text!r}")
        tokens.append(found.group().strip())
        position = found.end()
    reader = _Reader(tokens, text)
    dim = reader.sum()
    if reader.at != len(tokens):
        raise ValueError(f"cannot read the extent {text!r} past {tokens[reader.at]!r}")
    return dim


class _Reader:
    def __init__(self, tokens: list[str], text: str) -> None:
        self.tokens, self.text, self.at = tokens, text, 0

    def peek(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def take(self, expected: str = "") -> str:
        token = self.peek()
        if not token or (expected and token != expected):
            raise ValueError(f"cannot read the extent {self.text!r}")
        self.at += 1
        return token

    def sum(self) -> Dim:
        total = self.term()
        while self.peek() in ("+", "-"):
            sign = 1 if self.take() == "+" else -1
            total = total + self.term() * sign
        return total

    def term(self) -> Dim:
        value = self.factor()
        while self.peek() in ("*", "//", "%"):
            operator, right = self.take(), self.factor()
            if operator == "*":
                value = value * right
            else:
                value = floordiv(value, right) if operator == "//" else value % right
        return value

    def factor(self) -> Dim:
        token = self.take()
        if token == "-":
            return self.factor() * -1
        if token == "(":
            value = self.sum()
            self.take(")")
            return value
        if token.isdigit():
            return int(token)
        if self.peek() == "(" and token in FUNCTIONS:
            self.take("(")
            left = self.sum()
            self.take(",")
            right = self.sum()
            self.take(")")
            return FUNCTIONS[token](left, right)
        if not (token[0].isalpha() or token[0] in "_?"):
            raise ValueError(f"cannot read the extent {self.text!r}")
        return symbol(token)
