#!/usr/bin/env python3
"""Times PyTorch's evaluation forward of a CIFAR residual network on random data, channels-last.

usage: bench/torch_infer.py [--models resnet20] [--batch 1000] [--precisions f32,bf16] [--steps 15]
                            [--threads 2] [--compile]

Prints a JSON line for each model and precision with the median time of a step.
"""

import argparse
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


def build(name):
    blocks = (int(name.removeprefix("resnet")) - 2) // 6
    widths = [16] + [width for width in (16, 32, 64) for _ in range(blocks)]
    body = [Block(before, width) for before, width in zip(widths, widths[1:])]
    stem = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)]
    return nn.Sequential(*stem, *body, *head).eval().to(memory_format=torch.channels_last)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default="resnet20")
    parser.add_argument("--batch", type=int, default=1000)
    parser.add_argument("--precisions", default="f32,bf16")
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--compile", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    for name in args.models.split(","):
        model = build(name)
        model = torch.compile(model) if args.compile else model
        x = torch.randn(args.batch, 3, 32, 32).to(memory_format=torch.channels_last)
        for precision in args.precisions.split(","):
            times = []
            for _ in range(args.steps + 3):
                start = time.perf_counter()
                with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
                    model(x)
                times.append((time.perf_counter() - start) * 1e3)
            ms = statistics.median(times[3:])
            print(json.dumps({"task": "infer", "model": name, "batch": args.batch, "precision": precision,
                              "ms_p50": ms, "images_per_s": args.batch / ms * 1e3}), flush=True)


if __name__ == "__main__":
    main()
