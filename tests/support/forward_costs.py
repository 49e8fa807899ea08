"""Costs of forwards that do not depend on how busy the machine is."""

from deployments.engine.costs import ForwardCosts


class FixedCosts(ForwardCosts):
    """Wide forwards cost what narrow ones do, or as many times as much as they have rows; nothing is left to learn."""

    def __init__(self, *, worth_joining: bool = True) -> None:
        super().__init__()
        self.worth_joining = worth_joining

    def cap(self, name, most_rows, waiting_rows):
        limit = min(most_rows, self._memory_caps.get(name, most_rows))
        return limit if self.worth_joining else 1

    def note(self, name, rows, seconds):
        super().note(name, rows, 1.0)
