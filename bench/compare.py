#!/usr/bin/env python3
"""Runs Residua and its peers alternately on this machine and records what came out.

usage: bench/compare.py --peer-python PATH [--peers FOLDER] [--models resnet20,resnet56]
                        [--infer resnet20:1000,resnet50:1] [--infer-peers pytorch,onnxruntime,openvino]
                        [--precisions f32,bf16] [--rounds 5] [--threads 2]
                        [--compile resnet20,resnet56] [--note TEXT] [--name NAME]

PATH is an interpreter with torch, torchvision for ImageNet's networks, and the programs of --infer-peers.
torch_train.py, of FOLDER instead of beside this file where it is given, times PyTorch's training steps of
--models (eager, those after --compile also compiled); torch_infer.py and onnx_infer.py beside this file
evaluate --infer, whose models may have a batch size after a colon (else 1,000). Nothing else should run on
the machine.

A round runs every program once; the rounds follow each other, so that a change of the machine's
speed meets all. Quoted are medians over the rounds of the programs' median step times, and the
largest peak memory of the processes. Writes bench/runs/DATE-CPU[-NAME]/{README.md,raw.jsonl,summary.md}.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
from pathlib import Path

import record
from record import RESIDUA, ROOT

TRAIN_BATCHES = {"resnet18": 32, "resnet50": 16}  # torch_train.py's; 128 for the small ones


def run(command):
    """The JSON lines that a program prints, each with the peak memory of its process."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    text = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))} ended with {process.returncode}")
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    return [line | {"peak_bytes": usage.ru_maxrss * 1024} for line in lines]


def programs(args, task, model, batch, precision):
    """Each program that times the model: its name and its command line."""
    common = ["--steps", str(args.steps), "--threads", str(args.threads)]
    yield "residua", [RESIDUA, "bench", task, "--model", model, "--batch-size", batch,
                      "--precision", precision, *common, "--json"]
    for program, script in peers(args, task, batch):
        command = [args.peer_python, *script, "--models", model, "--precisions", precision, *common]
        yield program, command
        if program == "pytorch" and model in args.compile.split(","):
            yield "pytorch-compile", [*command, "--compile"]


def peers(args, task, batch):
    """Each peer that has the task: its name, its script and what it wants beside the common arguments."""
    if task == "train":
        yield "pytorch", [Path(args.peers) / "torch_train.py"]
        return
    for program in args.infer_peers.split(","):
        script = ["torch_infer.py"] if program == "pytorch" else ["onnx_infer.py", "--program", program]
        yield program, [ROOT / "bench" / script[0], *script[1:], "--batch", batch]


def measure(args):
    models = [("train", model, str(TRAIN_BATCHES.get(model, 128))) for model in args.models.split(",") if model]
    for model in filter(None, args.infer.split(",")):
        name, _, batch = model.partition(":")
        models.append(("infer", name, batch or "1000"))
    works = [(*model, precision) for model in models for precision in args.precisions.split(",")]
    for round_i in range(args.rounds):
        for task, model, batch, precision in works:
            for program, command in programs(args, task, model, batch, precision):
                for line in run(command):
                    kept = ("task", "model", "batch", "precision", "ms_p50", "images_per_s", "peak_bytes")
                    yield {"round": round_i, "program": program} | {key: line[key] for key in kept}
                    what = f"{program} {task} {model}, batch {batch}, {precision}: {line['ms_p50']:.1f} ms"
                    print(f"round {round_i + 1}/{args.rounds} {what}", flush=True)


def summary(lines):
    """A table of the medians, with the ratio of each program's time to Residua's."""
    groups = {}
    for line in lines:
        key = (line["task"], line["model"], line["batch"], line["precision"])
        groups.setdefault(key, {}).setdefault(line["program"], []).append(line)
    rows = ["| work | program | ms a step (lowest to highest round) | images/s | peak memory | Residua is |",
            "|---|---|---|---|---|---|"]
    for (task, model, batch, precision), by_program in groups.items():
        ours = statistics.median(line["ms_p50"] for line in by_program["residua"])
        for program, rounds in by_program.items():
            ms = [line["ms_p50"] for line in rounds]
            median = statistics.median(ms)
            memory = max(line["peak_bytes"] for line in rounds) / 2**20
            ratio = "" if program == "residua" else f"{median / ours:.2f}×"
            rows.append(f"| {task} {model}, batch {batch}, {precision} | {program} | {median:.1f} "
                        f"({min(ms):.1f} to {max(ms):.1f}) | {batch / median * 1e3:.0f} | {memory:.0f} MiB | {ratio} |")
    return "\n".join(rows) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", default=ROOT / "bench")
    parser.add_argument("--peer-python", required=True)
    parser.add_argument("--models", default="resnet20,resnet56")
    parser.add_argument("--infer", default="")
    parser.add_argument("--infer-peers", default="pytorch")
    parser.add_argument("--precisions", default="f32,bf16")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--compile", default="")
    parser.add_argument("--note", default="")
    parser.add_argument("--name", default="")
    args = parser.parse_args()

    commit = record.build()
    lines = []
    # A run that is stopped, or in which a program fails, records what it has.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    try:
        for line in measure(args):
            lines.append(line)
    finally:
        if lines:
            write(args, commit, lines)


def write(args, commit, lines):
    names = {"torch", *args.infer_peers.split(",")} - {"pytorch"}
    version = lambda name: record.output([args.peer_python, "-c", f"import {name}; print({name}.__version__)"])
    flags = (f"--models '{args.models}' --infer '{args.infer}' --infer-peers {args.infer_peers} "
             f"--precisions {args.precisions} --rounds {args.rounds} --steps {args.steps} --threads {args.threads} "
             f"--compile '{args.compile}'") + ("" if args.peers == ROOT / "bench" else " --peers FOLDER")
    about = ("Random data, channels-last, SGD with momentum and weight decay; `raw.jsonl` has a line for each program\n"
             "and round, `summary.md` the medians.")
    if names != {"torch"}:
        about += " The memory of onnxruntime and openvino includes PyTorch, which\nexports the network in the same process."
    record.write(args.name, commit, [f"{name} {version(name)}" for name in sorted(names)],
                 [f"command: `bench/compare.py {flags} --peer-python PATH`", *filter(None, [args.note])],
                 about, lines, summary(lines))


main()
