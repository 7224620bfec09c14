#!/usr/bin/env python3
"""Measures the rules on judged commits of public repositories.

Usage: benches/labels.py AGENT LABELS.jsonl MIRRORS [--class given|none] [--errors]

AGENT is the program, LABELS.jsonl has one object a line (`repo`, `sha`, `hipaa`, `fda`, `risk_level`, `disputed`),
MIRRORS is a folder with clones, each named OWNER+NAME (bare or not). `--class given` sets each repository's class
from `CLASS` below, `none` leaves it to inference. A label that `disputed` names does not count. Prints precision,
recall and F1 for HIPAA and FDA, specificity of FDA inside the regulated repositories, and quadratic kappa of the
risk level with its confusion table. `--errors` lists what came out otherwise, for reading. Nothing is stored.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

CLASS = {
    "openmrs/openmrs-core": "ehr",
    "microsoft/fhir-server": "ehr",
    "openaps/oref0": "device",
    "tidepool-org/platform": "device",
    "dcm4che/dcm4che": "device",
    "psf/requests": "other",
    "sharkdp/bat": "other",
}
LEVELS = {"low": 0, "medium": 1, "high": 2}


def find(mirrors: Path, repo: str) -> Path:
    folder = mirrors / repo.replace("/", "+")
    for candidate in [folder, *sorted(folder.glob("*"))] if folder.is_dir() else []:
        if (candidate / "objects").is_dir() or (candidate / ".git").exists():
            return candidate
    sys.exit(f"{repo}: no clone at {folder}")


def explain(agent: str, folder: Path, label: dict, home: str, given: bool) -> dict:
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": home,
        "GITOPS_AGENT_HOME": home,
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_NOSYSTEM": "1",
    }
    if given:
        environment["GITOPS_AGENT_CLASS"] = CLASS[label["repo"]]
    command = [agent, "explain", label["sha"], "--json", "--repo", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode != 0:
        sys.exit(f"{label['repo']} {label['sha']}: {done.stderr.strip()}")
    return json.loads(done.stdout)


def scores(pairs: list[tuple[bool, bool]]) -> str:
    hits = sum(expected and found for expected, found in pairs)
    expected, found = sum(e for e, _ in pairs), sum(f for _, f in pairs)
    precision, recall = hits / found if found else 0.0, hits / expected if expected else 0.0
    f1 = 2 * hits / (expected + found) if expected + found else 0.0
    return f"precision {precision:.3f}  recall {recall:.3f}  F1 {f1:.3f}  ({len(pairs)} commits)"


def kappa(pairs: list[tuple[int, int]]) -> float:
    """Cohen's kappa with quadratic weights."""
    total = len(pairs)
    observed = sum((a - b) ** 2 for a, b in pairs) / total
    expected = sum((a - b) ** 2 for a, _ in pairs for _, b in pairs) / total**2
    return 1 - observed / expected if expected else 1.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("agent")
    parser.add_argument("labels", type=Path)
    parser.add_argument("mirrors", type=Path)
    parser.add_argument("--class", dest="given", choices=["given", "none"], default="given")
    parser.add_argument("--errors", action="store_true")
    args = parser.parse_args()
    labels = [json.loads(line) for line in args.labels.read_text().splitlines() if line.strip()]
    with tempfile.TemporaryDirectory() as home, ThreadPoolExecutor(2) as pool:
        run = lambda label: explain(
            args.agent, find(args.mirrors, label["repo"]), label, home, args.given == "given"
        )
        records = list(pool.map(run, labels))
    for tag, key in [("HIPAA", "hipaa"), ("FDA", "fda")]:
        judged = [(l, tag in r["compliance"]) for l, r in zip(labels, records) if key not in l["disputed"]]
        print(f"{tag:6}", scores([(label[key], found) for label, found in judged]))
        regulated = [found for label, found in judged if not label[key] and CLASS.get(label["repo"]) == "device"]
        if key == "fda" and regulated:
            print(f"       specificity in device repositories {regulated.count(False) / len(regulated):.3f} ({len(regulated)})")
        if args.errors:
            for label, record in zip(labels, records):
                found = tag in record["compliance"]
                if key not in label["disputed"] and found != label[key]:
                    rules = sorted({f["rule"] for f in record["findings"] if tag in f["tags"] and not f["allowed"]})
                    print(f"  {'FALSE' if found else 'missed'} {label['repo']} {label['sha'][:12]} [{label['confidence']}]"
                          f" {label['reason']}  {' '.join(rules)}")
    levels = [(LEVELS[l["risk_level"]], LEVELS[r["riskLevel"]]) for l, r in zip(labels, records) if "risk_level" not in l["disputed"]]
    print(f"risk   quadratic kappa {kappa(levels):.3f} ({len(levels)} commits)")
    print(f"       {'reviewer / agent':18}" + "".join(f"{name:>8}" for name in LEVELS))
    for name, level in LEVELS.items():
        print(f"       {name:18}" + "".join(f"{levels.count((level, found)):8}" for found in LEVELS.values()))
    if args.errors:
        for label, record in zip(labels, records):
            if "risk_level" not in label["disputed"] and label["risk_level"] != record["riskLevel"]:
                top = " ".join(f"{f['rule']}:{f['points']}" for f in record["findings"][:3])
                print(f"  {label['risk_level']}, found {record['riskLevel']} {record['riskScore']} {label['repo']} {label['sha'][:12]} {label['reason']}  {top}")
    classes: dict[str, dict[str, int]] = {}
    for label, record in zip(labels, records):
        seen = classes.setdefault(label["repo"], {})
        name = f"{record['class']['value']} ({record['class']['origin']})"
        seen[name] = seen.get(name, 0) + 1
    for repo, seen in classes.items():
        print(f"class  {repo}: " + ", ".join(f"{name} {count}" for name, count in seen.items()))


if __name__ == "__main__":
    main()
