"""What we claim, measured: against peers in the same run, as percentiles and ratios."""
