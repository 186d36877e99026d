"""Tables, statistics, plots and pages from run records."""
