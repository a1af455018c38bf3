#!/usr/bin/env python3
"""Runs Residua and PyTorch alternately on this machine and records what came out.

usage: bench/compare.py --peer-python PATH [--peers FOLDER] [--models resnet20,resnet56]
                        [--infer resnet20] [--precisions f32,bf16] [--rounds 5] [--threads 2]
                        [--compile resnet20,resnet56] [--note TEXT] [--name NAME]

PATH is an interpreter with torch, and torchvision for ImageNet's networks. torch_train.py, of FOLDER instead
of beside this file where it is given, times training steps of --models (eager, those after --compile also
compiled); torch_infer.py beside this file evaluates --infer. Nothing else should run on the machine.

A round runs every program once; the rounds follow each other, so that a change of the machine's
speed meets all. Quoted are medians over the rounds of the programs' median step times, and the
largest peak memory of the processes. Writes bench/runs/DATE-CPU[-NAME]/{README.md,raw.jsonl,summary.md}.
"""

import argparse
import datetime
import json
import os
import platform
import re
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESIDUA = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release/residua"
BATCHES = {"resnet18": 32, "resnet50": 16}
INFER_BATCH = 1000


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


def programs(args, task, model, precision):
    """Each program that times the model: its name and its command line."""
    batch = str(INFER_BATCH if task == "infer" else BATCHES.get(model, 128))
    threads = ["--threads", str(args.threads)]
    yield "residua", [RESIDUA, "bench", task, "--model", model, "--batch-size", batch,
                      "--precision", precision, "--steps", str(args.steps), *threads, "--json"]
    script = {"train": [Path(args.peers) / "torch_train.py", "--steps", str(args.steps)],
              "infer": [ROOT / "bench/torch_infer.py", "--steps", str(args.steps), "--batch", batch]}[task]
    torch = [args.peer_python, *script, "--models", model, "--precisions", precision, *threads]
    yield "pytorch", torch
    if model in args.compile.split(","):
        yield "pytorch-compile", [*torch, "--compile"]


def measure(args):
    works = [(task, model, precision)
             for task, models in (("train", args.models), ("infer", args.infer))
             for model in models.split(",") if model
             for precision in args.precisions.split(",")]
    for round_i in range(args.rounds):
        for task, model, precision in works:
            for program, command in programs(args, task, model, precision):
                for line in run(command):
                    kept = ("task", "model", "batch", "precision", "ms_p50", "images_per_s", "peak_bytes")
                    yield {"round": round_i, "program": program} | {key: line[key] for key in kept}
                    what = f"{program} {task} {model} {precision}: {line['ms_p50']:.1f} ms"
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


def cpu():
    text = Path("/proc/cpuinfo").read_text()
    field = lambda name: re.search(rf"^{name}\s*:\s*(.*)$", text, re.M).group(1)
    flags = set(field("flags").split())
    wanted = ["avx2", "avx512f", "avx512_bf16", "amx_bf16"]
    short = f"family{field('cpu family')}-model{field('model')}"
    return short, f"{field('model name')} (family {field('cpu family')}, model {field('model')}), " \
                  f"{os.cpu_count()} cores, {', '.join(flag for flag in wanted if flag in flags)}"


def output(command):
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout.strip()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", default=ROOT / "bench")
    parser.add_argument("--peer-python", required=True)
    parser.add_argument("--models", default="resnet20,resnet56")
    parser.add_argument("--infer", default="")
    parser.add_argument("--precisions", default="f32,bf16")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--compile", default="")
    parser.add_argument("--note", default="")
    parser.add_argument("--name", default="")
    args = parser.parse_args()

    subprocess.run(["cargo", "build", "--release"], check=True, cwd=ROOT)
    commit = output(["git", "describe", "--always", "--dirty"])
    lines = list(measure(args))
    date, (short, long) = datetime.date.today().isoformat(), cpu()
    folder = ROOT / "bench/runs" / "-".join(filter(None, [date, short, args.name]))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "raw.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "summary.md").write_text(summary(lines))
    torch = output([args.peer_python, "-c", "import torch; print(torch.__version__)"])
    flags = f"--models {args.models} --infer '{args.infer}' --precisions {args.precisions} --rounds {args.rounds} --steps {args.steps} --threads {args.threads}"
    peers = "" if args.peers == ROOT / "bench" else "--peers FOLDER "
    (folder / "README.md").write_text(
        f"# {date}\n\n"
        f"- machine: {long}; Linux {platform.release()}\n"
        f"- Residua at commit {commit}, {output(['rustc', '--version'])}; PyTorch {torch}\n"
        f"- command: `bench/compare.py {flags} --compile '{args.compile}' {peers}--peer-python PATH`\n"
        + (f"- {args.note}\n" if args.note else "")
        + "\nRandom data, channels-last, SGD with momentum and weight decay; `raw.jsonl` has a line for each program\n"
          "and round, `summary.md` the medians.\n")
    print(summary(lines))


main()
