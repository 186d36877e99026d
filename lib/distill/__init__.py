"""Distillation: maps of the loss that use the logits of a teacher, `batch.teacher`."""
