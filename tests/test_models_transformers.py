"""ConViT, ConvNeXt, MobileViT, PoolFormer, Swin, CoAtNet and VAN against timm, loops and closed forms."""

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.core.registry import models
from lib.models.coatnet import RelativeAttention
from lib.models.convit import GatedPositionalAttention
from lib.models.convit import offsets as offsets_of
from lib.models.mobilevit import MobileViTBlock
from lib.models.poolformer import ImageNorm, Pooling
from lib.models.swin import WindowAttention
from lib.models.van import LargeKernelAttention
from scripts.bench.counterparts import COUNTERPARTS, timm_convnext, timm_mobilevit, timm_model
from tests.helpers.model_references import build, close, copy_by_shape, images, scramble

SWIN = {"patch_size": 2, "window_size": 4, "embed_dim": 32, "num_heads": (1, 2, 4, 8), "depths": (2, 2, 2, 1)}


def timm_poolformer() -> nn.Module:
    """timm's network with the head of the authors' code: a GroupNorm of one group, and then the pooling."""
    network = timm_model("poolformer_s12")
    network.head.global_pool = nn.Sequential(nn.GroupNorm(1, 512), network.head.global_pool)
    network.head.norm = nn.Identity()
    return network


@pytest.mark.parametrize(
    ("name", "size", "options", "other"),
    [
        ("convit_tiny", 32, {}, COUNTERPARTS["convit_tiny"]),
        ("convit_small", 16, {}, lambda: timm_model("convit_small", img_size=16, patch_size=4)),
        (
            "convnext_tiny",
            32,
            {"widths": (8, 16, 24, 32), "blocks": (2, 1, 2, 1)},
            lambda: timm_convnext(2, dims=(8, 16, 24, 32), depths=(2, 1, 2, 1)),
        ),
        (
            "convnext_tiny",
            32,
            {"widths": (8, 16, 24, 32), "blocks": (1, 1, 1, 1), "patch_size": 4},
            lambda: timm_convnext(4, dims=(8, 16, 24, 32), depths=(1, 1, 1, 1)),
        ),
        ("mobilevit_xxs", 32, {}, COUNTERPARTS["mobilevit_xxs"]),
        ("mobilevit_xs", 28, {}, lambda: timm_mobilevit("mobilevit_xs")),  # 7x7 pixels, stretched
        ("poolformer_s12", 64, {"stem": "imagenet"}, timm_poolformer),
        (
            "swin_t",
            32,
            {"width": 32, "blocks": (2, 2, 2, 1)},
            lambda: timm_model("swin_tiny_patch4_window7_224", img_size=32, **SWIN),
        ),
        (
            "swin_t",
            64,
            {"width": 32, "blocks": (2, 2, 2, 1)},
            lambda: timm_model("swin_tiny_patch4_window7_224", img_size=64, **SWIN),
        ),
    ],
)
def test_equals_the_model_of_timm(name, size, options, other):
    model, reference = scramble(build(name, image_size=size, **options)), other().eval()
    copy_by_shape(model, reference)
    with torch.no_grad():
        close(model(images(size=size)), reference(images(size=size)))


@pytest.mark.parametrize(
    ("name", "option", "count"),
    [
        ("convnext_tiny", {"patch_size": 4}, 27_827_818),
        ("convnext_small", {"patch_size": 4}, 49_462_378),
        ("convnext_base", {"patch_size": 4}, 87_576_714),
        ("convnext_large", {"patch_size": 4}, 196_245_706),
        ("convnext_xlarge", {"patch_size": 4}, 348_168_458),
        ("poolformer_s12", {"stem": "imagenet"}, 11_407_306),
        ("poolformer_s24", {"stem": "imagenet"}, 20_881_098),
        ("poolformer_s36", {"stem": "imagenet"}, 30_354_890),
        ("poolformer_m36", {"stem": "imagenet"}, 55_411_210),
        ("poolformer_m48", {"stem": "imagenet"}, 72_712_138),
        ("swin_t", {"patch_size": 4, "window": 7}, 27.5e6),
        ("swin_s", {"patch_size": 4, "window": 7}, 48.8e6),
        ("coatnet_0", {}, 24.3e6),
    ],
)
def test_the_stem_and_windows_of_the_paper_give_its_parameter_count(name, option, count):
    with torch.device("meta"):
        model = models[name].build(**option)
    got = sum(p.numel() for p in model.parameters())
    assert abs(got - count) <= (0.005 * count if isinstance(count, float) else 0)


def module(make: Callable[[], nn.Module]) -> nn.Module:
    """With random weights of all kinds, in float64."""
    torch.manual_seed(0)
    made = make().double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(0, 0.5)
    return made


def heads_of(x: Tensor, heads: int) -> Tensor:
    """(..., D) -> (heads, ..., D / heads)."""
    return torch.stack(x.chunk(heads, dim=-1))


def slow_attention(
    attention: nn.Module, x: Tensor, sees: Callable[[tuple, tuple], bool], side: int
) -> Tensor:
    """Attention query by query; `sees` selects its keys, `side` is the square of the bias table."""
    S, heads = x.shape[0], attention.heads
    places = [(i, j) for i in range(S) for j in range(S)]
    q, k, v = (heads_of(part, heads) for part in attention.qkv(x).chunk(3, dim=-1))
    table = attention.table.view(2 * side - 1, 2 * side - 1, heads)
    out = torch.zeros(heads, *v.shape[1:], dtype=x.dtype)
    for head in range(heads):
        for a in places:
            seen = [b for b in places if sees(a, b)]
            scores = [
                q[head][a] @ k[head][b] / math.sqrt(q.shape[-1])
                + table[a[0] - b[0] + side - 1, a[1] - b[1] + side - 1, head]
                for b in seen
            ]
            weights = torch.stack(scores).softmax(0)
            out[head][a] = sum(weight * v[head][b] for weight, b in zip(weights, seen, strict=True))
    return attention.project(torch.cat(list(out), dim=-1))


@torch.no_grad()
@pytest.mark.parametrize(("side", "shifted"), [(8, False), (8, True), (7, False), (7, True), (3, True)])
def test_swin_tokens_attend_within_their_window_and_not_to_padding(side, shifted):
    attention = module(lambda: WindowAttention(12, heads=2, side=side, window=4, shifted=shifted))
    x = images(1, 12, side).double().permute(0, 2, 3, 1)
    window = min(side, 4)
    shift = 2 if shifted and side > 4 else 0

    def sees(a: tuple[int, int], b: tuple[int, int]) -> bool:
        return all((m - shift) // window == (n - shift) // window for m, n in zip(a, b, strict=True))

    close(attention(x)[0], slow_attention(attention, x[0], sees, window), 1e-9)


@torch.no_grad()
def test_coatnet_attention_adds_the_bias_of_the_relative_position():
    attention = module(lambda: RelativeAttention(8, width=64, side=4))
    x = images(1, 8, 4).double().permute(0, 2, 3, 1)
    close(attention(x)[0], slow_attention(attention, x[0], lambda a, b: True, 4), 1e-9)


@torch.no_grad()
def test_coatnet_attention_has_8x8_then_4x4_pixels():
    model, seen = build("coatnet_0", widths=(8, 8, 8, 32, 32)).eval(), []
    for layer in model.modules():
        if isinstance(layer, RelativeAttention):
            layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[1:3]))
    model(images())
    assert seen == [(8, 8)] * 5 + [(4, 4)] * 2


@torch.no_grad()
def test_a_convit_layer_is_initialised_as_an_average_of_nearby_pixels():
    attention = GatedPositionalAttention(width=9, heads=9, side=5)
    attention.position.bias.zero_()
    attention.start_as_convolution()
    attention.gate.fill_(100.0)  # positions alone
    attention.project.weight.copy_(torch.eye(9))
    attention.project.bias.zero_()
    x = images(1, 9, 5).flatten(2).transpose(1, 2)
    got = attention(x).view(5, 5, 9)
    for head in range(9):  # one channel per head
        centre = head // 3 - 1, head % 3 - 1  # to the right, and down
        weights = torch.tensor(
            [-float((i - 2 - centre[1]) ** 2 + (j - 2 - centre[0]) ** 2) for i in range(5) for j in range(5)]
        ).softmax(0)
        torch.testing.assert_close(got[2, 2, head], weights @ x[0, :, head])


@torch.no_grad()
def test_a_convit_gate_mixes_content_and_positional_attention():
    attention = module(lambda: GatedPositionalAttention(width=8, heads=2, side=3))
    x = images(1, 8, 3).double().flatten(2).transpose(1, 2)[0]  # (N, D)
    q, k = (heads_of(part, 2) for part in attention.qk(x).chunk(2, dim=-1))
    content = (q @ k.transpose(1, 2) / 2).softmax(-1)
    position = attention.position(offsets_of(3).double()).permute(2, 0, 1).softmax(-1)
    gate = attention.gate.sigmoid()[:, None, None]
    mixed = (1 - gate) * content + gate * position
    want = attention.project(torch.cat(list(mixed @ heads_of(attention.value(x), 2)), dim=-1))
    close(attention(x[None])[0], want, 1e-9)


@torch.no_grad()
def test_a_mobilevit_pixel_attends_to_its_position_in_all_patches():
    block = MobileViTBlock(8, width=8, depth=1, dropout=0.0).eval()
    block.local, block.narrow = nn.Identity(), nn.Identity()
    block.fuse = nn.Identity()
    x = images(1, 8, 6)
    changed = x.clone()
    changed[:, 0, 1, 4] += 1  # one channel, as a norm cancels a shift of all; an odd row, an even column
    moved = (block(changed) - block(x))[0, 8:].abs().amax(0) > 1e-6
    want = torch.zeros(6, 6, dtype=torch.bool)
    want[1::2, 0::2] = True
    assert torch.equal(moved, want)


@torch.no_grad()
def test_van_attention_equals_a_loop_over_pixels():
    attention = module(lambda: LargeKernelAttention(2))
    x = images(1, 2, 9).double()

    def convolve(x: Tensor, weight: Tensor, bias: Tensor, dilation: int) -> Tensor:
        out, reach = torch.zeros_like(x), weight.shape[-1] // 2
        for c in range(2):
            for i in range(9):
                for j in range(9):
                    out[0, c, i, j] = bias[c]
                    for a in range(-reach, reach + 1):
                        for b in range(-reach, reach + 1):
                            m, n = i + a * dilation, j + b * dilation
                            if 0 <= m < 9 and 0 <= n < 9:
                                out[0, c, i, j] += weight[c, 0, a + reach, b + reach] * x[0, c, m, n]
        return out

    near = convolve(x, attention.near.weight, attention.near.bias, 1)
    far = convolve(near, attention.far.weight, attention.far.bias, 3)
    mixed = torch.einsum("oc,bchw->bohw", attention.mix.weight[:, :, 0, 0], far)
    close(attention(x), x * (mixed + attention.mix.bias[:, None, None]), 1e-9)


def test_poolformer_pooling_maps_constants_to_zero_up_to_the_border():
    assert torch.equal(Pooling()(torch.full((1, 2, 4, 4), 3.0)), torch.zeros(1, 2, 4, 4))


@torch.no_grad()
def test_poolformer_norm_is_a_group_norm_of_one_group():
    norm, x = module(lambda: ImageNorm(6)), images(2, 6, 5).double() * 3 + 1
    close(norm(x), F.group_norm(x, 1, norm.weight, norm.bias), 1e-9)


SMALL = [
    ("convit_tiny", {}),
    ("coatnet_0", {"widths": (8, 8, 16, 32, 64), "blocks": (1, 1, 2, 2)}),
    ("convnext_tiny", {"widths": (8, 16, 24, 32)}),
    ("mobilevit_xxs", {}),
    ("poolformer_s12", {"widths": (8, 16, 24, 32)}),
    ("swin_t", {"width": 32}),
    ("van_tiny", {}),
]


def types_in_norms(name: str, options: dict, device: str) -> set[torch.dtype]:
    """The dtypes of the inputs of norms under autocast."""
    model = build(name, **options).to(device, memory_format=torch.channels_last)
    fed = []
    for layer in model.modules():
        if isinstance(layer, nn.LayerNorm | nn.BatchNorm2d | ImageNorm):
            layer.register_forward_pre_hook(lambda _, inputs: fed.append(inputs[0].dtype))
    with torch.autocast(device, torch.bfloat16):
        loss = model(images().to(device)).float().logsumexp(1).sum()
    loss.backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())
    return set(fed)


@pytest.mark.parametrize(("name", "options"), SMALL)
def test_norms_with_float32_outputs_keep_the_residual_stream_in_low_precision(name, options, monkeypatch):
    # Autocast on a GPU normalises in float32; on a CPU it does not.
    layer_norm = F.layer_norm
    monkeypatch.setattr(F, "layer_norm", lambda x, *args, **kwargs: layer_norm(x.float(), *args, **kwargs))
    assert types_in_norms(name, options, "cpu") == {torch.bfloat16}


@pytest.mark.gpu
@pytest.mark.parametrize(("name", "options"), SMALL)
def test_on_a_gpu_the_residual_stream_stays_in_low_precision(name, options):
    assert types_in_norms(name, options, "cuda") == {torch.bfloat16}
