"""Rates, paired differences, clusters, judges' errors, multiplicity, power, and the non-inferiority decision. Pure
numpy and scipy.
"""

from logitrail.stats.bootstrap import hierarchical_bootstrap
from logitrail.stats.clustered import Estimate, clustered_mean
from logitrail.stats.decision import NonInferiority, noninferiority, required_n
from logitrail.stats.exact import exact_interval, exact_upper
from logitrail.stats.judged import JudgeErrors, prediction_powered_mean, rogan_gladen
from logitrail.stats.multiplicity import holm, step_down
from logitrail.stats.newcombe import newcombe_interval
from logitrail.stats.paired import PairedCounts, PairedDifference, mcnemar, paired_counts
from logitrail.stats.power import power, sample_size
from logitrail.stats.proportions import Rate, rate_of, wilson
from logitrail.stats.repeats import RepeatedNonInferiority, repeated_noninferiority
from logitrail.stats.tango import tango_interval, tango_statistic, tango_upper

__all__ = [
    "Estimate",
    "JudgeErrors",
    "NonInferiority",
    "PairedCounts",
    "PairedDifference",
    "Rate",
    "RepeatedNonInferiority",
    "clustered_mean",
    "exact_interval",
    "exact_upper",
    "hierarchical_bootstrap",
    "holm",
    "mcnemar",
    "newcombe_interval",
    "noninferiority",
    "paired_counts",
    "power",
    "prediction_powered_mean",
    "rate_of",
    "repeated_noninferiority",
    "required_n",
    "rogan_gladen",
    "sample_size",
    "step_down",
    "tango_interval",
    "tango_statistic",
    "tango_upper",
    "wilson",
]
