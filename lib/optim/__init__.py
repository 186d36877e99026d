"""What needs gradients, or the weights after the step: optimizers, wrappers, schedules and averages."""
