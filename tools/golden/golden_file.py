"""Seeded data, and safetensors files whose bytes depend on nothing but their content."""

import json
import pathlib
import struct
import sys

import torch

ROOT = pathlib.Path(__file__).resolve().parents[2]
DTYPES = {torch.float32: "F32", torch.float64: "F64", torch.int64: "I64"}


class Random:
    """Asymmetric data without special values, drawn in float32 so that both precisions share it."""

    def __init__(self, seed):
        self.generator = torch.Generator().manual_seed(seed)

    def normal(self, *shape, mean=0.25, std=1.0):
        values = torch.randn(shape, generator=self.generator, dtype=torch.float32)
        return (values * std + mean).double()

    def uniform(self, *shape, low=0.5, high=1.5):
        values = torch.rand(shape, generator=self.generator, dtype=torch.float32)
        return (values * (high - low) + low).float().double()

    def integers(self, *shape, high):
        return torch.randint(high, shape, generator=self.generator)


def f32(value):
    """A hyper-parameter as the f32 that the Rust side keeps it in."""
    return torch.tensor(value, dtype=torch.float32).item()


def nhwc(tensor):
    """NCHW, PyTorch's order, to NHWC, ours."""
    return tensor.permute(0, 2, 3, 1)


def save(path, tensors, metadata):
    """Writes tensors in the given order. PyTorch is one thread while it makes them."""
    metadata = {
        "script": f"tools/golden/{pathlib.Path(sys.argv[0]).name}",
        "torch": torch.__version__.split("+")[0],
        "layout": "activations NHWC (transposed from torch's NCHW), weights as torch's",
    } | {key: str(value) for key, value in metadata.items()}
    header, data = {"__metadata__": metadata}, b""
    for name, tensor in tensors.items():
        tensor = tensor.detach().contiguous()
        values = tensor.flatten().tolist()
        code = {"F32": "f", "F64": "d", "I64": "q"}[DTYPES[tensor.dtype]]
        end = len(data) + struct.calcsize(f"<{len(values)}{code}")
        header[name] = {
            "dtype": DTYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [len(data), end],
        }
        data += struct.pack(f"<{len(values)}{code}", *values)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path = ROOT / path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    print(f"{path.relative_to(ROOT)}: {len(tensors)} tensors, {path.stat().st_size} bytes")
