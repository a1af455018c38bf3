"""The networks of the race, in PyTorch, channels-last, and its clock."""

import json
import statistics
import time

import torch
from torch import nn


class ZeroPad(nn.Module):
    """Every second row and column; as many channels again, half before and half after."""

    def forward(self, x):
        half = x.shape[1] // 2
        return nn.functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, half, half))


class Block(nn.Module):
    def __init__(self, channels_in, channels):
        super().__init__()
        shrinks = channels_in != channels
        convolve = lambda c, stride: nn.Conv2d(c, channels, 3, stride, 1, bias=False)
        self.branch = nn.Sequential(
            convolve(channels_in, 2 if shrinks else 1), nn.BatchNorm2d(channels), nn.ReLU(),
            convolve(channels, 1), nn.BatchNorm2d(channels))
        self.shortcut = ZeroPad() if shrinks else nn.Identity()

    def forward(self, x):
        return torch.relu(self.branch(x) + self.shortcut(x))


def cifar_resnet(depth):
    blocks = (depth - 2) // 6
    widths = [16] + [width for width in (16, 32, 64) for _ in range(blocks)]
    body = [Block(before, width) for before, width in zip(widths, widths[1:])]
    stem = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)]
    return nn.Sequential(*stem, *body, *head)


def build(name):
    """A network, the side of its images and its number of classes; torchvision's where ImageNet is meant."""
    if name in ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"):
        from torchvision.models import get_model
        model, side, classes = get_model(name), 224, 1000
    else:
        model, side, classes = cifar_resnet(int(name.removeprefix("resnet"))), 32, 10
    return model.to(memory_format=torch.channels_last), side, classes


def images(batch, side):
    return torch.randn(batch, 3, side, side).to(memory_format=torch.channels_last)


def autocast(precision):
    return torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16")


def report(task, model, batch, precision, num_steps, step):
    """Takes three steps for warmth, then so many, and prints a JSON line with their median time."""
    times = []
    for _ in range(3 + num_steps):
        start = time.perf_counter()
        step()
        times.append((time.perf_counter() - start) * 1e3)
    ms = statistics.median(times[3:])
    print(json.dumps({"task": task, "model": model, "batch": batch, "precision": precision,
                      "ms_p50": ms, "images_per_s": batch / ms * 1e3}), flush=True)
