"""What can be read of a kernel in its PTX that no simulator shows: barriers that not all threads of a block come to,
copies that nobody waits for, accesses wider than what they are aligned to, and products of 32 bits in addresses.

`docs/gpu_reading.md` says what was found, and `tests/test_cuda_ptx.py` looks again. Source: NVIDIA, PTX ISA, sections
on bar, cp.async, ld and mma.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

#: Instructions that all threads of a block, or of a warp, have to come to together.
TOGETHER = ("bar.", "barrier.", "mma.", "wmma.", "ldmatrix", "shfl.", "vote.", "match.", "redux.")
#: What no kernel has: exchanges within a warp, with masks; atomic operations, whose order differs from run to run; and
#: calls of functions, but of libdevice's.
NEVER = ("shfl.", "vote.", "match.", "redux.", "atom.", "red.", "membar", "fence", "call", "activemask")


class Instruction(NamedTuple):
    """One instruction: its predicate's register, name, the registers that it writes and those that it reads."""

    predicate: str
    name: str
    writes: tuple[str, ...]
    reads: tuple[str, ...]
    text: str

    @property
    def address(self) -> tuple[str, ...]:
        """The registers of its addresses in global memory."""
        if not self.name.startswith(("ld.global", "st.global", "cp.async.c", "ld.f", "ld.u", "ld.b", "ld.v", "st.f")):
            return ()
        return tuple(_REGISTER.findall(" ".join(re.findall(r"\[([^\]]*)\]", self.text)[-1:])))


@dataclass
class Block:
    """Instructions that follow each other, and the blocks that may come next."""

    label: str
    code: list[Instruction] = field(default_factory=list)
    following: list[int] = field(default_factory=list)


_REGISTER = re.compile(r"%[a-z]+\d+|%n?(?:tid|ctaid)\.[xyz]|%laneid|%warpid|%clock\w*")
_LINE = re.compile(r"(?:@!?(%p\d+)\s+)?([a-z][\w.:]*)\s*(.*)", re.DOTALL)


def _instruction(text: str) -> Instruction:
    found = _LINE.fullmatch(text)
    if found is None:
        raise ValueError(f"no instruction of PTX: {text!r}")
    predicate, name, rest = found.groups()
    first = re.match(r"\{[^}]*\}|[^,]*", rest)
    target = first[0] if first and not name.startswith(("st.", "bar", "bra", "cp.", "ret", "call")) else ""
    writes, reads = _REGISTER.findall(target), _REGISTER.findall(rest[len(target) :])
    return Instruction(predicate or "", name, tuple(writes), (*reads, *([predicate] if predicate else ())), text)


class Reading:
    """A kernel's PTX as blocks of instructions, with what was found in it."""

    def __init__(self, text: str) -> None:
        head, _, body = re.sub(r"//[^\n]*", "", text).partition(".entry ")
        body = body[body.index("\n{") + 2 : body.index("\n}")]
        arrays = re.findall(r"\.shared \.align (\d+) \.b8 \S+?\[(\d*)\]", head + body)
        self.shared = [(int(align), int(size or 0)) for align, size in arrays]
        """Alignment and bytes of each array in shared memory; 0 bytes of dynamic memory."""
        self.blocks = _blocks(body)
        self.code = [one for block in self.blocks for one in block.code]

    @cached_property
    def _sources(self) -> dict[str, list[Instruction]]:
        found = defaultdict(list)
        for one in self.code:
            for register in one.writes:
                found[register].append(one)
        return found

    @cached_property
    def _last(self) -> list[int]:
        """For each block, as bits, the blocks that every way from it to the end goes through."""
        every = (1 << len(self.blocks)) - 1
        after = [every if block.following else 1 << i for i, block in enumerate(self.blocks)]
        changed = True
        while changed:
            changed = False
            for i in range(len(self.blocks) - 1, -1, -1):
                common = every
                for other in self.blocks[i].following:
                    common &= after[other]
                if self.blocks[i].following and (new := common | 1 << i) != after[i]:
                    after[i], changed = new, True
        return after

    @cached_property
    def alone(self) -> set[int]:
        """Blocks that some threads of a block may come to without the others.

        What a thread reads from memory counts as its own. So does a register with several values that is written in
        such a block.
        """
        depends: dict[int, set[int]] = defaultdict(set)  # which branches decide about a block
        for i, block in enumerate(self.blocks):
            for other in block.following if len(block.following) > 1 else ():
                for j in range(len(self.blocks)):
                    if self._last[other] >> j & 1 and (j == i or not self._last[i] >> j & 1):
                        depends[j].add(i)
        own: set[str] = {"%tid.x", "%tid.y", "%tid.z", "%laneid", "%warpid"}
        found: set[int] = set()
        before = -1
        while before != len(own) + len(found):
            before = len(own) + len(found)
            for i, block in enumerate(self.blocks):
                if any(j in found or self._branches(j, own) for j in depends[i]):
                    found.add(i)
                for one in block.code:
                    loads = one.name.startswith("ld.") and (not one.name.startswith("ld.param") or "retval" in one.text)
                    several = i in found and any(len(self._sources[register]) > 1 for register in one.writes)
                    if loads or several or not own.isdisjoint(one.reads):
                        own.update(one.writes)
        return found

    def _branches(self, number: int, own: set[str]) -> bool:
        return any(one.name == "bra" and one.predicate in own for one in self.blocks[number].code)

    @cached_property
    def apart(self) -> list[str]:
        """Barriers and steps of a warp that threads may come to without the others."""
        return [one.text for i in sorted(self.alone) for one in self.blocks[i].code if one.name.startswith(TOGETHER)]

    @cached_property
    def forbidden(self) -> list[str]:
        """Instructions that no kernel has."""
        return [one.text for one in self.code if one.name.startswith(NEVER) and "__internal_" not in one.text]

    @cached_property
    def copies(self) -> list[str]:
        """What is wrong with copies to shared memory: none makes a group or is waited for, or a barrier before which
        nobody waits. (Whether the right groups are, the simulator shows: there bytes arrive as late as they may.)"""
        names = [one.name for one in self.code]
        if not any(map(_copies, names)):
            return []
        wrong = [name for name in ("cp.async.commit_group", "cp.async.wait_group") if name not in names]
        for block in self.blocks:
            waited = False
            for one in block.code:
                if one.name.startswith("bar.") and not waited:
                    wrong.append(f"{one.text} in {block.label} without a wait for copies")
                waited = one.name == "cp.async.wait_group" or (waited and not one.name.startswith(("cp.", "st.shared")))
        return wrong

    @cached_property
    def widest_shared(self) -> int:
        """Bytes of the widest access to several elements of shared memory at once."""
        several = [one for one in self.code if re.match(r"(ld|st)\.shared\.v|cp\.async\.c[ag]", one.name)]
        return max(map(_width, several), default=0)

    @cached_property
    def wide(self) -> set[str]:
        """Accesses of several elements at once to global memory."""
        return {one.name for one in self.code if one.name.startswith(("ld.global.v", "st.global.v", "cp.async.cg"))}

    @cached_property
    def narrow(self) -> list[str]:
        """Where what addresses in global memory are made from is cut to 32 bits, or multiplied in them.

        LLVM divides numbers that it finds small in 32 bits: that cuts nothing, nor does a quotient times its divisor.
        """
        uses = defaultdict(list)
        for one in self.code:
            for register in one.reads:
                uses[register].append(one.name)
        ahead = {register for one in self.code for register in one.address}
        seen: set[str] = set()
        found = []
        while ahead:
            register = ahead.pop()
            seen.add(register)
            for one in self._sources[register]:
                if re.match(r"cvt\.[us]32\.[us]64", one.name):
                    harms = not all(name.startswith(_DIVIDING) for name in uses[register])
                else:
                    harms = bool(re.match(r"(mul\.lo|mad\.lo)\.[sub]32|shl\.b32", one.name)) and not self._undoes(one)
                if harms:
                    found.append(one.text)
                if not one.name.startswith("ld."):
                    ahead.update(set(one.reads) - seen)
        return found

    def _undoes(self, product: Instruction) -> bool:
        quotients = [(register, one.reads[-1]) for register in product.reads for one in self._sources[register]
                     if one.name.startswith("div.") and len(one.reads) > 1]
        return any(set(product.reads) == {quotient, divisor} for quotient, divisor in quotients)


#: What LLVM does with numbers that it divides in 32 bits.
_DIVIDING = ("div.", "rem.", "mul.", "sub.", "setp.")


def _copies(name: str) -> bool:
    return name.startswith(("cp.async.ca", "cp.async.cg"))


def _width(one: Instruction) -> int:
    if _copies(one.name):
        return int(re.findall(r"\], (\d+)", one.text)[0])
    bits = int(re.findall(r"\d+$", one.name)[0])
    return bits // 8 * (int(found[0]) if (found := re.findall(r"\.v(\d)", one.name)) else 1)


def _blocks(body: str) -> list[Block]:
    blocks, jumps = [Block("entry")], []
    for part in re.split(r";|(\$\w+:)", body):
        text = " ".join((part or "").split()).lstrip("{} ")  # some instructions come in braces of their own
        if label := re.fullmatch(r"(\$?\w+):", text):
            blocks.append(Block(label[1]))
        elif text and not text.startswith("."):
            if blocks[-1].code and blocks[-1].code[-1].name.startswith(("bra", "ret")):
                blocks.append(Block(""))
            blocks[-1].code.append(_instruction(text))
    places = {block.label: i for i, block in enumerate(blocks) if block.label}
    for i, block in enumerate(blocks):
        last = block.code[-1] if block.code else None
        if last is not None and last.name.startswith("bra"):
            jumps.append(last)
            block.following.append(places[last.text.split()[-1]])
        ends = last is not None and last.name.startswith(("bra", "ret")) and not last.predicate
        if not ends and i + 1 < len(blocks):
            block.following.append(i + 1)
    return blocks
