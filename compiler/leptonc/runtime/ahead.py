"""Loading the native runtime while something else is done that leaves Python's lock alone."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Generator

from leptonc.runtime.native import native


@contextlib.contextmanager
def loading_ahead() -> Generator[None]:
    """Within it, the native runtime loads in a thread, which is gone after."""
    if native.cache_info().currsize:
        yield
        return
    thread = threading.Thread(target=_load, name="leptonc-load")
    thread.start()
    try:
        yield
    finally:
        thread.join()


def _load() -> None:
    with contextlib.suppress(Exception):  # told where it is needed, if it still is
        native()
