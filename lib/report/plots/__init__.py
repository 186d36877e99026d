"""Pictures of many runs: a file for each kind, drawn from records, as matplotlib Figures."""
