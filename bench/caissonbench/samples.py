"""Samples of one quantity by side, and what is told of them: medians, quartiles, ratios."""

import statistics


class Samples:
    """One row of the report: a quantity, measured for several sides in interleaved rounds."""

    def __init__(self, group, name, unit, reference, smaller_is_better=True):
        self.group, self.name, self.unit, self.reference, self.smaller_is_better = group, name, unit, reference, smaller_is_better
        self.values = {}

    def add(self, side, value):
        self.values.setdefault(side, []).append(value)

    def median(self, side):
        return statistics.median(self.values[side]) if self.values.get(side) else None

    def quartiles(self, side):
        values = self.values.get(side, [])
        if len(values) < 2:
            return (values[0], values[0]) if values else (None, None)
        cuts = statistics.quantiles(values, n=4, method="inclusive")
        return cuts[0], cuts[2]

    def ratio(self, side):
        """How many times the reference's median: time by time, speed by speed."""
        mine, theirs = self.median(side), self.median(self.reference)
        return mine / theirs if mine is not None and theirs else None

    def ratio_spread(self, side):
        """Quartiles of the ratio round by round: machine noise that hits a round hits both sides of it."""
        theirs = self.values.get(self.reference, [])
        pairs = [a / b for a, b in zip(self.values.get(side, []), theirs) if b]
        if len(pairs) < 2:
            return (pairs[0], pairs[0]) if pairs else (None, None)
        cuts = statistics.quantiles(pairs, n=4, method="inclusive")
        return cuts[0], cuts[2]

    def to_json(self):
        sides = {}
        for side, values in self.values.items():
            low, high = self.quartiles(side)
            ratio_low, ratio_high = self.ratio_spread(side)
            sides[side] = {"median": self.median(side), "quartiles": [low, high], "ratio": self.ratio(side), "ratio_quartiles": [ratio_low, ratio_high],
                           "samples": values}
        return {"group": self.group, "name": self.name, "unit": self.unit, "reference": self.reference,
                "smaller_is_better": self.smaller_is_better, "sides": sides}
