"""Goldens of single operations, in float64 on inputs that are float32 values.

Writes crates/kernels/tests/golden/*.safetensors; run by `cargo xtask golden`.
"""

from unittest import mock

import torch
from golden_file import Random, f32, nhwc, save
from torch.nn import functional as F

FOLDER = "crates/kernels/tests/golden"


def with_gradients(function, inputs, random):
    """Output, a random cotangent for it, and the gradients of all inputs."""
    inputs = [tensor.clone().requires_grad_() for tensor in inputs]
    output = function(*inputs)
    grad_output = random.normal(*output.shape)
    return output, grad_output, torch.autograd.grad(output, inputs, grad_output)


def conv2d():
    """Each case's name is the descriptor that `Conv2dProblem` parses."""
    random, tensors = Random(1), {}
    # n, ic, ih, iw, oc, (kh, kw), (sh, sw), (ph, pw)
    for n, ic, ih, iw, oc, kernel, stride, padding in [
        (2, 3, 5, 7, 4, (3, 3), (1, 1), (1, 1)),
        (2, 5, 7, 6, 3, (3, 3), (2, 2), (1, 1)),
        (2, 3, 5, 7, 4, (3, 2), (1, 2), (1, 0)),
        (3, 6, 4, 5, 5, (1, 1), (1, 1), (0, 0)),
        (2, 4, 5, 6, 3, (1, 1), (2, 2), (0, 0)),
        (1, 3, 13, 11, 2, (7, 7), (2, 2), (3, 3)),
        (2, 2, 6, 5, 3, (2, 2), (1, 1), (0, 0)),
        (1, 2, 4, 4, 3, (3, 3), (1, 1), (2, 2)),
        (1, 2, 8, 9, 2, (3, 3), (3, 3), (0, 0)),
        (1, 17, 4, 3, 19, (3, 3), (1, 1), (1, 1)),
    ]:
        case = f"n{n}ic{ic}ih{ih}" + (f"iw{iw}" if iw != ih else "") + f"oc{oc}"
        for axis, (vertical, horizontal) in zip("ksp", [kernel, stride, padding]):
            case += f"{axis}h{vertical}"
            case += f"{axis}w{horizontal}" if vertical != horizontal else ""
        input, weight = random.normal(n, ic, ih, iw), random.normal(oc, ic, *kernel)
        bias = random.normal(oc)
        output, grad_output, (grad_input, grad_weight, grad_bias) = with_gradients(
            lambda i, w, b: F.conv2d(i, w, b, stride, padding), [input, weight, bias], random
        )
        tensors |= {
            f"{case}.input": nhwc(input).float(),
            f"{case}.weight": weight.float(),
            f"{case}.bias": bias.float(),
            f"{case}.output": nhwc(output),
            f"{case}.grad_output": nhwc(grad_output).float(),
            f"{case}.grad_input": nhwc(grad_input),
            f"{case}.grad_weight": grad_weight,
            f"{case}.grad_bias": grad_bias,
        }
    save(f"{FOLDER}/conv2d.safetensors", tensors, {})


def batch_norm():
    """Three training batches, the gradients of the last, then evaluation."""
    random, tensors = Random(2), {}
    eps, momentum = f32(1e-5), f32(0.1)
    for case, shape in [("images", (4, 3, 3, 5)), ("vectors", (7, 5))]:
        c = shape[1]
        layout = nhwc if len(shape) == 4 else lambda tensor: tensor
        # A channel of small variance shows where eps is added, one far from 0 the cancellation.
        scale = torch.tensor([1.0, 2**-8, 3.0, 0.5, 1.5][:c], dtype=torch.float64)
        shift = torch.tensor([0.25, 0.5, 12.0, -1.0, 2.0][:c], dtype=torch.float64)
        spread = lambda tensor: tensor * scale.view(c, *[1] * (len(shape) - 2))
        moved = lambda tensor: tensor + shift.view(c, *[1] * (len(shape) - 2))
        draw = lambda: moved(spread(random.normal(*shape))).float().double()
        weight, bias = random.uniform(c), random.normal(c)
        running_mean, running_var = random.normal(c), random.uniform(c)
        tensors |= {
            f"{case}.weight": weight.float(),
            f"{case}.bias": bias.float(),
            f"{case}.running_mean": running_mean.float(),
            f"{case}.running_var": running_var.float(),
        }
        for step in range(3):
            input = draw()
            output, grad_output, (grad_input, grad_weight, grad_bias) = with_gradients(
                lambda i, w, b: F.batch_norm(
                    i, running_mean, running_var, w, b, True, momentum, eps
                ),
                [input, weight, bias],
                random,
            )
            tensors |= {
                f"{case}.train{step}.input": layout(input).float(),
                f"{case}.train{step}.output": layout(output),
                f"{case}.train{step}.running_mean": running_mean.clone(),
                f"{case}.train{step}.running_var": running_var.clone(),
            }
        tensors |= {
            f"{case}.train2.grad_output": layout(grad_output).float(),
            f"{case}.train2.grad_input": layout(grad_input),
            f"{case}.train2.grad_weight": grad_weight,
            f"{case}.train2.grad_bias": grad_bias,
        }
        input = draw()
        output = F.batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
        tensors |= {
            f"{case}.eval.input": layout(input).float(),
            f"{case}.eval.output": layout(output),
        }
    save(f"{FOLDER}/batch_norm.safetensors", tensors, {"eps": eps, "momentum": momentum})


def max_pool():
    """Each case is `n c ih iw k s p`; the one with `ties` shows that the first maximum wins."""
    random, tensors = Random(3), {}
    for n, c, ih, iw, k, s, p, ties in [
        (2, 3, 7, 6, 3, 2, 1, False),
        (1, 2, 5, 4, 2, 2, 0, False),
        (2, 2, 6, 5, 3, 1, 1, False),
        (2, 3, 7, 6, 3, 2, 1, True),
    ]:
        case = f"n{n}c{c}ih{ih}iw{iw}k{k}s{s}p{p}" + ("ties" if ties else "")
        input = random.normal(n, c, ih, iw)
        if ties:
            input = random.integers(n, c, ih, iw, high=3).double()
        output, grad_output, (grad_input,) = with_gradients(
            lambda i: F.max_pool2d(i, k, s, p), [input], random
        )
        tensors |= {
            f"{case}.input": nhwc(input).float(),
            f"{case}.output": nhwc(output),
            f"{case}.grad_output": nhwc(grad_output).float(),
            f"{case}.grad_input": nhwc(grad_input),
        }
    save(f"{FOLDER}/max_pool.safetensors", tensors, {})


def global_avg_pool():
    random = Random(4)
    input = random.normal(3, 5, 3, 4)
    output, grad_output, (grad_input,) = with_gradients(
        lambda i: F.adaptive_avg_pool2d(i, 1).flatten(1), [input], random
    )
    tensors = {
        "input": nhwc(input).float(),
        "output": output,
        "grad_output": grad_output.float(),
        "grad_input": nhwc(grad_input),
    }
    save(f"{FOLDER}/global_avg_pool.safetensors", tensors, {})


def linear():
    random = Random(5)
    input, weight, bias = random.normal(4, 7), random.normal(5, 7), random.normal(5)
    output, grad_output, (grad_input, grad_weight, grad_bias) = with_gradients(
        F.linear, [input, weight, bias], random
    )
    tensors = {
        "input": input.float(),
        "weight": weight.float(),
        "bias": bias.float(),
        "output": output,
        "grad_output": grad_output.float(),
        "grad_input": grad_input,
        "grad_weight": grad_weight,
        "grad_bias": grad_bias,
    }
    save(f"{FOLDER}/linear.safetensors", tensors, {})


def cross_entropy():
    """The mean loss and its gradient; `large` has logits whose exponentials overflow f32."""
    random, tensors = Random(6), {}
    for case, std, label_smoothing in [
        ("hard", 1.5, 0.0),
        ("smooth", 1.5, f32(0.1)),
        ("large", 90.0, f32(0.1)),
    ]:
        logits, labels = random.normal(6, 5, std=std), random.integers(6, high=5)
        logits.requires_grad_()
        loss = F.cross_entropy(logits, labels, label_smoothing=label_smoothing)
        losses = F.cross_entropy(
            logits, labels, label_smoothing=label_smoothing, reduction="none"
        )
        tensors |= {
            f"{case}.logits": logits.float(),
            f"{case}.labels": labels,
            f"{case}.label_smoothing": torch.tensor([label_smoothing]),
            f"{case}.losses": losses,
            f"{case}.loss": loss.reshape(1),
            f"{case}.grad_logits": torch.autograd.grad(loss, logits)[0],
        }
    save(f"{FOLDER}/cross_entropy.safetensors", tensors, {})


def updates(case, hyper, optimizer, param, grads):
    """The parameters before, and after a step with each of the gradients."""
    before, steps = param.detach().clone(), []
    for grad in grads:
        param.grad = grad
        optimizer.step()
        steps.append(param.detach().clone())
    return {
        f"{case}.hyper": torch.tensor(hyper),
        f"{case}.params": before.float(),
        f"{case}.grads": grads.float(),
        f"{case}.params_after": torch.stack(steps),
    }


def sgd():
    """Five steps; `hyper` is lr, momentum, nesterov (0 or 1), weight_decay."""
    random, tensors = Random(7), {}
    num_steps, num_params = 5, 11
    for case, lr, momentum, nesterov, weight_decay in [
        ("plain", 0.1, 0.0, False, 0.0),
        ("decay", 0.1, 0.0, False, 0.05),
        ("momentum", 0.05, 0.9, False, 0.0),
        ("momentum_decay", 0.05, 0.9, False, 0.05),
        ("nesterov_decay", 0.05, 0.9, True, 0.05),
    ]:
        hyper = [f32(lr), f32(momentum), float(nesterov), f32(weight_decay)]
        param = torch.nn.Parameter(random.normal(num_params))
        grads = random.normal(num_steps, num_params)
        optimizer = torch.optim.SGD(
            [param], hyper[0], momentum=hyper[1], nesterov=nesterov, weight_decay=hyper[3]
        )
        tensors |= updates(case, hyper, optimizer, param, grads)
        if momentum > 0:
            tensors[f"{case}.velocity"] = optimizer.state[param]["momentum_buffer"]
    save(f"{FOLDER}/sgd.safetensors", tensors, {})


def muon():
    """Five steps; `hyper` is lr, momentum, weight_decay. PyTorch orthogonalises in bfloat16; here float64
    takes its place, so that only the formulas differ."""
    random, tensors = Random(8), {}
    num_steps = 5
    for case, shape, lr, momentum, weight_decay in [
        ("plain", (3, 3), 0.1, 0.0, 0.0),
        ("wide", (3, 7), 0.05, 0.9, 0.5),
        ("tall", (7, 3), 0.05, 0.6, 0.5),
        ("row", (1, 4), 0.1, 0.6, 0.1),
    ]:
        hyper = [f32(lr), f32(momentum), f32(weight_decay)]
        param = torch.nn.Parameter(random.normal(*shape))
        grads = random.normal(num_steps, *shape)
        optimizer = torch.optim.Muon(
            [param], lr=hyper[0], momentum=hyper[1], weight_decay=hyper[2]
        )
        with mock.patch.object(torch, "bfloat16", torch.float64):
            tensors |= updates(case, hyper, optimizer, param, grads)
    save(f"{FOLDER}/muon.safetensors", tensors, {})


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    poolings = [max_pool, global_avg_pool]
    for write in [conv2d, batch_norm, *poolings, linear, cross_entropy, sgd, muon]:
        write()
