"""Rates with intervals, paired differences, and the non-inferiority decision. Pure numpy and scipy."""

from logitrail.stats.decision import NonInferiority, noninferiority, required_n
from logitrail.stats.exact import exact_interval, exact_upper
from logitrail.stats.newcombe import newcombe_interval
from logitrail.stats.paired import PairedCounts, PairedDifference, mcnemar, paired_counts
from logitrail.stats.proportions import Rate, rate_of, wilson
from logitrail.stats.tango import tango_interval, tango_statistic, tango_upper

__all__ = [
    "NonInferiority",
    "PairedCounts",
    "PairedDifference",
    "Rate",
    "exact_interval",
    "exact_upper",
    "mcnemar",
    "newcombe_interval",
    "noninferiority",
    "paired_counts",
    "rate_of",
    "required_n",
    "tango_interval",
    "tango_statistic",
    "tango_upper",
    "wilson",
]
