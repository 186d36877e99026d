"""Residual attention, BoTNet, CCT, CeiT and CvT against other libraries and reference implementations."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.models.attention import AttentionModule
from lib.models.botnet import Attention as RelativeAttention
from lib.models.cct import SequencePool, sine_positions
from lib.models.ceit import LocalFeedForward
from lib.models.cvt import Projection
from tests.helpers.model_references import Weights, build, close, copy_by_shape, images, scramble

# Reference implementations, which consume the tensors of a network in order.


class Tokens(Weights):
    """The same for networks of tokens (B, N, D), with biases in some layers."""

    def take(self) -> Tensor:
        return self.left.pop(0)

    def linear(self, x: Tensor, bias: bool = True) -> Tensor:
        x = x @ self.take().T
        return x + self.take() if bias else x

    def layer_norm(self, x: Tensor, eps: float) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        return centred / (centred.square().mean(-1, keepdim=True) + eps).sqrt() * self.take() + self.take()

    def mlp(self, x: Tensor) -> Tensor:
        return self.linear(F.gelu(self.linear(x)))

    def depthwise(self, x: Tensor, stride: int = 1) -> Tensor:
        weight = self.take()
        channels = zip(x.split(1, dim=1), weight.split(1), strict=True)
        return torch.cat([F.conv2d(c, w, stride=stride, padding=1) for c, w in channels], dim=1)

    def logits(self, x: Tensor) -> Tensor:
        x = self.linear(x)
        assert not self.left, f"{len(self.left)} tensors were not used"
        return x

    def biased_conv(self, x: Tensor, stride: int, padding: int) -> Tensor:
        return F.conv2d(x, self.take(), self.take(), stride, padding)


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """Softmax attention of each head on its own, (B, N, D)."""
    per_head = zip(*(t.chunk(heads, dim=-1) for t in (q, k, v)), strict=True)
    return torch.cat([(q @ k.mT / math.sqrt(q.shape[-1])).softmax(-1) @ v for q, k, v in per_head], dim=-1)


def tokens_of(image: Tensor) -> Tensor:  # (B, D, H, W) -> (B, HW, D)
    return image.flatten(2).mT


def image_of(tokens: Tensor) -> Tensor:  # (B, HW, D) -> (B, D, H, W)
    side = math.isqrt(tokens.shape[1])
    return tokens.mT.reshape(len(tokens), -1, side, side)


def cct(network: nn.Module, x: Tensor, layers: int, heads: int, convolutions: int, sine: bool) -> Tensor:
    w = Tokens(network)
    position = network.position if sine else w.take()
    for _ in range(convolutions):
        x = F.max_pool2d(w.conv(x).relu(), 3, 2, padding=1)
    x = tokens_of(x) + position
    for _ in range(layers):
        qkv = w.linear(w.layer_norm(x, 1e-5), bias=False)
        x = x + w.linear(attend(*qkv.chunk(3, dim=-1), heads))
        x = x + w.mlp(w.layer_norm(x, 1e-5))
    x = w.layer_norm(x, 1e-5)
    score = w.linear(x).exp()
    x = (x * score).sum(1) / score.sum(1)
    return w.logits(x)


def ceit(network: nn.Module, x: Tensor) -> Tensor:
    w = Tokens(network)
    class_token, position = w.take(), w.take()
    x = F.max_pool2d(w.norm(w.conv(x)), 3, 2, padding=1)
    x = torch.cat([class_token.expand(len(x), 1, 192), tokens_of(w.biased_conv(x, 2, 0))], dim=1) + position
    class_tokens = []
    for layer in range(12):
        qkv = w.linear(w.layer_norm(x, 1e-6))
        x = x + w.linear(attend(*qkv.chunk(3, dim=-1), 3))
        normed = w.layer_norm(x, 1e-6)
        if layer < 11:
            image = F.gelu(w.norm(w.conv(image_of(normed[:, 1:]))))
            image = F.gelu(w.norm(w.depthwise(image)))
            image = F.gelu(w.norm(w.conv(image)))
            normed = torch.cat([normed[:, :1], tokens_of(image)], dim=1)
        x = x + normed
        class_tokens.append(x[:, 0])
    x = torch.stack(class_tokens, dim=1)
    q, k, v = w.linear(w.layer_norm(x, 1e-6)).chunk(3, dim=-1)
    last = x[:, -1:] + w.linear(attend(q[:, -1:], k, v, 3))
    last = last + w.mlp(w.layer_norm(last, 1e-6))
    return w.logits(w.layer_norm(last[:, 0], 1e-6))


def cvt(network: nn.Module, x: Tensor) -> Tensor:
    w = Tokens(network)
    class_token = w.take()
    embeddings = [[w.take() for _ in range(4)] for _ in range(3)]  # they precede all layers
    for stage, (width, heads, layers) in enumerate(((64, 1, 1), (192, 3, 2), (384, 6, 10))):
        weight, bias, scale, shift = embeddings[stage]
        x = tokens_of(F.conv2d(x, weight, bias, stride=1 if stage == 0 else 2, padding=weight.shape[-1] // 2))
        x = F.layer_norm(x, (width,), scale, shift)
        tokens = 0
        if stage == 2:
            x, tokens = torch.cat([class_token.expand(len(x), 1, width), x], dim=1), 1
        for _ in range(layers):
            normed = w.layer_norm(x, 1e-5)
            qkv = []
            for stride in (1, 2, 2):
                image = w.norm(w.depthwise(image_of(normed[:, tokens:]), stride))
                qkv.append(w.linear(torch.cat([normed[:, :tokens], tokens_of(image)], dim=1)))
            x = x + w.linear(attend(*qkv, heads))
            x = x + w.mlp(w.layer_norm(x, 1e-5))
        x = x if stage == 2 else image_of(x)
    return w.logits(w.layer_norm(x[:, 0], 1e-5))


def residual_attention(network: nn.Module, x: Tensor, modules: int) -> Tensor:
    w = Weights(network)

    def unit(x: Tensor, stride: int = 1, projects: bool = False) -> Tensor:
        activated = w.norm(x).relu()
        residual = w.conv(w.norm(w.conv(w.norm(w.conv(activated)).relu(), stride)).relu())
        return residual + (w.conv(activated, stride) if projects else x)

    def mask(x: Tensor, halvings: int) -> Tensor:
        maps = [x]
        for _ in range(halvings):
            maps.append(unit(F.max_pool2d(maps[-1], 3, 2, padding=1)))
        y = unit(maps[-1])
        for skip in maps[-2:0:-1]:
            y = unit(skip + F.interpolate(y, skip.shape[2:], mode="bilinear"))
        y = F.interpolate(y, x.shape[2:], mode="bilinear")
        return w.conv(w.norm(w.conv(w.norm(y).relu())).relu()).sigmoid()

    x = w.conv(x)
    for stage in range(3):
        x = unit(x, stride=2 if stage else 1, projects=True)
        for _ in range(modules):
            x = unit(x)
            trunk = unit(unit(x))
            x = unit((1 + mask(x, 3 - stage)) * trunk)
    for _ in range(3):
        x = unit(x)
    return w.classify(w.norm(x).relu())


# Whole networks.


def test_residual_attention_equals_its_reference():
    model = scramble(build("attention56"))
    with torch.no_grad():
        close(model(images()), residual_attention(model, images(), modules=1))


@pytest.mark.parametrize(
    ("name", "layers", "heads", "convolutions", "sine"),
    [
        ("cct_2_3x2_32", 2, 2, 2, False),
        ("cct_6_3x1_32", 6, 4, 1, False),
        ("cct_2_3x2_32_sine", 2, 2, 2, True),
    ],
)
def test_cct_equals_its_reference(name, layers, heads, convolutions, sine):
    model = scramble(build(name))
    with torch.no_grad():
        close(model(images()), cct(model, images(), layers, heads, convolutions, sine))


def test_ceit_equals_its_reference():
    model = scramble(build("ceit_32"))
    with torch.no_grad():
        close(model(images()), ceit(model, images()))


def test_cvt_equals_its_reference():
    model = scramble(build("cvt"))
    with torch.no_grad():
        close(model(images()), cvt(model, images()))


@pytest.mark.parametrize("last_stride", [2, 1])
def test_botnet_equals_a_resnet50_of_torchvision_with_the_attention_of_timm(last_stride):
    import torchvision
    from timm.layers.bottleneck_attn import BottleneckAttn

    reference = torchvision.models.resnet50(num_classes=10)
    reference.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    reference.maxpool = nn.Identity()
    for i, block in enumerate(reference.layer4):
        stride = last_stride if i == 0 else 1
        size = 8 if i == 0 else 8 // last_stride
        block.conv2 = BottleneckAttn(512, None, (size, size), stride, num_heads=4, scale_pos_embed=True)
    reference.layer4[0].downsample[0].stride = (last_stride, last_stride)
    model = scramble(build("botnet", last_stride=last_stride))
    copy_by_shape(model, reference.eval())
    with torch.no_grad():
        close(model(images()), reference(images()))


# Their special parts.


def test_the_logits_of_relative_positions_equal_a_loop_over_pixels():
    size, width = 3, 2
    attention = RelativeAttention(4 * width, size)
    q = torch.randn(2, 4, size * size, width)
    got = attention.position_logits(q).detach()
    pixels = [(row, column) for row in range(size) for column in range(size)]
    for i, (row, column) in enumerate(pixels):
        for j, (other_row, other_column) in enumerate(pixels):
            r = (
                attention.rows[other_row - row + size - 1]
                + attention.columns[other_column - column + size - 1]
            )
            torch.testing.assert_close(got[:, :, i, j], q[:, :, i] @ r.detach() / math.sqrt(width))


def test_attention_with_relative_positions_equals_that_of_timm():
    # Not scrambled: in a scrambled network the softmax saturates, and positions hardly matter.
    from timm.layers.bottleneck_attn import BottleneckAttn

    attention = RelativeAttention(64, 5)
    reference = BottleneckAttn(64, None, (5, 5), num_heads=4, scale_pos_embed=True)
    copy_by_shape(attention, reference)
    x = torch.randn(2, 64, 5, 5)
    with torch.no_grad():
        close(attention(x), reference(x))


def test_sequence_pooling_is_a_mean_with_softmax_weights():
    pool = SequencePool(3)
    x = torch.randn(2, 5, 3)
    score = ((x * pool.score.weight).sum(-1) + pool.score.bias).detach()
    for image in range(2):
        weights = [math.exp(s) for s in score[image]]
        mean = sum(weight * token for weight, token in zip(weights, x[image], strict=True)) / sum(weights)
        torch.testing.assert_close(pool(x)[image], mean)


def test_equal_scores_pool_to_the_mean_and_one_high_score_to_its_token():
    pool = SequencePool(3)
    x = torch.randn(2, 5, 3)
    with torch.no_grad():
        pool.score.weight.zero_()
        torch.testing.assert_close(pool(x), x.mean(1))
        pool.score.weight[0, 0] = 1.0
        x[:, 2, 0] = 1e3
        torch.testing.assert_close(pool(x), x[:, 2])


def test_fixed_positions_are_sines_and_cosines_and_are_not_trained():
    table = sine_positions(tokens=10, width=6)
    for token in range(10):
        for channel in range(6):
            angle = token / 10_000 ** ((channel - channel % 2) / 6)
            want = math.cos(angle) if channel % 2 else math.sin(angle)
            assert table[0, token, channel].item() == pytest.approx(want, abs=1e-5)
    model = build("cct_2_3x2_32_sine")
    assert "position" not in dict(model.named_parameters())
    assert torch.equal(model.position, sine_positions(64, 128))


def test_a_convolutional_projection_reads_neighbours_and_skips_the_class_token():
    projection = Projection(2, stride=2).eval()
    image = torch.arange(32.0).view(1, 2, 4, 4)
    token = torch.tensor([[[7.0, -7.0]]])
    with torch.no_grad():
        projection.convolve[1].eps = 0.0
        projection.linear.weight.copy_(torch.eye(2))
        projection.linear.bias.zero_()
        kernel = projection.convolve[0].weight.zero_()
        kernel[0, 0, 1, 1] = 1.0  # the pixel itself
        kernel[1, 0, 1, 0] = 1.0  # its neighbour on the left, zero beyond the border
        got = projection(image, token)
    want = torch.tensor([[7.0, -7.0], [0.0, 0.0], [2.0, 17.0], [8.0, 0.0], [10.0, 25.0]])
    torch.testing.assert_close(got, want[None])


def test_the_class_token_of_ceit_skips_the_convolutions_of_an_mlp():
    feed_forward = LocalFeedForward().eval()
    x = torch.randn(2, 1 + 16, 192)
    other = x.clone()
    other[:, 1 + 5] += 1.0
    with torch.no_grad():
        got, moved = feed_forward(x), feed_forward(other)
    assert torch.equal(got[:, 0], x[:, 0])
    changed = {i for i in range(16) if not torch.equal(got[:, 1 + i], moved[:, 1 + i])}
    assert changed == {0, 1, 2, 4, 5, 6, 8, 9, 10}  # the 3x3 pixels around number 5 of 4x4


def test_an_attention_mask_of_one_half_scales_the_trunk_by_one_and_a_half():
    module = AttentionModule(16, mask_depth=2).eval()
    x = torch.randn(2, 16, 8, 8)
    with torch.no_grad():
        module.mask[-2].weight.zero_()
        close(module(x), module.behind(1.5 * module.trunk(module.before(x))))
