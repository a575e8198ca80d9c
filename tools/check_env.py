#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Print versions, processor and GPU, and what is missing."""

import argparse
import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec

# Module -> what it is for; needed by some users only.
OPTIONAL = {
    "espeakng_loader": "the mini corpus (pip install 'espnet-objsoup[mini]')",
    "wandb": "use_wandb: true",
    "ipadic": "BLEU for Japanese (pip install 'sacrebleu[ja]')",
}


def check_packages() -> list[str]:
    """Print the versions of required packages; returns those that are missing."""
    try:
        lines = requires("espnet-objsoup") or []
    except PackageNotFoundError:
        return ["espnet-objsoup (run tools/install.sh)"]
    missing = []
    for line in lines:
        if "extra ==" in line:
            continue
        name = line.split(";")[0]
        for separator in "<>=! [":
            name = name.split(separator)[0]
        try:
            print(f"  {name:<18} {version(name):<12} ({line})")
        except PackageNotFoundError:
            missing.append(line)
    return missing


def check_devices() -> None:
    """Print processor and GPUs."""
    print(f"  cores              {os.cpu_count()}")
    if find_spec("torch") is None:
        return
    import torch

    if not torch.cuda.is_available():
        print("  GPU                none (training runs on the CPU)")
    for i in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(i)
        print(
            f"  GPU {i}              {properties.name}, {properties.total_memory / 2**30:.0f} GiB"
        )


def main() -> int:
    """Run the checks; 1 if something required is missing."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    print(f"python {platform.python_version()} on {platform.platform()}")
    if sys.version_info[:2] not in ((3, 12), (3, 13)):
        print("error: expected Python 3.12 or 3.13; run tools/install.sh", file=sys.stderr)
        return 1
    missing = check_packages()
    check_devices()
    for module, purpose in OPTIONAL.items():
        found = "found" if find_spec(module) else "missing"
        print(f"  {module:<18} {found:<12} (optional: {purpose})")
    for line in missing:
        print(f"error: missing {line}", file=sys.stderr)
    if not missing:
        print("All required packages are installed.")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
