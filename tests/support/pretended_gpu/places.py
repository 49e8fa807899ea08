"""The pretended device, and where in the program something happens."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

GPU = torch.device("cuda", 0)
CPU = torch.device("cpu")
_PASSED_OVER = (str(Path(torch.__file__).parent), str(Path(__file__).parent))
_PROJECT = str(Path(__file__).parents[3])


def place() -> str:
    """File and line of the first caller outside torch and this package: ``deployments/engine/forwards.py:132``."""
    frame = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if not file.startswith(_PASSED_OVER):
            return f"{file.split('site-packages/')[-1].removeprefix(f'{_PROJECT}/')}:{frame.f_lineno}"
        if frame.f_back is None:
            break
        frame = frame.f_back
    return "?"
