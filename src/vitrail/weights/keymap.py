"""Foreign tensor names translated to ours, and back, by a table of rules.

A table is total: every foreign tensor is claimed by exactly one rule, and whatever is ignored says why. It is
reversible: the same table writes the foreign format. It never resizes; that is a later, printed step on our names.

    TIMM = KeyMap((
        Rename("cls_token", "class_token"),
        Split("blocks.{i}.attn.qkv.{p}", ("blocks.{i}.attention.query.{p}", ...)),
    ))

`{i}` and `{j}` stand for a number, `{p}` for one word (weight, bias) and `{rest}` for the rest of the name. Each rule
says which names it claims on either side (`foreign`, `ours`) and makes the tensors of one from the other (`read`,
`write`), in the order of these names.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache

import torch
from einops import rearrange
from torch import Tensor

from vitrail.errors import CheckpointError

PLACEHOLDERS = {"i": r"\d+", "j": r"\d+", "p": r"[^./]+", "rest": r".+"}
Tensors = Mapping[str, Tensor]
Sizes = Mapping[str, int]


@cache
def pattern(name: str) -> re.Pattern:
    """What recognises a name with placeholders. The name comes from our tables, never from a file."""
    parts = re.split(r"\{(\w+)\}", name)
    escaped = [
        re.escape(part) if place % 2 == 0 else f"(?P<{part}>{PLACEHOLDERS[part]})" for place, part in enumerate(parts)
    ]
    return re.compile("".join(escaped))


def some(names: Iterable[str], most: int = 10) -> str:
    """The first few names, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


class OneOfTheirs:
    """A rule that claims one foreign name."""

    theirs: str

    @property
    def foreign(self) -> tuple[str, ...]:
        return (self.theirs,)


class OneOfOurs:
    """A rule that claims one name of ours."""

    mine: str

    @property
    def ours(self) -> tuple[str, ...]:
        return (self.mine,)


class Unread(OneOfTheirs):
    """A rule for a foreign tensor that becomes none of ours."""

    @property
    def ours(self) -> tuple[str, ...]:
        return ()

    def read(self, tensors: list[Tensor]) -> list[Tensor]:
        return []

    def write(self, tensors: list[Tensor], sizes: Sizes) -> list[Tensor]:
        return []


@dataclass(frozen=True)
class Rename(OneOfTheirs, OneOfOurs):
    """The same tensor under another name.

    Args:
        empty: gives the foreign tensor where we have none, for a library that then keeps one without numbers.
    """

    theirs: str
    mine: str
    empty: Callable[[Tensors], Tensor] | None = None

    def read(self, tensors: list[Tensor]) -> list[Tensor]:
        return tensors

    def write(self, tensors: list[Tensor], sizes: Sizes) -> list[Tensor]:
        return tensors


@dataclass(frozen=True)
class Split(OneOfTheirs):
    """One foreign tensor that stacks several of ours, all alike, along its first axis.

    Args:
        transposed: it is a matrix of inputs and outputs, as TensorFlow and GPT-2 have it, and stacks them along the
            outputs, its last axis.
    """

    theirs: str
    ours: tuple[str, ...]
    transposed: bool = False

    def read(self, tensors: list[Tensor]) -> list[Tensor]:
        stacked, count = tensors[0].mT if self.transposed and tensors[0].ndim == 2 else tensors[0], len(self.ours)
        if not stacked.ndim or stacked.shape[0] % count or (self.transposed and stacked.ndim != 2):
            raise CheckpointError(
                f"{self.theirs} has shape {tuple(tensors[0].shape)}, which does not split into {count}."
            )
        return [part.contiguous() for part in stacked.chunk(count)]

    def write(self, tensors: list[Tensor], sizes: Sizes) -> list[Tensor]:
        stacked = torch.cat(tensors)
        return [stacked.mT.contiguous() if self.transposed else stacked]


@dataclass(frozen=True)
class Join(OneOfOurs):
    """Several foreign tensors, all alike, that are stacked along the first axis of one of ours."""

    foreign: tuple[str, ...]
    mine: str

    def read(self, tensors: list[Tensor]) -> list[Tensor]:
        if len({tensor.shape for tensor in tensors}) > 1:
            shapes = some(str(tuple(tensor.shape)) for tensor in tensors)
            raise CheckpointError(f"{some(self.foreign)} have shapes {shapes}, and should be alike.")
        return [torch.cat(tensors)]

    def write(self, tensors: list[Tensor], sizes: Sizes) -> list[Tensor]:
        return list(tensors[0].chunk(len(self.foreign)))


@dataclass(frozen=True)
class Rearrange(OneOfTheirs, OneOfOurs):
    """The same numbers with their axes in another order, or merged.

    Args:
        axes: as einops reads it, from theirs to ours: `"dim heads width -> (heads width) dim"`. An axis that is
            merged on our side must be in `sizes` when writing, by the name it has here.
    """

    theirs: str
    mine: str
    axes: str

    def read(self, tensors: list[Tensor]) -> list[Tensor]:
        theirs, shape = self.axes.split("->")[0].split(), tuple(tensors[0].shape)
        ones = [size for axis, size in zip(theirs, shape, strict=False) if axis == "1"]
        if len(shape) != len(theirs) or any(size != 1 for size in ones):
            raise CheckpointError(f"{self.theirs} has shape {shape}; expected axes {' '.join(theirs)}.")
        return [rearrange(tensors[0], self.axes)]

    def write(self, tensors: list[Tensor], sizes: Sizes) -> list[Tensor]:
        theirs, ours = (side.strip() for side in self.axes.split("->"))
        apart = {name: sizes[name] for name in re.findall(r"\w+", ours) if name in sizes}
        return [rearrange(tensors[0], f"{ours} -> {theirs}", **apart)]


@dataclass(frozen=True)
class Tie(OneOfOurs):
    """One tensor of ours that the foreign file holds several times."""

    foreign: tuple[str, ...]
    mine: str

    def read(self, tensors: list[Tensor]) -> list[Tensor]:
        if not all(torch.equal(tensors[0], other) for other in tensors[1:]):
            raise CheckpointError(f"{some(self.foreign)} are one tensor in this model, and differ in the file.")
        return tensors[:1]

    def write(self, tensors: list[Tensor], sizes: Sizes) -> list[Tensor]:
        return [tensors[0]] * len(self.foreign)


@dataclass(frozen=True)
class Ignore(Unread):
    """A foreign tensor that we do without.

    Args:
        reason: why, as a person may read it.
        rebuild: gives the foreign tensors by their full names when writing, from ours; without it they are not written.
    """

    theirs: str
    reason: str
    rebuild: Callable[[Tensors], dict[str, Tensor]] | None = None


@dataclass(frozen=True)
class Again(Unread):
    """A foreign tensor that older files hold a second time, under another name: read to be compared, never written.

    Args:
        theirs: the second name.
        first: the name that another rule claims.
    """

    theirs: str
    first: str

    def check(self, tensors: Tensors, values: Mapping[str, str]) -> None:
        """Refuse a file in which the two differ.

        Raises:
            CheckpointError: they are one tensor in this model.
        """
        one, other = self.first.format(**values), self.theirs.format(**values)
        if one not in tensors or not torch.equal(tensors[one], tensors[other]):
            raise CheckpointError(f"{one} and {other} are one tensor in this model, and differ in the file.")


@dataclass(frozen=True)
class Alias:
    """An old spelling of a foreign name: read, never written."""

    old: str
    new: str


Rule = Rename | Split | Join | Rearrange | Tie | Ignore | Again


def within(prefix: str, rules: Iterable[Rule | Alias], ours: str = "") -> tuple[Rule | Alias, ...]:
    """The same rules for a model that stands inside another under a name: `within("vit.", ENCODER)`.

    Args:
        prefix: what stands before the foreign names.
        rules: for the model alone.
        ours: what stands before our names, where ours is inside another too.
    """
    moved = []
    for rule in rules:
        if isinstance(rule, Alias):
            moved.append(Alias(prefix + rule.old, prefix + rule.new))
            continue
        if isinstance(rule, Again):
            moved.append(Again(prefix + rule.theirs, prefix + rule.first))
            continue
        if isinstance(rule, Split):
            rule = replace(rule, ours=tuple(ours + name for name in rule.ours))
        elif not isinstance(rule, Ignore):
            rule = replace(rule, mine=ours + rule.mine)
        if isinstance(rule, Join | Tie):
            moved.append(replace(rule, foreign=tuple(prefix + name for name in rule.foreign)))
        else:
            moved.append(replace(rule, theirs=prefix + rule.theirs))
    return tuple(moved)


def fill(templates: Iterable[str], values: Mapping[str, str]) -> list[str]:
    """Names, from templates and what stands in their placeholders."""
    return [template.format(**values) for template in templates]


def matches(templates: tuple[str, ...], names: Iterable[str]) -> list[dict[str, str]]:
    """What the placeholders of a rule stand for, once for each group of names that belong together.

    Raises:
        CheckpointError: a group of which only some are there.
    """
    names = list(names)
    groups: dict[tuple, dict[str, str]] = {}
    for template in templates:
        for name in names:
            if found := pattern(template).fullmatch(name):
                groups[tuple(found.groupdict().items())] = found.groupdict()
    there = set(names)
    for values in groups.values():
        group = fill(templates, values)
        if absent := [name for name in group if name not in there]:
            present = next(name for name in group if name in there)
            raise CheckpointError(f"{present!r} is there, but {some(absent)}, which belongs with it, is not.")
    return list(groups.values())


class KeyMap:
    """A table that translates both ways.

    Args:
        rules: the rows. Aliases are applied first, in their order.
    """

    def __init__(self, rules: Iterable[Rule | Alias]) -> None:
        rules = tuple(rules)
        self.aliases = tuple(rule for rule in rules if isinstance(rule, Alias))
        self.rules: tuple[Rule, ...] = tuple(rule for rule in rules if not isinstance(rule, Alias))

    def spelled(self, name: str) -> str:
        """A foreign name in its present spelling."""
        for alias in self.aliases:
            if found := pattern(alias.old).fullmatch(name):
                name = alias.new.format(**found.groupdict())
        return name

    def claims(self, name: str) -> list[Rule]:
        """The rules that claim a foreign name: one, unless the table is wrong or the name is foreign to it."""
        now = self.spelled(name)
        return [rule for rule in self.rules if any(pattern(theirs).fullmatch(now) for theirs in rule.foreign)]

    def unclaimed(self, names: Iterable[str]) -> list[str]:
        """The foreign names that no rule knows."""
        return [name for name in names if not self.claims(name)]

    def ignored(self, names: Iterable[str]) -> dict[str, str]:
        """The foreign names that are left out, and why."""
        return {name: rule.reason for name in names for rule in self.claims(name) if isinstance(rule, Ignore)}

    def unread(self, names: Iterable[str]) -> tuple[int, int]:
        """How many of some foreign names no rule knows, and how many are left out: least where a table fits best."""
        claimed = [self.claims(name) for name in names]
        ignored = sum(any(isinstance(rule, Ignore) for rule in rules) for rules in claimed)
        return sum(not rules for rules in claimed), ignored

    def read(self, foreign: Tensors) -> dict[str, Tensor]:
        """Our tensors, from all the foreign ones; those without a single number say nothing and are left out.

        Raises:
            CheckpointError: a name that no rule knows or that is there in two spellings, a tensor that does not
                split, a group that is not complete.
        """
        spelled: dict[str, Tensor] = {}
        for name, tensor in foreign.items():
            if (now := self.spelled(name)) in spelled:
                raise CheckpointError(f"The file holds {now!r} twice, once under an old spelling. Remove one of them.")
            spelled[now] = tensor
        if lost := self.unclaimed(spelled):
            raise CheckpointError(f"{len(lost)} of {len(spelled)} tensors have no meaning in this model: {some(lost)}.")
        assert all(len(self.claims(name)) == 1 for name in spelled), "two rules of one table claim the same name"
        ours: dict[str, Tensor] = {}
        for rule in self.rules:
            for values in matches(rule.foreign, spelled):
                if isinstance(rule, Again):
                    rule.check(spelled, values)
                targets = fill(rule.ours, values)
                if twice := [name for name in targets if name in ours]:
                    raise CheckpointError(f"Two tensors of the file mean {some(twice)}.")
                read = rule.read([spelled[name] for name in fill(rule.foreign, values)])
                ours.update(zip(targets, read, strict=True))
        return {name: tensor for name, tensor in ours.items() if tensor.numel()}

    def write(self, ours: Tensors, sizes: Sizes | None = None) -> dict[str, Tensor]:
        """The foreign tensors, from all of ours.

        Args:
            ours: every tensor of the model, by our names.
            sizes: lengths of axes that are merged in our tensors and apart in theirs, by name (`heads`).

        Raises:
            CheckpointError: one of ours has no place in the foreign format.
        """
        foreign: dict[str, Tensor] = {}
        written: set[str] = set()
        for rule in self.rules:
            for values in matches(rule.ours, ours):
                sources = fill(rule.ours, values)
                tensors = rule.write([ours[name] for name in sources], sizes or {})
                foreign.update(zip(fill(rule.foreign, values), tensors, strict=True))
                written.update(sources)
            if isinstance(rule, Ignore) and rule.rebuild is not None:
                foreign.update(rule.rebuild(ours))
            if isinstance(rule, Rename) and rule.empty is not None and rule.mine not in ours:
                foreign[rule.theirs] = rule.empty(ours)
        if lost := [name for name in ours if name not in written]:
            raise CheckpointError(f"This format has no place for {len(lost)} of {len(ours)} tensors: {some(lost)}.")
        return foreign
