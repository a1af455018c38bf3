#!/usr/bin/env python3
"""Times PyTorch's training steps (forward, loss, backward, SGD with momentum) on random data, channels-last.

usage: bench/torch_train.py [--models resnet20,resnet56] [--precisions f32,bf16] [--steps 12] [--threads 2] [--compile]

A batch has 128 small images, 32 of 224×224 for resnet18 and 16 for the deeper ones. Prints a JSON line for each model
and precision with the median time of a step.
"""

import argparse

import torch
from torch_networks import autocast, build, images, report


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default="resnet20,resnet56")
    parser.add_argument("--precisions", default="f32,bf16")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--compile", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    for name in args.models.split(","):
        for precision in args.precisions.split(","):
            model, side, classes = build(name)
            batch = 128 if side == 32 else 32 if name == "resnet18" else 16
            x, labels = images(batch, side), torch.randint(0, classes, (batch,))
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
            forward = torch.compile(model) if args.compile else model

            def step():
                optimizer.zero_grad()
                with autocast(precision):
                    loss = torch.nn.functional.cross_entropy(forward(x), labels)
                loss.backward()
                optimizer.step()

            report("train", name, batch, precision, args.steps, step)


main()
