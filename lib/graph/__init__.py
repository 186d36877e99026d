"""What can be learned of any network by running it once: its call graph, its branches, its cost."""
