"""Programs that use the project as a library, to copy and change."""
