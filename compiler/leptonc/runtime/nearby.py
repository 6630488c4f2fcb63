"""Whether short calls are run in the thread that asks for them, without the pool of threads.

To hand a call over and to have its answer takes 15 to 40 us, and to wake the pool for a kernel 2 to
3. Calls that take little longer than that are faster alone, and how long they take is told best by
trying: sizes may be open, and one operation in a tree takes as long as ten in a product.
"""

from __future__ import annotations

SHORT = 300e-6
"""Seconds from which on it is not tried: a tenth of it is more than could be gained."""
TRIES = 8
"""Calls of each kind of which the shortest is taken: the first ones find nothing in the caches."""

_KEPT = 64
"""How many combinations of shapes are remembered; it then starts again."""


class Nearby:
    """Learns from the calls for one set of sizes: `is_alone` says how the next one is run."""

    __slots__ = ("_alone", "_left", "_shared", "is_alone", "is_settled")

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self.is_alone = self.is_settled = False
        self._shared = self._alone = float("inf")
        self._left = TRIES

    def note(self, seconds: float) -> None:
        """A call took so long; not asked for where calls are shared and it `is_settled`."""
        if self.is_settled:
            if seconds > 2 * SHORT:
                self._begin()  # data may tell how much there is to do
            return
        if self.is_alone:
            self._alone = min(self._alone, seconds)
        else:
            self._shared = min(self._shared, seconds)
        self._left -= 1
        if not self._left:
            self._end_tries()

    def _end_tries(self) -> None:
        if self.is_alone or self._shared > SHORT:
            self.is_settled = True
            self.is_alone = self._alone < self._shared
        else:
            self.is_alone, self._left = True, TRIES


class Learned:
    """What was learned, by the shapes of all inputs."""

    __slots__ = ("known", "shapes")

    def __init__(self) -> None:
        self.shapes: tuple[tuple[int, ...], ...] = ()
        """Those of the call that is made next."""
        self.known: dict[tuple[tuple[int, ...], ...], Nearby] = {}

    @property
    def nearby(self) -> Nearby:
        """What was learned of calls with these shapes."""
        found = self.known.get(self.shapes)
        if found is None:
            if len(self.known) >= _KEPT:
                self.known.clear()
            found = self.known[self.shapes] = Nearby()
        return found
