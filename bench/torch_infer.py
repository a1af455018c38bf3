#!/usr/bin/env python3
"""Times PyTorch's evaluation forward on random data, channels-last.

usage: bench/torch_infer.py [--models resnet20] [--batch 1000] [--precisions f32,bf16] [--steps 15]
                            [--threads 2] [--compile]

Prints a JSON line for each model and precision with the median time of a step.
"""

import argparse

import torch
from torch_networks import autocast, build, images, report


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
        model, side, _ = build(name)
        model.eval()
        forward = torch.compile(model) if args.compile else model
        x = images(args.batch, side)
        for precision in args.precisions.split(","):
            def step():
                with torch.inference_mode(), autocast(precision):
                    forward(x)

            report("infer", name, args.batch, precision, args.steps, step)


main()
