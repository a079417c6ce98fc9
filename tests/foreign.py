"""The networks of other repositories, their attribute names and their arithmetic in small; and how convert.py runs."""

import json
from pathlib import Path

import convert
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models import resnet as torchvision_resnet


def conv(in_width, width, kernel, stride=1):
    return nn.Conv2d(in_width, width, kernel, stride, kernel // 2, bias=False)


def shortcut(in_width, width, stride, kernel=1):
    if stride == 1 and in_width == width:
        return nn.Sequential()
    return nn.Sequential(conv(in_width, width, kernel, stride), nn.BatchNorm2d(width))


class Basic(nn.Module):
    expansion = 1

    def __init__(self, in_width, width, stride, kernel=3, skip_kernel=1):
        super().__init__()
        self.conv1, self.bn1 = conv(in_width, width, kernel, stride), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = conv(width, width, kernel), nn.BatchNorm2d(width)
        self.shortcut = shortcut(in_width, width, stride, skip_kernel)

    def forward(self, x):
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))) + self.shortcut(x))


class Wide(nn.Module):
    """A bottleneck block."""

    expansion = 4

    def __init__(self, in_width, width, stride):
        super().__init__()
        self.conv1, self.bn1 = conv(in_width, width, 1), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = conv(width, width, 3, stride), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = conv(width, 4 * width, 1), nn.BatchNorm2d(4 * width)
        self.shortcut = shortcut(in_width, 4 * width, stride)

    def forward(self, x):
        y = F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))
        return F.relu(self.bn3(self.conv3(y)) + self.shortcut(x))


class PreActivated(nn.Module):
    """The block of kuangliu's early ResNet18: the same names, but the norms come first and the shortcut has none."""

    expansion = 1

    def __init__(self, in_width, width, stride):
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(in_width), conv(in_width, width, 3, stride)
        self.bn2, self.conv2 = nn.BatchNorm2d(width), conv(width, width, 3)
        if stride != 1 or in_width != width:
            self.shortcut = nn.Sequential(conv(in_width, width, 1, stride))


def make_layer(block, in_width, width, blocks, stride, *kernels):
    widths = [in_width] + [width * block.expansion] * (blocks - 1)
    return nn.Sequential(*(block(w, width, 1 if i else stride, *kernels) for i, w in enumerate(widths)))


class Kuangliu(nn.Module):
    def __init__(self, block, blocks, width=64, num_classes=10):
        super().__init__()
        self.conv1, self.bn1 = conv(3, width, 3), nn.BatchNorm2d(width)
        self.layer1 = make_layer(block, width, width, blocks[0], 1)
        self.layer2 = make_layer(block, width * block.expansion, 2 * width, blocks[1], 2)
        self.layer3 = make_layer(block, 2 * width * block.expansion, 4 * width, blocks[2], 2)
        self.layer4 = make_layer(block, 4 * width * block.expansion, 8 * width, blocks[3], 2)
        self.linear = nn.Linear(8 * width * block.expansion, num_classes)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.linear(F.avg_pool2d(x, 4).flatten(1))


class Squeeze(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv1 = nn.Conv2d(width, width // 16, 1)
        self.conv2 = nn.Conv2d(width // 16, width, 1)

    def forward(self, x):
        return x * torch.sigmoid(self.conv2(F.relu(self.conv1(F.adaptive_avg_pool2d(x, 1)))))


class Efficient(nn.Module):
    """Efficient_ResNets' project1_model: the widths double from layer to layer, and P follows from N."""

    def __init__(self, blocks, width, kernels, skip_kernels, squeeze=True):
        super().__init__()
        self.pool = 32 // 2 ** (len(blocks) - 1)
        self.conv1, self.bn1 = conv(3, width, 3), nn.BatchNorm2d(width)
        if squeeze:
            self.seblock = Squeeze(width)
        widths = [width, *(width * 2**i for i in range(len(blocks)))]
        self.residual_layers = nn.ModuleList(
            make_layer(Basic, widths[i], widths[i + 1], blocks[i], 2 if i else 1, kernels[i], skip_kernels[i])
            for i in range(len(blocks))
        )
        self.linear = nn.Linear(widths[-1], 10)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.seblock(x) if hasattr(self, "seblock") else x
        for layer in self.residual_layers:
            x = layer(x)
        return self.linear(F.avg_pool2d(x, self.pool).flatten(1))


def torchvision_net(block, num_classes):
    """torchvision's own network with the usual change for small images: a 3x3 stem and no pool after it."""
    net = torchvision_resnet.ResNet(block, [1, 1, 1, 1], num_classes=num_classes)
    net.conv1, net.maxpool = conv(3, 64, 3), nn.Identity()
    return net


def trained(net):
    """Return a network in eval mode, with norms as after some training."""
    generator = torch.Generator().manual_seed(2)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.running_var):
                tensor.data.uniform_(0.5, 1.5, generator=generator)
            for tensor in (module.bias, module.running_mean):
                tensor.data.normal_(0, 0.2, generator=generator)
            module.num_batches_tracked.fill_(7)
    return net.eval()


def letters(C, B=1, **more):
    """The --model-args of a network."""
    return json.dumps({"N": len(C), "B": B, "C": C} | more)


def small_net():
    """A narrow network with kuangliu's names, and the options that describe it here."""
    torch.manual_seed(0)
    net = trained(Kuangliu(Basic, [1, 2, 1, 1], width=8))
    return net, ["--model", "budget_resnet", "--model-args", letters([8, 16, 32, 64], [1, 2, 1, 1])]


def refusal(*options):
    """Return what the script says as it refuses; it must leave no folder behind."""
    options = list(map(str, options))
    with pytest.raises(SystemExit) as caught:
        convert.main(options)
    assert isinstance(caught.value.code, str), "an error of the command line, not of the checkpoint"
    assert not Path(options[options.index("--out") + 1]).exists()
    return caught.value.code
