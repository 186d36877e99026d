"""`python -m scripts.bench.plain_airbench`: airbench94 with Muon in one plain loop, on our data.

The method of configs/speed/94_muon.yaml (Jordan 2024, arXiv:2404.00498; Muon: Jordan et al. 2024,
https://kellerjordan.github.io/posts/muon/), written independently as a script for this one recipe: the
reference of the recipe in tests and in the benchmark of its speed.
"""

import argparse
import time
from collections import deque
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


def block(inputs: int, outputs: int) -> nn.Sequential:
    def norm() -> nn.BatchNorm2d:
        layer = nn.BatchNorm2d(outputs, eps=1e-12, momentum=0.4)
        layer.weight.requires_grad_(False)
        return layer

    first = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    second = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
    for conv in (first, second):
        nn.init.dirac_(conv.weight.data[: conv.in_channels])
    return nn.Sequential(first, nn.MaxPool2d(2), norm(), nn.GELU(), second, norm(), nn.GELU())


class Net(nn.Module):
    def __init__(self, widths: tuple[int, int, int] = (64, 256, 256)):
        super().__init__()
        self.whiten = nn.Conv2d(3, 24, 2)
        self.whiten.weight.requires_grad_(False)
        blocks = [block(i, o) for i, o in zip((24, *widths[:2]), widths, strict=True)]
        self.body = nn.Sequential(*blocks, nn.MaxPool2d(3))
        self.head = nn.Linear(widths[2], 10, bias=False)
        self.head.weight.data /= self.head.weight.data.std()

    def set_whitening(self, x: Tensor) -> None:
        """Set the filters to the whitening of the 2x2 patches of the images (N, 3, H, W)."""
        patches = x.unfold(2, 2, 1).unfold(3, 2, 1).permute(0, 2, 3, 1, 4, 5).reshape(-1, 12).double()
        values, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))
        filters = (vectors / (values + 5e-4).sqrt()).T.flip(0).reshape(12, 3, 2, 2)
        self.whiten.weight.data.copy_(torch.cat([filters, -filters]))

    def forward(self, x: Tensor, train_bias: bool = True) -> Tensor:
        bias = self.whiten.bias if train_bias else self.whiten.bias.detach()
        x = self.body(F.gelu(F.conv2d(x, self.whiten.weight, bias)))
        return self.head(x.flatten(1)) / self.head.in_features


class Muon:
    def __init__(self, params: list[Tensor], lr: float, momentum: float):
        self.params, self.lr, self.momentum = params, lr, momentum
        self.buffers = [torch.zeros_like(p) for p in params]

    @torch.no_grad()
    def step(self) -> None:
        for p, buffer in zip(self.params, self.buffers, strict=True):
            buffer.mul_(self.momentum).add_(p.grad)
            update = orthogonal((p.grad + self.momentum * buffer).flatten(1))
            p.mul_(len(p) ** 0.5 / p.norm())
            p.sub_(update.view_as(p), alpha=self.lr)


def orthogonal(g: Tensor) -> Tensor:
    """Three Newton-Schulz steps towards the nearest matrix with all singular values 1."""
    x = g / (g.norm() + 1e-7)
    if len(g) > g.shape[1]:
        x = x.T
    for _ in range(3):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * (a @ a)) @ x
    return x.T if len(g) > g.shape[1] else x


def normalized(x: Tensor) -> Tensor:
    mean, std = (torch.tensor(v, device=x.device).view(1, 3, 1, 1) for v in (MEAN, STD))
    return ((x.float() / 255 - mean) / std).contiguous(memory_format=torch.channels_last)


def shifted(padded: Tensor, random: torch.Generator) -> Tensor:
    """Each image shifted by up to two pixels in each direction; images with the same shift in one crop."""
    side = padded.shape[-1] - 4
    x = torch.empty_like(padded[..., :side, :side])
    shifts = torch.randint(0, 5, (2, len(padded)), generator=random).to(padded.device)
    for top in range(5):
        for left in range(5):
            chosen = (shifts[0] == top) & (shifts[1] == left)
            x[chosen] = padded[chosen, :, top : top + side, left : left + side]
    return x


def batches(x: Tensor, y: Tensor, size: int, random: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless batches; each epoch draws new shifts, mirrors the images not mirrored before, and shuffles."""
    mirrored = torch.rand(len(x), generator=random).to(x.device) < 0.5
    padded = F.pad(torch.where(mirrored.view(-1, 1, 1, 1), x.flip(-1), x), (2,) * 4, mode="reflect")
    epoch = 0
    while True:
        images = shifted(padded, random)
        images = images.flip(-1) if epoch % 2 else images
        order = torch.randperm(len(x), generator=random).to(x.device)
        for i in range(len(x) // size):
            index = order[i * size : (i + 1) * size]
            yield images[index], y[index]
        epoch += 1


def train(x: Tensor, y: Tensor, epochs: float, batch: int = 2000, seed: int = 0, bf16: bool = False):
    """Train on uint8 images (N, 3, 32, 32) and classes; yield the network and the loss after each step."""
    torch.manual_seed(seed)
    net = Net().to(x.device, memory_format=torch.channels_last)
    x = normalized(x)
    net.set_whitening(x[:5000])
    steps, bias_steps = round(epochs * (len(x) // batch)), 3 * (len(x) // batch)
    filters = [p for p in net.body.parameters() if p.ndim == 4]
    shifts = [p for p in net.body.parameters() if p.ndim == 1 and p.requires_grad]
    learning_rates, decay = (0.053, 0.053, 0.67), 2e-6 * batch
    groups = [
        {"params": params, "lr": lr, "weight_decay": decay / lr}
        for params, lr in zip(([net.whiten.bias], shifts, [net.head.weight]), learning_rates, strict=True)
    ]
    sgd = torch.optim.SGD(groups, momentum=0.85, nesterov=True)
    muon = Muon(filters, lr=0.24, momentum=0.6)
    source = batches(x, y, batch, torch.Generator().manual_seed(seed))
    for step in range(steps):
        images, labels = next(source)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=bf16):
            logits = net(images, train_bias=step < bias_steps)
        loss = F.cross_entropy(logits.float(), labels, label_smoothing=0.2, reduction="sum")
        net.zero_grad(set_to_none=True)
        loss.backward()
        left = 1 - step / steps
        for group, factor, lr in zip(
            sgd.param_groups, (1 - step / bias_steps, left, left), learning_rates, strict=True
        ):
            group["lr"] = lr * factor
        muon.lr = 0.24 * left
        sgd.step()
        muon.step()
        yield net, loss.detach() / batch


@torch.no_grad()
def accuracy(net: Net, x: Tensor, y: Tensor, bf16: bool = False) -> float:
    """Accuracy in percent with six views: centre and two diagonal shifts, each with its mirror image."""
    net.eval()
    correct = 0
    with torch.autocast(x.device.type, torch.bfloat16, enabled=bf16):
        for images, labels in zip(normalized(x).split(1000), y.split(1000), strict=True):
            padded = F.pad(images, (1,) * 4, mode="reflect")
            views = (images, 0.5), (padded[..., :-2, :-2], 0.25), (padded[..., 2:, 2:], 0.25)
            logits = sum(weight * (net(v).float() + net(v.flip(-1)).float()) / 2 for v, weight in views)
            correct += (logits.argmax(1) == labels).sum()
    net.train()
    return 100 * correct.item() / len(x)


def main() -> None:
    from lib.core.registry import datasets
    from lib.data.base import data_root, fraction

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=float, default=8)
    parser.add_argument("--batch", type=int, default=2000)
    parser.add_argument("--fraction", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bf16", action="store_true")
    options = parser.parse_args()
    data = datasets["cifar10"].build(root=data_root(None), offline=False)
    part, start = fraction(data.train, options.fraction), time.perf_counter()
    steps = train(part.x, part.y, options.epochs, options.batch, options.seed, options.bf16)
    net, _ = deque(steps, maxlen=1).pop()
    percent = accuracy(net, data.test.x, data.test.y, options.bf16)
    print(f"accuracy {percent:.2f} %, {time.perf_counter() - start:.1f} s")


if __name__ == "__main__":
    main()
