# SPDX-License-Identifier: Apache-2.0
"""Small torch networks as other repositories write them, and weights that show every mistake."""

import importlib
import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest


@pytest.fixture
def twins() -> ModuleType:
    """The functions of this file."""
    return sys.modules[__name__]


def randomise(module: Any, seed: int = 0) -> Any:
    """Random BatchNorm parameters, biases and running statistics, so that none is 0 or 1 by chance.

    BatchNorm scales are about half: the sums of a deep residual network would else grow to logits of hundreds, as
    those of a trained one do not.
    """
    torch: Any = importlib.import_module("torch")
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, torch.nn.BatchNorm2d) and part.weight.max() == 1:
                part.weight.mul_(0.5)
        for parameter in module.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
        for name, buffer in module.named_buffers():
            if name.endswith("running_mean"):
                buffer.copy_(0.1 * torch.randn(buffer.shape, generator=generator))
            if name.endswith("running_var"):
                buffer.copy_(0.5 + torch.rand(buffer.shape, generator=generator))
    return module.eval()


def cifar_resnet(num_blocks: int = 3, num_classes: int = 10) -> Any:
    """ResNet-(6n+2) with shortcut A, its modules named as in akamaster/pytorch_resnet_cifar10."""
    torch: Any = importlib.import_module("torch")
    nn, functional = torch.nn, torch.nn.functional

    class Block(nn.Module):
        def __init__(self, into: int, width: int, stride: int):
            super().__init__()
            self.conv1 = nn.Conv2d(into, width, 3, stride=stride, padding=1, bias=False)
            self.bn1 = nn.BatchNorm2d(width)
            self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
            self.bn2 = nn.BatchNorm2d(width)
            self.stride, self.added = stride, width - into

        def forward(self, x: Any) -> Any:
            y = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
            half = self.added // 2
            return functional.relu(
                y + functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, half, half))
            )

    class ResNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
            stages, into = [], 16
            for width in (16, 32, 64):
                first = Block(into, width, 1 if into == width else 2)
                stages.append(nn.Sequential(first, *(Block(width, width, 1) for _ in range(num_blocks - 1))))
                into = width
            self.layer1, self.layer2, self.layer3 = stages
            self.linear = nn.Linear(64, num_classes)

        def forward(self, x: Any) -> Any:
            x = self.layer3(self.layer2(self.layer1(functional.relu(self.bn1(self.conv1(x))))))
            return self.linear(functional.avg_pool2d(x, x.size()[3]).flatten(1))

    return randomise(ResNet())


def save_as_repository(module: Any, path: Any) -> None:
    """Saves as akamaster's repository does: DataParallel's prefix, a dict around it, the legacy format."""
    torch: Any = importlib.import_module("torch")
    state = {f"module.{name}": tensor for name, tensor in module.state_dict().items()}
    torch.save({"state_dict": state, "best_prec1": 91.25}, path, _use_new_zipfile_serialization=False)


def tensors(module: Any) -> dict[str, np.ndarray]:
    """The state of a module as a file would hold it."""
    return {name: tensor.detach().numpy() for name, tensor in module.state_dict().items()}
