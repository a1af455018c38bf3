"""Learning rates of PyTorch's schedulers, step by step, for crates/train/tests/schedule.rs.

Run from the repository root: python tools/golden/schedules.py
"""

import json
from pathlib import Path

import torch
from torch.optim import SGD, lr_scheduler

OUTPUT = Path("crates/train/tests/golden/schedules.json")
LR = 0.1


def warmed_up(optimizer, scheduler, warmup_steps):
    """LinearLR from 1/warmup_steps to 1 over warmup_steps steps, times the schedule."""
    warmup = lr_scheduler.LinearLR(
        optimizer, 1 / warmup_steps, end_factor=1.0, total_iters=warmup_steps - 1
    )
    return lr_scheduler.ChainedScheduler([scheduler, warmup], optimizer)


def learning_rates(make_scheduler, total_steps):
    optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=LR, momentum=0.9)
    scheduler = make_scheduler(optimizer, total_steps)
    lrs = []
    for step in range(total_steps):
        lrs.append(optimizer.param_groups[0]["lr"])
        if step + 1 < total_steps:  # OneCycleLR refuses to go past its end
            optimizer.step()
            scheduler.step()
    return lrs


def multi_step(milestones, gamma):
    return lambda opt, total: lr_scheduler.MultiStepLR(opt, milestones, gamma)


def paper(opt, total):
    return lr_scheduler.MultiStepLR(opt, [-(-total // 2), -(-3 * total // 4)], 0.1)


def linear(opt, total):
    return lr_scheduler.LinearLR(opt, 1.0, end_factor=0.0, total_iters=total)


def cosine(opt, total):
    return lr_scheduler.CosineAnnealingLR(opt, T_max=total)


def one_cycle(opt, total):
    return lr_scheduler.OneCycleLR(opt, max_lr=LR, total_steps=total, cycle_momentum=False)


def case(schedule, total_steps, lrs, warmup_steps=0):
    return {
        "schedule": schedule,
        "total_steps": total_steps,
        "warmup_steps": warmup_steps,
        "lr": lrs,
    }


def main():
    step = {"step": {"milestones": [5, 6, 17], "gamma": 0.3}}
    cases = [
        case("constant", 7, [LR] * 7),
        case("paper", 20, learning_rates(paper, 20)),
        case("paper", 23, learning_rates(paper, 23)),
        case(step, 20, learning_rates(multi_step([5, 6, 17], 0.3), 20)),
        case("linear", 23, learning_rates(linear, 23)),
        case("cosine", 37, learning_rates(cosine, 37)),
        case("one-cycle", 37, learning_rates(one_cycle, 37)),
        case("one-cycle", 2, learning_rates(one_cycle, 2)),
        case(
            "cosine",
            30,
            learning_rates(lambda o, t: warmed_up(o, cosine(o, t), 6), 30),
            warmup_steps=6,
        ),
        case(
            step,
            20,
            learning_rates(lambda o, t: warmed_up(o, multi_step([5, 6, 17], 0.3)(o, t), 9), 20),
            warmup_steps=9,
        ),
    ]
    golden = {"made_with": f"torch {torch.__version__}", "base_lr": LR, "cases": cases}
    OUTPUT.write_text(json.dumps(golden, indent=1) + "\n")


main()
