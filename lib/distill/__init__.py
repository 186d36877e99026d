"""Distillation: losses around a loss that also use the logits of a teacher."""
