"""Run RivetKit's own driver tests against hosts of this package, with the client as it comes from npm.

    git clone --depth 1 https://github.com/rivet-dev/rivet
    python -m tests.rivetkit.published rivet [actor-queue ...]

The test files are taken from the checkout as they are; their client is the one of npm, and in place of their engine a host
of this package is started for each test, with actors in Python. Words after the checkout choose among the files.

Prints a line for each file. Exits with 1 if a test fails that should not, or passes although ``differences.toml`` names it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import shutil
import sys
import tomllib
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.rivetkit.npm import VERSION, installed, run_node
from tests.rivetkit.published.fresh_hosts import fresh_hosts

HERE = Path(__file__).parent
IN_CHECKOUT = Path("rivetkit-typescript", "packages", "rivetkit")
PATIENCE = 3600.0
_ENCODING = re.compile(r"encoding \((\w+)\)")


def differences() -> dict[str, dict[str, str]]:
    """Return the reasons by file and title of the tests that must fail."""
    described = tomllib.loads((HERE / "differences.toml").read_text())
    reasons = described.pop("reasons")
    return {
        file: {title: reasons[reason] for reason, titles in named.items() for title in titles}
        for file, named in described.items()
    }


@dataclass
class FileResult:
    """How the tests of one file ended, each in every encoding."""

    passed: int = 0
    different: Counter[str] = field(default_factory=Counter[str])
    """By reason."""
    unexpected: list[str] = field(default_factory=list[str])


def judged(report: Mapping[str, Any]) -> dict[str, FileResult]:
    """Return vitest's report by file, compared with the known differences."""
    known, results = differences(), defaultdict[str, FileResult](FileResult)
    for found in report["testResults"]:
        file = Path(found["name"]).name
        result = results[file]
        if not found["assertionResults"]:
            result.unexpected.append(f"the file cannot be run: {found.get('message', '')[:300]}")
        for test in found["assertionResults"]:
            title, reason = test["title"], known.get(file, {}).get(test["title"])
            encoding = _ENCODING.search(" ".join(test["ancestorTitles"]))
            where = f"{title} ({encoding[1] if encoding else '?'})"
            if test["status"] == "passed" and reason is None:
                result.passed += 1
            elif test["status"] == "failed" and reason is not None:
                result.different[reason] += 1
            else:
                texts = [text for text in test["failureMessages"] or [] if text]
                result.unexpected.append(f"{where}: {test['status']} {texts[0][:300] if texts else ''}".rstrip())
    return dict(results)


async def run(checkout: Path, chosen: Collection[str]) -> dict[str, FileResult]:
    """Run the files that ``differences.toml`` names, or the chosen ones of them."""
    folder = installed("rivetkit-published", f"rivetkit@{VERSION}", "vitest@3")
    for part in ("tests", "fixtures"):
        shutil.rmtree(folder / part, ignore_errors=True)
        shutil.copytree(checkout / IN_CHECKOUT / part, folder / part)
    for script in HERE.glob("*.mjs"):
        shutil.copyfile(script, folder / script.name)
    files = [f"tests/driver/{file}" for file in differences() if not chosen or any(word in file for word in chosen)]
    report = folder / "report.json"
    report.unlink(missing_ok=True)
    options = ("--config", "vitest.config.mjs", "--reporter=json", f"--outputFile={report}")
    async with fresh_hosts() as url:
        vitest = ("node_modules/vitest/vitest.mjs", "run", *options, *files)
        ended = await run_node(folder, *vitest, within=PATIENCE, FRESH_HOSTS=url)
    if not report.exists():
        raise SystemExit(f"vitest wrote no report: {ended.errors[-2000:]}")
    return judged(json.loads(report.read_text()))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.rivetkit.published", description=__doc__)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("files", nargs="*", help="parts of the names of files")
    arguments = parser.parse_args()
    results = asyncio.run(run(arguments.checkout.resolve(), arguments.files))
    for file, result in sorted(results.items()):
        print(f"{result.passed:>4} passed {result.different.total():>3} differ  {file}")
        for reason, count in result.different.items():
            print(f"{count:>27}: {reason}")
        for unexpected in result.unexpected:
            print(f"     UNEXPECTED: {unexpected}")
    passed = sum(result.passed for result in results.values())
    differ = sum(result.different.total() for result in results.values())
    wrong = sum(len(result.unexpected) for result in results.values())
    print(f"{passed} passed, {differ} differ for a known reason, {wrong} unexpected")
    return 1 if wrong or not passed else 0


if __name__ == "__main__":
    os.environ.setdefault("RIVETKIT_DRIVER_TEST_ENCODING", "bare,cbor,json")
    sys.exit(main())
