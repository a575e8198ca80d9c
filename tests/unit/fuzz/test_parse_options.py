# SPDX-License-Identifier: Apache-2.0
"""parse_options.sh: what is given arrives as it is or is refused, and is never run."""

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from . import directory, fuzz, texts

SCRIPT = Path(__file__).parents[3] / "egs2" / "TEMPLATE" / "objsoup1" / "parse_options.sh"
# Prints each option's value, ended by a zero byte, which no word can hold.
PROGRAM = """
set -euo pipefail
. "$1"
opt text "" "anything"
opt some_name "a b" "anything"
opt flag false "a truth" bool
opt jobs 4 "a count" count
opt number 0 "a number" number
opt seconds 0.5 "a duration" duration
opt choice tc "one of three" "tc|lc|lc.rm"
"${@:2}"
printf '%s\\0' "${text}" "${some_name}" "${flag}" "${jobs}" "${number}" "${seconds}" "${choice}" \\
    ${other_options[@]+"${other_options[@]}"}
"""
NAMES = ("text", "some_name", "flag", "jobs", "number", "seconds", "choice")
DEFAULTS = ("", "a b", "false", "4", "0", "0.5", "tc")

# Each would make a directory `run` if anything evaluated it.
attacks = st.sampled_from(
    [
        "$(mkdir run)", "`mkdir run`", "a[$(mkdir run)]", "; mkdir run", "x\nmkdir run",
        "'; mkdir run #", '"; mkdir run; "', "| mkdir run", "& mkdir run", "%s%n", "!!", "*", "~",
        "-eq 1 ] || mkdir run", "\\$(mkdir run)", "${IFS}", "{a,b}", "a[$(mkdir run)]=1", "PATH",
        "_option_names", "<(mkdir run)",
    ]
)  # fmt: skip
words = st.one_of(texts.map(lambda text: text.replace("\0", "")), attacks)
options = st.one_of(
    st.sampled_from([f"--{name}" for name in NAMES]),
    st.sampled_from(["--some-name", "--", "-", "--help", "-h", "---text", "--Text", "--te"]),
    words.map(lambda word: f"--{word}"),
)
likely = st.sampled_from(
    [
        "true", "false", "1", "007", "0", "-1", "1.5", ".5", ".", "tc", "lc.rm", "tc|lc", "|", "",
        "lc|lc.rm", " ", "1 2", "99999999999999999999", "1\n", "1e3", "0x10", "a1",
    ]
)  # fmt: skip
pairs = st.lists(st.tuples(options, st.one_of(words, likely)), max_size=3)


def run(function: str, arguments: list[str], where: Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["bash", "-c", PROGRAM, "script.sh", str(SCRIPT), function, *arguments],
        cwd=where, capture_output=True, check=False, timeout=300,
    )  # fmt: skip


def checked(kind: str, value: str) -> bool:
    """What the comments of parse_options.sh say of each kind, in other words."""
    digits = value != "" and set(value) <= set("0123456789")
    if kind == "flag":
        return value in ("true", "false")
    if kind in ("jobs", "number"):
        return digits and (kind == "number" or value.strip("0") != "")
    if kind == "seconds":
        rest = value.replace(".", "", 1)
        return rest != "" and set(rest) <= set("0123456789")
    return value in ("tc", "lc", "lc.rm") if kind == "choice" else True


@fuzz(0.5)
@given(pairs, st.one_of(st.just([]), st.lists(words, max_size=1)))
def test_parse_options(given_pairs: list[tuple[str, str]], rest: list[str]) -> None:
    expected = dict(zip(NAMES, DEFAULTS, strict=True))
    valid, helps = not rest, False
    for option, value in given_pairs:
        if option in ("--help", "-h"):
            helps = True
            break
        name = option[2:].replace("-", "_")
        if not option.startswith("--") or name not in NAMES:
            valid = False
            break
        expected[name] = value
    else:
        valid = valid or (len(rest) == 1 and rest[0] in ("--help", "-h"))
        helps = helps or (len(rest) == 1 and rest[0] in ("--help", "-h"))
    with directory() as folder:
        flat = [word for pair in given_pairs for word in pair]
        finished = run("parse_options", [*flat, *rest], folder)
        assert list(folder.iterdir()) == [], "something was run"
    if helps:
        assert finished.returncode == 0
        assert finished.stdout.startswith(b"Usage: script.sh")
        return
    valid = valid and all(checked(name, expected[name]) for name in NAMES)
    if valid:
        assert finished.returncode == 0, finished.stderr
        found = [word.decode() for word in finished.stdout.split(b"\0")[: len(NAMES)]]
        assert found == list(expected.values())
    else:
        assert finished.returncode == 2, finished.stdout
        assert finished.stderr.startswith(b"error: ")


@fuzz()
@given(pairs)
def test_take_options(given_pairs: list[tuple[str, str]]) -> None:
    """A recipe's own options are taken, all other words kept in order."""
    flat = [word for pair in given_pairs for word in pair]
    with directory() as folder:
        finished = run("take_options", flat, folder)
        assert list(folder.iterdir()) == [], "something was run"
    assert finished.returncode in (0, 2)
    if finished.returncode == 2:
        assert finished.stderr.startswith(b"error: ")
        return
    others = finished.stdout.split(b"\0")[len(NAMES) : -1]
    kept = iter(flat)
    # All of them are among the words that were given, in their order.
    assert all(other in (word.encode() for word in kept) for other in others if other)


@pytest.mark.parametrize("value", ["tc|lc", "lc|lc.rm", "tc|lc|lc.rm", "|", ""])
def test_several_choices_are_none(tmp_path: Path, value: str) -> None:
    finished = run("parse_options", ["--choice", value], tmp_path)
    assert finished.returncode == 2
    assert b"--choice: expected one of tc, lc, lc.rm, found" in finished.stderr
