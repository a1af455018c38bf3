"""Where a script of this folder records what it measured, and on which machine."""

import datetime
import json
import os
import platform
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESIDUA = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release/residua"


def output(command):
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout.strip()


def build():
    """Builds what is measured; returns its commit."""
    subprocess.run(["cargo", "build", "--release"], check=True, cwd=ROOT)
    return output(["git", "describe", "--always", "--dirty"])


def cpu():
    """The processor, in short for a folder's name and in full."""
    text = Path("/proc/cpuinfo").read_text()
    field = lambda name: re.search(rf"^{name}\s*:\s*(.*)$", text, re.M).group(1)
    flags = set(field("flags").split())
    wanted = ["avx2", "avx512f", "avx512_bf16", "amx_bf16"]
    short = f"family{field('cpu family')}-model{field('model')}"
    return short, f"{field('model name')} (family {field('cpu family')}, model {field('model')}), " \
                  f"{os.cpu_count()} cores, {', '.join(flag for flag in wanted if flag in flags)}"


def write(name, commit, programs, facts, about, lines, summary):
    """Writes bench/runs/DATE-CPU[-NAME]: the JSON lines, their summary, and a README with the machine, the
    versions of the programs, further facts and a sentence about the figures."""
    date, (short, long) = datetime.date.today().isoformat(), cpu()
    folder = ROOT / "bench/runs" / "-".join(filter(None, [date, short, name]))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "raw.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "summary.md").write_text(summary)
    versions = ", ".join([output(["rustc", "--version"]), *programs])
    facts = [f"machine: {long}; Linux {platform.release()}", f"Residua at commit {commit}; {versions}", *facts]
    (folder / "README.md").write_text(f"# {date}\n\n" + "".join(f"- {fact}\n" for fact in facts) + f"\n{about}\n")
    print(summary)
