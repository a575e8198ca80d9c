# SPDX-License-Identifier: Apache-2.0
"""What a file of weights would call on loading, found without loading it and without torch.

`torch.load(weights_only=True)` refuses the same, and this package loads models with it; but other
programs load a model's file without it.
"""

import pickletools
from collections.abc import Iterator
from pathlib import Path

from espnet_objsoup.zoo.errors import ModelError
from espnet_objsoup.zoo.torch_zip import read_pickle

# What tensors in dictionaries are made of, as `torch.save` writes them.
_ALLOWED = {
    "collections OrderedDict",
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_parameter",
    "torch Size",
    "torch.storage UntypedStorage",
    *(
        f"torch {kind}Storage"
        for kind in (
            "Float", "Double", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool",
        )
    ),
}  # fmt: skip
# Other ways to name something that is called: torch.save (protocol 2) uses none of them.
_OTHER_CALLS = {"STACK_GLOBAL", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4"}
# Names of files that programs unpickle.
SUFFIXES = {".pth", ".pt", ".pkl", ".pickle", ".p", ".bin", ".ckpt", ".joblib", ".dill", ".th"}


def check_weights(path: Path) -> None:
    """Refuse a file that is not plain tensors in torch's format.

    Raises:
        ModelError: naming what it would call.
    """
    try:
        with open(path, "rb") as file:
            content = read_pickle(file, str(path))
    except OSError as err:
        raise ModelError(f"{path}: expected weights, found {err.strerror or err}") from err
    strange = sorted(set(_calls(content, path)) - _ALLOWED)
    if strange:
        raise ModelError(
            f"{path}: expected tensors only, found a pickle that would use "
            f"{', '.join(item.replace(' ', '.') for item in strange)}; such a file can run any "
            "program, do not load it. Its owner can pack the model again (stage 14)"
        )


def _calls(content: bytes, path: Path) -> Iterator[str]:
    """Everything that a pickle imports, as `module name`."""
    try:
        for opcode, argument, _ in pickletools.genops(content):
            if opcode.name == "GLOBAL":
                yield str(argument)
            elif opcode.name in _OTHER_CALLS:
                yield f"opcode {opcode.name}"
    except (ValueError, IndexError, UnicodeDecodeError, KeyError) as err:
        raise ModelError(
            f"{path}: expected a list of tensors, found a damaged one ({err})"
        ) from err
