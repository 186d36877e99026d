"""Networks of timm and torchvision that equal networks of the zoo, with its stems and strides for 32 pixels.

Tests check that ours are equal to them, and the benchmark compares the cost. Each function returns the
network for images of 3x32x32 and 10 classes.
"""

from collections.abc import Callable
from functools import partial

import timm
import torchvision
from timm.layers import SEModule
from timm.layers.cbam import CbamModule
from timm.models.dpn import DPN
from timm.models.inception_resnet_v2 import InceptionResnetV2
from timm.models.inception_v4 import InceptionV4
from timm.models.resnet import BasicBlock, Bottleneck, ResNet
from timm.models.xception import Xception
from torch import nn
from torchvision.models import inception
from torchvision.models.regnet import BlockParams, RegNet


def small_stem(network: nn.Module) -> nn.Module:
    """A torchvision or timm ResNet with the 3x3 stem, without max-pool."""
    stem = network.stem if hasattr(network, "stem") else network
    for name in ("conv1", "conv"):
        if hasattr(stem, name):
            setattr(stem, name, nn.Conv2d(3, 64, 3, padding=1, bias=False))
    setattr(stem, "pool" if hasattr(stem, "pool") else "maxpool", nn.Identity())
    return network


def torchvision_resnet(name: str) -> nn.Module:
    return small_stem(getattr(torchvision.models, name)(num_classes=10))


def torchvision_vgg(name: str) -> nn.Module:
    features = getattr(torchvision.models, name)().features
    return nn.Sequential(features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10))


def timm_preact_resnet(name: str) -> nn.Module:
    network = small_stem(timm.create_model(name, num_classes=10))
    network.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(network.num_features, 10))
    return network


def timm_vit(**sizes: int) -> nn.Module:
    return timm.create_model("vit_tiny_patch16_224", num_classes=10, img_size=32, patch_size=4, **sizes)


def pooled_head(features: nn.Module, width: int) -> nn.Module:
    """A linear layer over the mean of the features."""
    return nn.Sequential(features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10))


def torchvision_alexnet() -> nn.Module:
    features = torchvision.models.alexnet().features
    features[0].padding = (5, 5)
    for i in (2, 5, 12):
        features[i] = nn.MaxPool2d(2)
    return pooled_head(features, 256)


def torchvision_squeezenet() -> nn.Module:
    layers = list(torchvision.models.squeezenet1_0().features)
    layers[0:2] = [nn.Conv2d(3, 96, 3, padding=1), nn.BatchNorm2d(96), nn.ReLU()]
    normed: list[nn.Module] = []
    for layer in layers:
        normed.append(layer)
        if hasattr(layer, "squeeze"):
            layer.squeeze_activation = nn.Sequential(nn.BatchNorm2d(layer.squeeze.out_channels), nn.ReLU())
            layer.expand1x1_activation = layer.expand3x3_activation = nn.Identity()
            normed += [nn.BatchNorm2d(2 * layer.expand1x1.out_channels), nn.ReLU()]
    return pooled_head(nn.Sequential(*normed), 512)


def torchvision_googlenet() -> nn.Module:
    network = torchvision.models.googlenet(num_classes=10, aux_logits=False, init_weights=False)
    network.conv1.conv = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    network.maxpool1 = network.maxpool2 = nn.Identity()
    network.maxpool4 = nn.MaxPool2d(3, 2, ceil_mode=True)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 1e-5
        if hasattr(module, "branch3"):  # torchvision has 3x3, the paper 5x5
            old = module.branch3[1].conv
            module.branch3[1].conv = nn.Conv2d(old.in_channels, old.out_channels, 5, padding=2, bias=False)
    return network


def timm_dla34() -> nn.Module:
    network = timm.create_model("dla34", num_classes=10)
    network.base_layer[0] = nn.Conv2d(3, 16, 3, padding=1, bias=False)
    network.level1[0].stride = (1, 1)
    network.level2.downsample = nn.Identity()
    network.level2.tree1.conv1.stride = (1, 1)
    network.fc = nn.Sequential(nn.Flatten(), nn.Linear(512, 10))
    return network


def torchvision_densenet(layers: tuple[int, ...], growth: int) -> nn.Module:
    """With the stem for CIFAR: only a 3x3 convolution."""
    network = torchvision.models.DenseNet(growth, layers, num_init_features=2 * growth, num_classes=10)
    network.features.conv0 = nn.Conv2d(3, 2 * growth, 3, padding=1, bias=False)
    for name in ("norm0", "relu0", "pool0"):
        setattr(network.features, name, nn.Identity())
    return network


def keep_the_grid(*parts: nn.Module) -> None:
    """Set stride 1 and the padding that keeps the resolution."""
    for module in (m for part in parts for m in part.modules()):
        if isinstance(module, nn.Conv2d):
            module.stride = (1, 1)
            module.padding = tuple(k // 2 for k in module.kernel_size)
        if isinstance(module, nn.MaxPool2d):
            module.stride, module.padding = 1, 1


def torchvision_inception_v3() -> nn.Module:
    network = inception.Inception3(num_classes=10, aux_logits=False, init_weights=False)
    keep_the_grid(network.Conv2d_1a_3x3, network.Conv2d_2a_3x3, network.Conv2d_4a_3x3)
    network.maxpool1 = network.maxpool2 = nn.Identity()
    return network


def timm_inception_v4() -> nn.Module:
    network = InceptionV4(num_classes=10)
    keep_the_grid(*network.features[:6])
    return network


def timm_inception_resnet_v2() -> nn.Module:
    network = InceptionResnetV2(num_classes=10)
    keep_the_grid(network.conv2d_1a, network.conv2d_2a, network.conv2d_4a)
    network.maxpool_3a = network.maxpool_5a = nn.Identity()
    return network


def timm_xception() -> nn.Module:
    network = Xception(num_classes=10)
    keep_the_grid(network.conv1, network.conv2, network.block1.skip)
    network.block1.rep[-1] = nn.Identity()
    return network


def timm_dpn(units: tuple[int, ...]) -> nn.Module:
    network = DPN(units, num_classes=10, fc_act_layer="relu")
    network.features.conv1_1.conv = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    network.features.conv1_pool = nn.Identity()
    network.classifier = nn.Sequential(nn.Flatten(), nn.Linear(network.num_features, 10))
    return network


def torchvision_mobilenetv2(multiplier: float = 1.0) -> nn.Module:
    network = torchvision.models.mobilenet_v2(num_classes=10, width_mult=multiplier)
    network.features[0][0].stride = (1, 1)
    network.features[2].conv[1][0].stride = (1, 1)
    return network


def torchvision_efficientnet() -> nn.Module:
    network = torchvision.models.efficientnet_b0(num_classes=10)
    network.features[0][0].stride = (1, 1)
    network.features[2][0].block[1][0].stride = (1, 1)
    return network


def torchvision_shufflenetv2(name: str) -> nn.Module:
    network = getattr(torchvision.models, name)(num_classes=10)
    network.conv1[0].stride, network.maxpool = (1, 1), nn.Identity()
    return network


def torchvision_regnet(
    depths: list[int], widths: list[int], group_width: int, se_ratio: float | None = None
) -> nn.Module:
    ones, twos, groups = [1.0] * 4, [2] * 4, [group_width] * 4
    network = RegNet(BlockParams(depths, widths, groups, ones, twos, se_ratio), num_classes=10)
    keep_the_grid(network.stem, network.trunk_output.block1, network.trunk_output.block2)
    return network


def timm_mobilenet() -> nn.Module:
    network = timm.create_model("mobilenetv1_100", num_classes=10, act_layer=nn.ReLU)
    network.conv_stem.stride = (1, 1)
    return network


def timm_resnext(blocks: tuple[int, ...], bottleneck: bool = True, attend=None, **groups: int) -> nn.Module:
    """timm's network with one stage per entry of `blocks`, after a 3x3 stem without max-pool."""
    block, channels = Bottleneck if bottleneck else BasicBlock, (64, 128, 256, 512)[: len(blocks)]
    network = ResNet(block, blocks, 10, channels=channels, block_args={"attn_layer": attend}, **groups)
    network.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    network.maxpool = nn.Identity()
    if len(blocks) == 3:
        network.layer4 = nn.Identity()
    return network


def timm_se(divisor: int = 8) -> partial:
    """timm rounds the squeezed channels to multiples of 8; the smallest stage has only 4."""
    return partial(SEModule, rd_divisor=divisor)


def timm_cbam() -> partial:
    return partial(CbamModule, mlp_bias=True)


def timm_model(name: str, **options) -> nn.Module:
    return timm.create_model(name, num_classes=10, **options)


def timm_mobilevit(name: str) -> nn.Module:
    """With our strides: 1 in the stem and in the first stage of transformers."""
    network = timm_model(name)
    network.stem.conv.stride = (1, 1)
    network.stages[2][0].conv2_kxk.conv.stride = (1, 1)
    return network


def timm_convnext(patch_size: int, **sizes) -> nn.Module:
    network = timm_model("convnext_tiny", **sizes)
    network.stem[0] = nn.Conv2d(3, 8, patch_size, stride=patch_size)
    return network


COUNTERPARTS: dict[str, Callable[[], nn.Module]] = {
    "alexnet": torchvision_alexnet,
    "convit_tiny": partial(timm_model, "convit_tiny", img_size=32, patch_size=4),
    "densenet_bc_100_12": partial(torchvision_densenet, (16, 16, 16), 12),
    "densenet_cifar": partial(torchvision_densenet, (6, 12, 24, 16), 12),
    "densenet121": partial(torchvision_densenet, (6, 12, 24, 16), 32),
    "dla34": timm_dla34,
    "dpn26": partial(timm_dpn, (2, 2, 2, 2)),
    "dpn92": partial(timm_dpn, (3, 4, 20, 3)),
    "efficientnet_b0": torchvision_efficientnet,
    "googlenet": torchvision_googlenet,
    "inception_resnet_v2": timm_inception_resnet_v2,
    "inceptionv3": torchvision_inception_v3,
    "inceptionv4": timm_inception_v4,
    "mobilenet": timm_mobilenet,
    "mobilenetv2": torchvision_mobilenetv2,
    "mobilenetv2_x0_5": partial(torchvision_mobilenetv2, 0.5),
    "mobilevit_xxs": partial(timm_mobilevit, "mobilevit_xxs"),
    "mobilevit_xs": partial(timm_mobilevit, "mobilevit_xs"),
    "mobilevit_s": partial(timm_mobilevit, "mobilevit_s"),
    "preact_resnet50": partial(timm_preact_resnet, "resnetv2_50"),
    # Depths and widths: figures 15 and 16 of Radosavovic et al. 2020 (arXiv:2003.13678).
    "regnetx_200mf": partial(torchvision_regnet, [1, 1, 4, 7], [24, 56, 152, 368], 8),
    "regnetx_400mf": partial(torchvision_regnet, [1, 2, 7, 12], [32, 64, 160, 384], 16),
    "regnety_400mf": partial(torchvision_regnet, [1, 3, 6, 6], [48, 104, 208, 440], 8, 0.25),
    "resnet18": partial(torchvision_resnet, "resnet18"),
    "resnet50": partial(torchvision_resnet, "resnet50"),
    "resnext29_2x64d": partial(timm_resnext, (3, 3, 3), cardinality=2, base_width=64),
    "resnext29_16x8d": partial(timm_resnext, (3, 3, 3), cardinality=16, base_width=8),
    "seresnet18": partial(timm_resnext, (2, 2, 2, 2), bottleneck=False, attend=timm_se(divisor=4)),
    "seresnet50": partial(timm_resnext, (3, 4, 6, 3), attend=timm_se()),
    "shufflenetv2_0_5": partial(torchvision_shufflenetv2, "shufflenet_v2_x0_5"),
    "shufflenetv2_1_0": partial(torchvision_shufflenetv2, "shufflenet_v2_x1_0"),
    "shufflenetv2_2_0": partial(torchvision_shufflenetv2, "shufflenet_v2_x2_0"),
    "squeezenet": torchvision_squeezenet,
    "swin_t": partial(timm_model, "swin_tiny_patch4_window7_224", img_size=32, patch_size=2, window_size=4),
    "vgg11": partial(torchvision_vgg, "vgg11_bn"),
    "vgg16": partial(torchvision_vgg, "vgg16_bn"),
    "vit": partial(timm_vit, depth=7, embed_dim=384, num_heads=8),
    "vit_tiny": timm_vit,
    "xception": timm_xception,
}
