"""A run so small that it can be trained often."""

TINY = """\
model: {name: resnet20}
data: {name: synthetic, size: 64, classes: 4, image_size: 8}
schedule: {milestones: [1]}
train: {epochs: 2, batch_size: 16}
run: {device: cpu, tensorboard: false}
"""
