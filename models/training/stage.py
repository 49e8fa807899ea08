"""One training stage: a loop that shows its progress, saves itself, and resumes where it stopped."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch
from torch.optim import AdamW
from tqdm import tqdm

_WARM_UP = 0.02


class Stateful(Protocol):
    """Anything whose state is saved with a stage."""

    def state_dict(self) -> dict[str, Any]:
        """Everything that is saved."""

    def load_state_dict(self, state: dict[str, Any]) -> Any:
        """Take a saved state over."""


class Stage:
    """Runs a number of optimisation steps and checkpoints them.

    Every random choice of step ``n`` comes from a generator seeded by ``(seed, n)``, so a resumed run sees the data
    that an uninterrupted one would have seen.

    Args:
        checkpoint: The file that holds the stage's state; an existing one is resumed.
        steps: Optimisation steps in all.
        learning_rate: The peak; it is reached after a warm-up of 2 % of the steps.
        decay_from: The share of the steps after which the rate falls to zero along a cosine. With a late fall, a run
            that is resumed before it can still be made shorter or longer.
        seed: Of every random choice.
        save_every: Steps between two checkpoints.
    """

    def __init__(
        self, checkpoint: Path, steps: int, learning_rate: float, decay_from: float, seed: int, save_every: int = 250
    ) -> None:
        self.checkpoint = checkpoint
        self.steps = steps
        self.learning_rate = learning_rate
        self.decay_from = decay_from
        self.seed = seed
        self.save_every = save_every

    def run(
        self,
        parts: dict[str, Stateful],
        parameters: list[torch.nn.Parameter],
        loss_of_step: Callable[[torch.Generator], torch.Tensor],
        after_step: Callable[[], None] = lambda: None,
    ) -> None:
        """Minimise ``loss_of_step`` over ``parameters``, saving ``parts`` as it goes."""
        optimiser = AdamW(parameters, lr=self.learning_rate, betas=(0.9, 0.99), weight_decay=0.01)
        everything: dict[str, Stateful] = {**parts, "optimiser": optimiser}
        start = self._resume(everything)
        smooth = None
        with tqdm(total=self.steps, initial=start, desc=self.checkpoint.stem, unit="step", mininterval=5) as bar:
            for step in range(start, self.steps):
                for group in optimiser.param_groups:
                    group["lr"] = self.learning_rate * self._rate(step / self.steps)
                loss = loss_of_step(torch.Generator().manual_seed(self.seed * 1_000_003 + step))
                loss.backward()
                torch.nn.utils.clip_grad_norm_(parameters, 1.0)
                optimiser.step()
                optimiser.zero_grad(set_to_none=True)
                after_step()
                smooth = loss.item() if smooth is None else 0.98 * smooth + 0.02 * loss.item()
                bar.set_postfix(loss=f"{smooth:.4f}", refresh=False)
                bar.update()
                if (step + 1) % self.save_every == 0 or step + 1 == self.steps:
                    self._save(everything, step + 1)

    def _rate(self, done: float) -> float:
        if done < _WARM_UP:
            return done / _WARM_UP
        falling = max(0.0, done - self.decay_from) / (1 - self.decay_from)
        return 0.5 * (1 + math.cos(math.pi * falling))

    def _resume(self, everything: dict[str, Stateful]) -> int:
        if not self.checkpoint.exists():
            return 0
        saved = torch.load(self.checkpoint, weights_only=True)
        for name, part in everything.items():
            part.load_state_dict(saved[name])
        return int(saved["step"])

    def _save(self, everything: dict[str, Stateful], step: int) -> None:
        self.checkpoint.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self.checkpoint.with_suffix(".part")
        torch.save({"step": step, **{name: part.state_dict() for name, part in everything.items()}}, unfinished)
        unfinished.replace(self.checkpoint)
