"""Models by the names of other projects: found, or refused with a near name."""

import pytest

from lib.config.cli import parse
from lib.core.errors import BadInput
from lib.core.registry import models

# Parameters with 10 classes as those projects have them; in millions, rounded, for the second.
KUANGLIU = {
    "VGG11": 9_231_114, "VGG13": 9_416_010, "VGG16": 14_728_266, "VGG19": 20_040_522, "ResNet18": 11_173_962,
    "ResNet34": 21_282_122, "ResNet50": 23_520_842, "ResNet101": 42_512_970, "ResNet152": 58_156_618,
    "DenseNet121": 6_956_298, "DenseNet161": 26_482_378, "DenseNet169": 12_493_322, "DenseNet201": 18_104_330,
    "MobileNet": 3_217_226,
}  # fmt: skip
CHENYAOFO = {
    "cifar10_resnet20": 0.27, "cifar10_resnet32": 0.47, "cifar10_resnet44": 0.66,
    "cifar10_resnet56": 0.86, "cifar10_mobilenetv2_x0_5": 0.70, "cifar10_mobilenetv2_x0_75": 1.37,
    "cifar10_mobilenetv2_x1_0": 2.24, "cifar10_mobilenetv2_x1_4": 4.33,
    "cifar10_shufflenetv2_x0_5": 0.35, "cifar10_shufflenetv2_x1_0": 1.26,
    "cifar10_shufflenetv2_x1_5": 2.49, "cifar10_shufflenetv2_x2_0": 5.37,
}  # fmt: skip
# Networks of the same design whose details differ, and those that are not here.
OTHERS = """
PreActResNet18 GoogLeNet ResNeXt29_2x64d MobileNetV2 DPN92 ShuffleNetG2 SENet18 ShuffleNetV2 EfficientNetB0
RegNetX_200MF SimpleDLA DLA
vgg11 vgg13 vgg16 vgg19 densenet121 densenet161 densenet169 densenet201 googlenet inceptionv3 inceptionv4
inceptionresnetv2 xception resnet18 resnet34 resnet50 resnet101 resnet152 preactresnet18 preactresnet34
preactresnet50 preactresnet101 preactresnet152 resnext50 resnext101 resnext152 shufflenet shufflenetv2
squeezenet mobilenet mobilenetv2 nasnet attention56 attention92 seresnet18 seresnet34 seresnet50 seresnet101
seresnet152 wideresnet stochasticdepth18 stochasticdepth34 stochasticdepth50 stochasticdepth101
vgg11_bn vgg16_bn repvgg_a0 repvgg_a1 repvgg_a2 vit_b16
"""


def model_of(name: str):
    return parse(["--model", name]).config().chosen["model"]


@pytest.mark.parametrize(("name", "count"), KUANGLIU.items())
def test_a_model_of_another_project_has_as_many_parameters(name, count):
    assert model_of(name).entry.facts.params == count  # which a network has, by a test of all models


@pytest.mark.parametrize(("name", "millions"), CHENYAOFO.items())
def test_a_pretrained_model_of_another_project_has_the_size_stated_there(name, millions):
    network = model_of(name).build(num_classes=10, in_channels=3, image_size=32)
    assert round(sum(p.numel() for p in network.parameters()) / 1e6, 2) == millions


@pytest.mark.parametrize("name", OTHERS.split())
def test_a_name_of_another_project_is_found_or_a_near_one_is_suggested(name):
    if name not in models:
        with pytest.raises(BadInput, match=r"did you mean|--list") as caught:
            model_of(name)
        assert f"did you mean {name}?" not in str(caught.value)
