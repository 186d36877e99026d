"""Faults of machines: processes killed, disks and memory that are full, clocks set back."""
