"""Costs of forwards that do not depend on how busy the machine is."""

from deployments.engine.costs import ForwardCosts


class FixedCosts(ForwardCosts):
    """Wide forwards cost what narrow ones do, or as many times as much as they have rows."""

    def __init__(self, *, worth_joining: bool = True) -> None:
        super().__init__()
        self.worth_joining = worth_joining
        self.explored: list[str] = []

    def measure(self, name, most_rows, time_forward):
        self.explored.append(name)
        super().measure(name, most_rows, lambda rows: 1.0 if self.worth_joining else float(rows))

    def note(self, name, rows, seconds):
        super().note(name, rows, 1.0)
