"""Ctrl-C during a training: held back until the run stands where it can be stored."""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType
from typing import Any


class GentleStop:
    """While entered, the first Ctrl-C only sets `asked`; the second one interrupts at once.

    Attributes:
        asked: Whether somebody wants to stop.
    """

    def __init__(self) -> None:
        self.asked = False
        self._before: Any = None

    def __enter__(self) -> GentleStop:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *problem: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _note(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        print("stopping behind this rollout; Ctrl-C again stops at once", file=sys.stderr)
