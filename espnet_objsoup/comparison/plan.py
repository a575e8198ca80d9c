# SPDX-License-Identifier: Apache-2.0
"""`conf/compare.yaml`: which arms there are, and in which variants."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from espnet_objsoup.data.yaml_file import YamlError, load_yaml

EQUAL_COST = "_equal_cost"


class PlanError(ValueError):
    """A comparison cannot be made as it is described."""


@dataclass(frozen=True)
class Choice:
    """Arms that are trained for a while, of which the best one goes on.

    Attributes:
        among: names of arms.
        share: of the run's updates, for each of them.
    """

    among: tuple[str, ...]
    share: float


@dataclass(frozen=True)
class Before:
    """A training before the run's own.

    Attributes:
        share: of the run's updates.
        conf: what it has instead of the configuration of `static`.
        modules: what the run takes from it, as `from:to` of ESPnet's --init_param.
    """

    share: float
    conf: Mapping[str, Any]
    modules: str


@dataclass(frozen=True)
class Arm:
    """What is compared.

    Attributes:
        name: in tables and names of files.
        group: `main`, or another word that `--arms` may name.
        conf: what it has instead of the common configuration.
        seeds: the only ones it is trained with; empty: all.
        cost_of: arm whose updates cost as much; empty: its own are measured.
        choose: its grid, if it has one.
        before: its first stage, if it has one.
    """

    name: str
    group: str = "main"
    conf: Mapping[str, Any] = field(default_factory=dict)
    seeds: tuple[int, ...] = ()
    cost_of: str = ""
    choose: Choice | None = None
    before: Before | None = None


@dataclass(frozen=True)
class Variant:
    """What all arms of a table have in common.

    Attributes:
        name: in tables and names of files.
        conf: what all arms have instead of the common configuration.
        data: options of the recipe's stages 1 to 10: `langs`, `st_pairs`, `nbpe`, `rare`; empty:
            those of the recipe's `--size compare`.
    """

    name: str
    conf: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison:
    """All of `conf/compare.yaml`.

    Attributes:
        path: of the file.
        base: common configuration of training.
        reference: arm that others are compared with.
        arms, variants: by name, in the file's order.
    """

    path: Path
    base: Mapping[str, Any]
    reference: str
    arms: Mapping[str, Arm]
    variants: Mapping[str, Variant]

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the file and the configuration that it names, seen from the working directory.

        Raises:
            PlanError: naming the key that is wrong.
            OSError: if a file cannot be read.
        """
        conf = _mapping(_load(path), str(path))
        _check_keys(conf, ("config", "reference", "variants", "shared", "arms"), str(path))
        for key in ("config", "reference", "variants", "arms"):
            if key not in conf:
                raise PlanError(f"{path}: expected the key {key}, found none; add it")
        base_path = Path(str(conf["config"]))
        base = _mapping(_load(base_path), str(base_path))
        arms = {
            name: _arm(name, _mapping(value or {}, f"{path}: arms.{name}"), f"{path}: arms.{name}")
            for name, value in _named(conf["arms"], f"{path}: arms")
        }
        variants = {
            name: _variant(name, _mapping(value or {}, f"{path}: {name}"), f"{path}: {name}")
            for name, value in _named(conf["variants"], f"{path}: variants")
        }
        result = cls(path, base, str(conf["reference"]), arms, variants)
        result._check_references()
        return result

    def _check_references(self) -> None:
        named = {"reference": [self.reference]}
        for arm in self.arms.values():
            named[f"arms.{arm.name}.cost_of"] = [arm.cost_of] if arm.cost_of else []
            named[f"arms.{arm.name}.choose.among"] = list(arm.choose.among) if arm.choose else []
        for key, names in named.items():
            for name in names:
                if name not in self.arms:
                    known = ", ".join(self.arms)
                    raise PlanError(f"{self.path}: {key}: expected one of {known}, found {name!r}")
        for arm in self.arms.values():
            for name in arm.choose.among if arm.choose else ():
                if self.arms[name].choose or self.arms[name].before:
                    raise PlanError(
                        f"{self.path}: arms.{arm.name}.choose.among: expected arms of one "
                        f"training, found {name}"
                    )

    def choose_arms(self, words: Sequence[str]) -> list[Arm]:
        """Arms named by themselves, by their group or by `all`, in the file's order.

        Raises:
            PlanError: for a word that names none.
        """
        chosen: set[str] = set()
        for word in words:
            found = {a.name for a in self.arms.values() if word in (a.name, a.group, "all")}
            if not found:
                groups = dict.fromkeys(arm.group for arm in self.arms.values())
                raise PlanError(
                    f"--arms: expected all, a group ({', '.join(groups)}) or some of "
                    f"{', '.join(self.arms)}, found {word!r}"
                )
            chosen |= found
        return [arm for arm in self.arms.values() if arm.name in chosen]

    def choose_variants(self, words: Sequence[str]) -> list[Variant]:
        """Variants by name, or `all`.

        Raises:
            PlanError: for a word that names none.
        """
        for word in words:
            if word != "all" and word not in self.variants:
                known = ", ".join(self.variants)
                raise PlanError(f"--variants: expected all or some of {known}, found {word!r}")
        return [v for v in self.variants.values() if v.name in words or "all" in words]


def _load(path: Path) -> Any:
    try:
        return load_yaml(path.read_bytes())
    except YamlError as err:
        raise PlanError(f"{path}: {err.message}; mend it") from err


def _mapping(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise PlanError(f"{where}: expected `key: value` lines, found {value!r}")
    return value


def _named(value: Any, where: str) -> list[tuple[str, Any]]:
    names = list(_mapping(value, where).items())
    for name, _ in names:
        # Names become those of files; _equal_cost is told apart by its end.
        if not (isinstance(name, str) and name.isidentifier()) or name.endswith(EQUAL_COST):
            raise PlanError(f"{where}: expected names of letters, digits and _, found {name!r}")
    if not names:
        raise PlanError(f"{where}: expected at least one, found none")
    return names


def _check_keys(conf: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    unknown = [str(key) for key in conf if key not in known]
    if unknown:
        raise PlanError(
            f"{where}: unknown key {', '.join(unknown)}; known keys: {', '.join(known)}"
        )


def _variant(name: str, conf: Mapping[str, Any], where: str) -> Variant:
    _check_keys(conf, ("conf", "data"), where)
    data = _mapping(conf.get("data", {}), f"{where}.data")
    _check_keys(data, ("langs", "st_pairs", "nbpe", "rare"), f"{where}.data")
    options = {key: str(value) for key, value in data.items()}
    return Variant(name, _mapping(conf.get("conf", {}), f"{where}.conf"), options)


def _arm(name: str, conf: Mapping[str, Any], where: str) -> Arm:
    _check_keys(conf, [f.name for f in fields(Arm) if f.name != "name"], where)
    choose = before = None
    if "choose" in conf:
        value = _mapping(conf["choose"], f"{where}.choose")
        _check_keys(value, ("among", "share"), f"{where}.choose")
        among = tuple(str(word) for word in value.get("among") or ())
        choose = Choice(among, _share(value, len(among), f"{where}.choose"))
    if "before" in conf:
        value = _mapping(conf["before"], f"{where}.before")
        _check_keys(value, ("share", "conf", "modules"), f"{where}.before")
        first = _mapping(value.get("conf", {}), f"{where}.before.conf")
        before = Before(_share(value, 1, f"{where}.before"), first, str(value.get("modules", "")))
    if choose and before:
        raise PlanError(f"{where}: expected choose or before, found both")
    seeds = conf.get("seeds", [])
    if not isinstance(seeds, list) or not all(type(seed) is int and seed >= 0 for seed in seeds):
        raise PlanError(f"{where}.seeds: expected a list of whole numbers, found {seeds!r}")
    return Arm(
        name,
        str(conf.get("group", "main")),
        _mapping(conf.get("conf", {}), f"{where}.conf"),
        tuple(seeds),
        str(conf.get("cost_of", "")),
        choose,
        before,
    )


def _share(conf: Mapping[str, Any], parts: int, where: str) -> float:
    share = conf.get("share")
    if not isinstance(share, float) or not parts or not 0 < share * parts < 1:
        raise PlanError(
            f"{where}: expected arms, and a share of the updates that leaves some for the rest, "
            f"found {dict(conf)}"
        )
    return share
