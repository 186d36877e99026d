"""What several test modules share: references, records, clusters, and small runs."""
