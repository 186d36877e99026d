"""The CIFAR tricks zoo: models, augmentations and training tricks that compose from the command line."""
