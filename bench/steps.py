#!/usr/bin/env python3
"""Records where the time of a step goes on this machine, by stage of the network.

usage: bench/steps.py [--works train:resnet20:128,infer:resnet20:1000] [--precisions f32,bf16] [--threads 2]
                      [--note TEXT] [--name NAME]

Beside each stage's time is its floor, its operations at the peak that `residua bench hardware` measures
first; what a direct convolution would do counts where Winograd's does less. A fused step belongs to the stage
of its convolution. Nothing else should run on the machine. Writes
bench/runs/DATE-CPU[-NAME]/{README.md,raw.jsonl,summary.md}.
"""

import argparse
import json
import re

import record
from record import RESIDUA

WORKS = "train:resnet20:128,train:resnet56:128,train:resnet18:32,train:resnet50:16,infer:resnet20:1000"


def stage(step):
    """Where a fused step belongs: the stage of its convolution, or of its first part."""
    parts = [part for part in step["parts"] if not part.startswith("moments")]
    convolution = [part for part in parts if re.search(r"conv\d|downsample\.0|\bfc\b", part)]
    text = (convolution or parts)[0]
    if found := re.search(r"layer\d", text):
        return found.group()
    return "stem" if re.search(r"conv1|\bbn1|max pool", text) else "shortcuts" if "shortcut" in text else "head"


def peak(precision, threads):
    """Floating-point operations a millisecond of all threads, of the instructions that the precision takes."""
    lines = record.output([RESIDUA, "bench", "hardware", "--threads", threads, "--json"]).splitlines()
    rates = {line["isa"]: line["gflop_per_s"] for line in map(json.loads, lines) if "gflop_per_s" in line}
    of_bf16 = ("amx", "avx512bf16")
    wanted = [rate for isa, rate in rates.items() if (isa in of_bf16) == (precision == "bf16")]
    return max(wanted or rates.values()) * 1e6


def measure(args):
    for precision in args.precisions.split(","):
        rate = peak(precision, args.threads)
        for work in args.works.split(","):
            task, model, batch = work.split(":")
            plan = json.loads(record.output([RESIDUA, "inspect", model, f"--plan={task}", "--batch-size", batch,
                                             "--precision", precision, "--threads", args.threads, "--json"]))
            print(f"{task} {model} {precision}: {plan['ms']:.1f} ms", flush=True)
            yield plan | {"peak_flop_per_ms": rate}


def table(plan):
    """The time and the floor of each stage, forward and backward, in milliseconds of all threads together."""
    stages = {}
    for step in plan["steps"]:
        row = stages.setdefault(stage(step), {False: [0, 0], True: [0, 0]})[step["backward"]]
        row[0] += step["ms"] / plan["threads"]
        row[1] += step["operations"] / plan["peak_flop_per_ms"]
    rest = plan["rest_share"] * plan["ms"]
    floors = sum(row[1] for both in stages.values() for row in both.values())
    lines = [f"## {plan['task']} {plan['model']}, batch {plan['batch']}, {plan['precision']}", "",
             f"{plan['ms']:.1f} ms a step, operations at the peak {floors:.1f} ms, {plan['isa']}, "
             f"{plan['threads']} threads", "",
             "| stage | forward, ms | at the peak | backward, ms | at the peak | share of the step |",
             "|---|---|---|---|---|---|"]
    for name, both in sorted(stages.items(), key=lambda item: (item[0] == "head", item[0] != "stem", item[0])):
        (forward, forward_floor), (backward, backward_floor) = both[False], both[True]
        lines.append(f"| {name} | {forward:.1f} | {forward_floor:.1f} | {backward:.1f} | {backward_floor:.1f} | "
                     f"{100 * (forward + backward) / plan['ms']:.0f} % |")
    lines.append(f"| between steps | {rest:.1f} | | | | {100 * plan['rest_share']:.0f} % |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--works", default=WORKS)
    parser.add_argument("--precisions", default="f32,bf16")
    parser.add_argument("--threads", default="2")
    parser.add_argument("--note", default="")
    parser.add_argument("--name", default="steps")
    args = parser.parse_args()

    commit = record.build()
    plans = list(measure(args))
    command = f"bench/steps.py --works {args.works} --precisions {args.precisions} --threads {args.threads}"
    record.write(args.name, commit, [], [f"command: `{command}`", *filter(None, [args.note])],
                 "Random data. `raw.jsonl` has each work's fused steps, `summary.md` their times by stage of the network;\n"
                 "between steps are weights, reductions, loss, update and waiting.",
                 plans, "\n".join(map(table, plans)))


main()
