"""Programs that use the project as a library; they are yours to copy."""
