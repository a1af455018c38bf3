"""Writes the parameter names and shapes of torchvision's residual networks, and their totals.

    pip install torch torchvision && python tools/golden/torchvision_names.py

Output: crates/resnet/tests/golden/torchvision_names.txt. A line starting with `#` says the versions,
one starting with `=` opens a network; then, in state-dict order, `name dims` of a tensor or
`name bn channels` for the five tensors of a batch norm. Nothing here is random.
"""

import pathlib

import torch
import torchvision

NAMES = ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"]
NORM = ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]
TARGET = pathlib.Path(__file__).parents[2] / "crates/resnet/tests/golden/torchvision_names.txt"


def count_macs(model):
    """Multiply-adds of convolutions and linear layers for one 224x224 image."""
    macs = 0

    def hook(module, inputs, output):
        nonlocal macs
        macs += output.numel() * module.weight[0].numel()

    for module in model.modules():
        if isinstance(module, (torch.nn.Conv2d, torch.nn.Linear)):
            module.register_forward_hook(hook)
    with torch.no_grad():
        model.eval()(torch.zeros(1, 3, 224, 224))
    return macs


def tensors(model):
    state = {name: list(value.shape) for name, value in model.state_dict().items()}
    names = list(state)
    i = 0
    while i < len(names):
        module, _, tensor = names[i].rpartition(".")
        if f"{module}.running_var" in state:
            assert names[i : i + 5] == [f"{module}.{tensor}" for tensor in NORM], names[i]
            assert all(state[f"{module}.{t}"] == state[names[i]] for t in NORM[:4]), names[i]
            yield f"{module} bn {state[names[i]][0]}"
            i += 5
        else:
            yield f"{names[i]} {','.join(map(str, state[names[i]]))}"
            i += 1


def main():
    versions = [module.__version__.split("+")[0] for module in (torch, torchvision)]
    lines = ["# torch {}, torchvision {}".format(*versions)]
    for name in NAMES:
        model = getattr(torchvision.models, name)(weights=None)
        parameters = sum(p.numel() for p in model.parameters())
        lines.append(f"= {name} parameters {parameters} macs {count_macs(model)}")
        lines.extend(tensors(model))
    TARGET.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
