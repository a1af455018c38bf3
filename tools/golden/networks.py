"""Goldens of residual blocks and of tiny residual networks, in float64 and float32.

Writes crates/engine/tests/golden/*.safetensors; run by `cargo xtask golden`.
"""

import copy

import torch
from golden_file import Random, f32, nhwc, save
from torch import nn
from torch.nn import functional as F

FOLDER = "crates/engine/tests/golden"
# Inputs of ReLUs stay this far from the kink, so that f32 and f64 agree on its side.
MARGIN = 1e-5
EPS, MOMENTUM = f32(1e-5), f32(0.1)


class Relu(nn.Module):
    """ReLU that remembers how close to its kink it was used."""

    closest = float("inf")

    def forward(self, input):
        Relu.closest = min(Relu.closest, input.abs().min().item())
        return F.relu(input)


class ZeroPad(nn.Module):
    """Shortcut of option A: half of the new channels before, the rest after."""

    def __init__(self, in_channels, out_channels, stride):
        super().__init__()
        self.stride, added = stride, out_channels - in_channels
        self.padding = (0, 0, 0, 0, added // 2, added - added // 2)

    def forward(self, input):
        return F.pad(input[:, :, :: self.stride, :: self.stride], self.padding)


def conv(in_channels, out_channels, size, stride=1):
    return nn.Conv2d(in_channels, out_channels, size, stride, size // 2, bias=False)


def norm(channels):
    return nn.BatchNorm2d(channels, eps=EPS, momentum=MOMENTUM)


def shortcut(kind, in_channels, out_channels, stride):
    if in_channels == out_channels and stride == 1:
        return nn.Identity()
    if kind == "zero-pad":
        return ZeroPad(in_channels, out_channels, stride)
    return nn.Sequential(conv(in_channels, out_channels, 1, stride), norm(out_channels))


class BasicBlock(nn.Module):
    def __init__(self, in_channels, width, stride, kind):
        super().__init__()
        self.conv1, self.bn1 = conv(in_channels, width, 3, stride), norm(width)
        self.conv2, self.bn2 = conv(width, width, 3), norm(width)
        self.downsample = shortcut(kind, in_channels, width, stride)
        self.relu = Relu()

    def forward(self, input):
        x = self.relu(self.bn1(self.conv1(input)))
        return self.relu(self.bn2(self.conv2(x)) + self.downsample(input))


class Bottleneck(nn.Module):
    """With the stride on the 3x3 convolution (v1.5) and four times as many channels at its end."""

    def __init__(self, in_channels, width, stride, kind):
        super().__init__()
        self.conv1, self.bn1 = conv(in_channels, width, 1), norm(width)
        self.conv2, self.bn2 = conv(width, width, 3, stride), norm(width)
        self.conv3, self.bn3 = conv(width, 4 * width, 1), norm(4 * width)
        self.downsample = shortcut(kind, in_channels, 4 * width, stride)
        self.relu = Relu()

    def forward(self, input):
        x = self.relu(self.bn1(self.conv1(input)))
        x = self.relu(self.bn2(self.conv2(x)))
        return self.relu(self.bn3(self.conv3(x)) + self.downsample(input))


class TinyResNet(nn.Module):
    """Three stages of one basic block, with the CIFAR stem."""

    def __init__(self, kind, in_channels=3, widths=(4, 8, 16), num_classes=7):
        super().__init__()
        self.conv1, self.bn1 = conv(in_channels, widths[0], 3), norm(widths[0])
        self.relu, channels = Relu(), widths[0]
        for stage, width in enumerate(widths, 1):
            block = BasicBlock(channels, width, 1 if stage == 1 else 2, kind)
            setattr(self, f"layer{stage}", nn.Sequential(block))
            channels = width
        self.fc = nn.Linear(channels, num_classes)

    def forward(self, input):
        x = self.relu(self.bn1(self.conv1(input)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(x.mean((2, 3)))


def randomise(module, random):
    """Weights like those of a network in training: asymmetric, none at a default."""
    for name, tensor in module.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        if name.endswith("running_var") or ("weight" in name and tensor.dim() == 1):
            tensor.copy_(random.uniform(*tensor.shape))
        elif tensor.dim() == 1:
            tensor.copy_(random.normal(*tensor.shape, mean=0.05, std=0.3))
        else:
            fan_out = tensor.shape[0] * tensor[0, 0].numel()
            std = (2 / fan_out) ** 0.5
            tensor.copy_(random.normal(*tensor.shape, mean=0.1 * std, std=std))


def state(module):
    """Parameters and running statistics by state-dict name."""
    return {
        name: tensor.clone()
        for name, tensor in module.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }


def prefixed(prefix, tensors):
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def grads(module):
    return {name: param.grad for name, param in module.named_parameters()}


def blocks():
    """Training forward, all gradients for a random cotangent, then evaluation."""
    for seed, name, block, in_channels, h, w in [
        (11, "basic_block_identity", lambda: BasicBlock(4, 4, 1, "none"), 4, 5, 6),
        (12, "basic_block_zero_pad", lambda: BasicBlock(3, 8, 2, "zero-pad"), 3, 5, 6),
        (13, "basic_block_projection", lambda: BasicBlock(3, 6, 2, "projection"), 3, 6, 5),
        (14, "bottleneck_identity", lambda: Bottleneck(12, 3, 1, "none"), 12, 5, 4),
        (15, "bottleneck_projection", lambda: Bottleneck(5, 3, 2, "projection"), 5, 5, 6),
    ]:
        random, module = Random(seed), block().double()
        randomise(module, random)
        input = random.normal(3, in_channels, h, w)
        tensors = prefixed("initial", {k: v.float() for k, v in state(module).items()})
        Relu.closest = float("inf")
        input.requires_grad_()
        output = module(input)
        grad_output = random.normal(*output.shape)
        output.backward(grad_output)
        tensors |= {
            "input": nhwc(input).float(),
            "output": nhwc(output),
            "grad_output": nhwc(grad_output).float(),
            "grad_input": nhwc(input.grad),
        }
        tensors |= prefixed("grad", grads(module))
        running = {k: v for k, v in state(module).items() if "running" in k}
        tensors |= prefixed("running", running)
        tensors["eval_output"] = nhwc(module.eval()(input))
        assert Relu.closest > MARGIN, f"{name}: {Relu.closest} from a kink, take another seed"
        save(f"{FOLDER}/{name}.safetensors", tensors, {"eps": EPS, "momentum": MOMENTUM})


def train(module, inputs, labels, hyper):
    """The first step's logits, loss, gradients and running statistics, then every step's loss."""
    optimizer = torch.optim.SGD(
        module.parameters(),
        hyper["lr"],
        momentum=hyper["momentum"],
        weight_decay=hyper["weight_decay"],
        nesterov=hyper["nesterov"],
    )
    tensors, losses, logits = {}, [], None
    for step in range(hyper["num_steps"]):
        batch = step % len(inputs)
        logits = module(inputs[batch])
        loss = F.cross_entropy(
            logits, labels[batch], label_smoothing=hyper["label_smoothing"]
        )
        optimizer.zero_grad()
        loss.backward()
        if step == 0:
            tensors["logits"] = logits.detach().clone()
            running = {k: v for k, v in state(module).items() if "running" in k}
            tensors |= prefixed("running", running)
            tensors |= prefixed("grad", {k: v.clone() for k, v in grads(module).items()})
        losses.append(loss.detach())
        optimizer.step()
    tensors["losses"] = torch.stack(losses)
    tensors |= prefixed("final", state(module))
    tensors["eval_logits"] = module.eval()(inputs[0]).detach()
    return tensors


def tiny_resnets():
    """Ten steps over three batches, every parameter decayed, in both precisions."""
    for seed, kind, nesterov, label_smoothing in [
        (21, "zero-pad", False, 0.0),
        (22, "projection", True, f32(0.1)),
    ]:
        hyper = {
            "num_steps": 10,
            "lr": f32(0.05),
            "momentum": f32(0.9),
            "weight_decay": f32(5e-3),
            "nesterov": nesterov,
            "label_smoothing": label_smoothing,
        }
        random, module = Random(seed), TinyResNet(kind).double()
        randomise(module, random)
        inputs, labels = random.normal(3, 5, 3, 12, 10), random.integers(3, 5, high=7)
        tensors = {
            "input": inputs.permute(0, 1, 3, 4, 2).float(),
            "labels": labels,
        }
        tensors |= prefixed("initial", {k: v.float() for k, v in state(module).items()})
        single = copy.deepcopy(module).float()
        Relu.closest = float("inf")
        truth = train(module, inputs, labels, hyper)
        closest, got = Relu.closest, train(single, inputs.float(), labels, hyper)
        for name in ["logits", "losses", "eval_logits"]:
            print(f"  {name}: f32 differs by {(got[name] - truth[name]).abs().max():.1e}")
        print(f"  closest to a kink: {closest:.1e}")
        tensors |= prefixed("f64", truth) | prefixed("f32", got)
        name = f"tiny_resnet_{kind.replace('-', '_')}"
        save(f"{FOLDER}/{name}.safetensors", tensors, hyper)


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    blocks()
    tiny_resnets()
