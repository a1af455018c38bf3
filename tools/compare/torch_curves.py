"""Trains a CIFAR network in PyTorch from the same initial weights, on the same batches, as a run of
`cargo run --release -p residua-train --example same_batches`, and compares the losses step by step.

usage: torch_curves.py FOLDER [--float64] [--other-kernels]

FOLDER holds what the example wrote: weights.safetensors (initial parameters by state-dict name),
batches.safetensors (input [steps, n, h, w, c], labels [steps, n]) and run.json (model, recipe,
losses). Rounding differences grow from step to step in every training, so two correct float32 runs
part ways. Two controls show how far: --other-kernels trains once more in PyTorch without oneDNN, and
--float64 in float64 (slow). Prints a table and writes comparison.json.

Needs torch and safetensors.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F


class BasicBlock(nn.Module):
    """Two 3x3 convolutions; `residual` adds the zero-padding shortcut (He et al. 2015, option A)."""

    def __init__(self, in_channels, out_channels, stride, residual):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.stride, self.added, self.residual = stride, out_channels - in_channels, residual

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if not self.residual:
            return F.relu(y)
        before = self.added // 2
        shortcut = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, before, self.added - before))
        return F.relu(y + shortcut)


class CifarNetwork(nn.Module):
    """The 6n+2-layer network for small pictures, with torchvision's parameter names."""

    def __init__(self, depth, residual, num_classes=10):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        channels = 16
        for stage, width in enumerate((16, 32, 64), start=1):
            blocks = []
            for block in range((depth - 2) // 6):
                stride = 2 if stage > 1 and block == 0 else 1
                blocks.append(BasicBlock(channels, width, stride, residual))
                channels = width
            setattr(self, f"layer{stage}", nn.Sequential(*blocks))
        self.fc = nn.Linear(channels, num_classes)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(x.mean((2, 3)))


def train(run, weights, batches, dtype):
    """The losses of the run's steps."""
    name = run["model"]
    family = "plain" if name.startswith("plain") else "resnet"
    model = CifarNetwork(int(name.removeprefix(family)), family == "resnet")
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert not unexpected, unexpected
    assert all(name.endswith(("running_mean", "running_var", "num_batches_tracked")) for name in missing), missing
    model = model.to(dtype)
    recipe = run["recipe"]
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=recipe["lr"],
        momentum=recipe["momentum"],
        weight_decay=recipe["weight_decay"],
        nesterov=recipe["nesterov"],
    )
    losses = []
    for x, labels in zip(batches["input"], batches["labels"]):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x.permute(0, 3, 1, 2).to(dtype)), labels.long())
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def largest(rows, of, than, first, last):
    return max(abs(row[of] - row[than]) for row in rows[first:last])


def main():
    folder = Path(sys.argv[1])
    run = json.loads((folder / "run.json").read_text())
    weights, batches = load_file(folder / "weights.safetensors"), load_file(folder / "batches.safetensors")
    torch.set_num_threads(2)
    pytorch = train(run, weights, batches, torch.float32)
    rows = [{"step": i + 1, "pytorch": p, "residua": r} for i, (p, r) in enumerate(zip(pytorch, run["losses"]))]
    if "--other-kernels" in sys.argv:
        torch.backends.mkldnn.enabled = False
        for row, loss in zip(rows, train(run, weights, batches, torch.float32)):
            row["pytorch_without_onednn"] = loss
        torch.backends.mkldnn.enabled = True
    if "--float64" in sys.argv:
        for row, loss in zip(rows, train(run, weights, batches, torch.float64)):
            row["float64"] = loss
    pairs = [("residua", "pytorch")]
    if "pytorch_without_onednn" in rows[0]:
        pairs.append(("pytorch_without_onednn", "pytorch"))
    if "float64" in rows[0]:
        pairs += [("pytorch", "float64"), ("residua", "float64")]
    spans = [(0, 1), (1, 10), (10, 30), (30, 60), (60, 100)]
    summary = []
    for first, last in spans:
        if first < len(rows):
            row = {"steps": f"{first + 1}-{min(last, len(rows))}"}
            row.update({f"{a} - {b}": largest(rows, a, b, first, last) for a, b in pairs})
            summary.append(row)
    print(f"{run['model']}: largest difference of the losses")
    for row in summary:
        print("  " + ", ".join(f"{key} {value if key == 'steps' else format(value, '.2e')}" for key, value in row.items()))
    print(f"  loss at step {len(rows)}: PyTorch {rows[-1]['pytorch']:.4f}, Residua {rows[-1]['residua']:.4f}")
    result = {
        "model": run["model"],
        "torch": torch.__version__,
        "seed": run["seed"],
        "recipe": run["recipe"],
        "largest_differences": summary,
        "losses": rows,
    }
    (folder / "comparison.json").write_text(json.dumps(result, indent=1) + "\n")


main()
