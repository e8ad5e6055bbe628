"""Methods x data x seeds: every cell a run of its own, then one table. Imports no torch until a cell runs."""
