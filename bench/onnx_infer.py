#!/usr/bin/env python3
"""Times ONNX Runtime's or OpenVINO's inference on random data, of the networks of torch_networks.py.

usage: bench/onnx_infer.py --program onnxruntime|openvino [--models resnet20] [--batch 1000]
                           [--precisions f32,bf16] [--steps 15] [--threads 2]

Prints a JSON line for each model and precision with the median time of a step. ONNX Runtime has no bf16 on
CPUs and prints none.
"""

import argparse
import tempfile
import warnings

import torch
from torch_networks import build, images, report


def export(name, batch, path):
    """Writes the network with this batch size as ONNX; returns its input as an array."""
    model, side, _ = build(name)
    x = images(batch, side)
    warnings.simplefilter("ignore")  # of the exporter that runs without onnxscript
    torch.onnx.export(model.eval(), x, path, input_names=["x"], output_names=["y"], dynamo=False)
    return x.contiguous().numpy()


def onnxruntime_step(path, precision, threads, x):
    if precision == "bf16":
        return None
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options)
    return lambda: session.run(None, {"x": x})


def openvino_step(path, precision, threads, x):
    import openvino
    settings = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    request = openvino.Core().compile_model(path, "CPU", settings).create_infer_request()
    return lambda: request.infer({0: x})


STEPS = {"onnxruntime": onnxruntime_step, "openvino": openvino_step}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--program", choices=STEPS, required=True)
    parser.add_argument("--models", default="resnet20")
    parser.add_argument("--batch", type=int, default=1000)
    parser.add_argument("--precisions", default="f32,bf16")
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    for name in args.models.split(","):
        with tempfile.TemporaryDirectory() as folder:
            path = f"{folder}/{name}.onnx"
            x = export(name, args.batch, path)
            for precision in args.precisions.split(","):
                if step := STEPS[args.program](path, precision, args.threads, x):
                    report("infer", name, args.batch, precision, args.steps, step)


main()
