# pyright: standard
"""Fourier transforms of a length that is known at run time only: any factors, one by one.

They are computed in double precision: their sums are longer than those of a plan.
"""

from __future__ import annotations

import math
from typing import Any

from tvm.tirx.script import builder as T  # noqa: N812

from leptonc.backends.cpu import emit
from leptonc.backends.tvm.binding import Buffer, PrimExpr, tirx
from leptonc.backends.tvm.lower.fourier_lines import Lines
from leptonc.backends.tvm.lower.fourier_stages import Complex, Numbers
from leptonc.backends.tvm.lower.parts import cast
from leptonc.backends.tvm.vector_trigonometry import cos, sin
from leptonc.ir.dims import product


def open_transform(lines: Lines) -> None:
    """Transform line by line; the smallest prime factors are the radices."""
    job, dtype = lines.job, lines.dtype
    length = job.call.dim(lines.length)
    room = tirx.max(length, tirx.const(1, "int64"))
    roots = Numbers(emit.workspace((room,), dtype), emit.workspace((room,), dtype))
    with emit.serial(length) as at:
        roots.store(_root(at, length, dtype), at)
    others = lines.others
    parallel = job.cpu.threads > 1
    with emit.outer_loop(job.call.dim(product(others)), parallel=parallel) as line:
        head = [emit.let(at) for at in lines.head(line)]
        data = Numbers(emit.workspace((room * 2,), dtype), emit.workspace((room * 2,), dtype))
        with emit.serial(length) as at:
            data.store(lines.load(head, at), at)
        start = _steps(data, roots, length)
        with emit.serial(job.call.shape()[lines.axis]) as at:
            lines.store(head, at, data.load(start + at))


def _root(at: PrimExpr, length: PrimExpr, dtype: str) -> Complex:
    """exp(-2 pi i at / length): by whole quarters of the circle, which are exact, and the rest."""
    quarter = emit.let(tirx.floordiv(at * 4, length))
    part = cast(at * 4 - quarter * length, dtype) / cast(length, dtype)
    angle = emit.let(part * tirx.const(math.pi / 2, dtype))
    cosine, sine = emit.let(cos(angle)), emit.let(sin(angle))
    odd, low = tirx.floormod(quarter, 2) == 1, quarter < 2
    first, second = tirx.Select(odd, -sine, cosine), tirx.Select(odd, cosine, sine)
    return Complex(tirx.Select(low, first, -first), tirx.Select(low, -second, second))


def _steps(data: Numbers, roots: Numbers, length: PrimExpr) -> PrimExpr:
    """All steps; where in `data` the result starts."""
    rest, done, source, radix = (_counter(value) for value in (length, 1, 0, 2))
    with T.While(rest[0] > 1):
        emit.store(radix, tirx.const(2, "int64"), [0])
        with T.While(tirx.floormod(rest[0], radix[0]) != 0):
            emit.store(radix, radix[0] + 1, [0])
        emit.store(rest, tirx.floordiv(rest[0], radix[0]), [0])
        _step(data, roots, (length, radix[0], rest[0], done[0], source[0]))
        emit.store(done, done[0] * radix[0], [0])
        emit.store(source, length - source[0], [0])
    return source[0]


def _counter(value: Any) -> Buffer:
    counter = emit.workspace((1,), "int64")
    emit.store(counter, emit.integer(value), [0])
    return counter


def _step(data: Numbers, roots: Numbers, sizes: tuple[PrimExpr, ...]) -> None:
    length, radix, rest, done, source = (emit.let(size) for size in sizes)
    target = emit.let(length - source)
    dtype = str(data.re.dtype)
    re, im = emit.Register(1, dtype), emit.Register(1, dtype)
    with emit.serial(rest) as at, emit.serial(radix) as power, emit.serial(done) as run:
        re.set(tirx.const(0, dtype))
        im.set(tirx.const(0, dtype))
        with emit.serial(radix) as i:
            value = data.load(source + run + done * (at + rest * i)).kept()
            turn = roots.load(tirx.floormod(power * (i * rest * done + at * done), length)).kept()
            product = value.times(turn)
            re.set(re.lane(0) + product.re)
            im.set(im.lane(0) + product.im)
        total = Complex(re.lane(0), im.lane(0))
        data.store(total, target + run + done * (at * radix + power))
