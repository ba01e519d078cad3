"""What a comparison says, in plain words."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from underdog.evaluation import words
from underdog.evaluation.statistics import Comparison, Estimate

if TYPE_CHECKING:
    from underdog.replacing.compared import Entry

BITS = "bits per character"


def verdict_of(entries: "Sequence[Entry]", best: "Entry | None", unit: str, unchanged: bool) -> str:
    """One or two sentences: how much of the gap is closed, what LoRA does, and whether the LLM is what it was."""
    llm = next(one for one in entries if one.role == "llm")
    full = next((one for one in entries if one.kind == "full"), None)
    lora = next((one for one in entries if one.kind == "lora"), None)
    hash_ = "The LLM's weights are unchanged." if unchanged else "The LLM's weights HAVE CHANGED: this comparison is void."
    if best is None:
        return f"No replaceable small model was compared. {hash_}"
    head = f"{_known(best)} {_closing(best, full)}: {figure(best.quality, unit)}, the LLM alone {figure(llm.quality, unit)}"
    if full is not None:
        head += f", fully fine-tuned {figure(full.quality, unit)}"
    return " ".join([f"{head}.", *([_beside_lora(best, lora, unit)] if lora is not None else []), *_own(entries, best), hash_])


def figure(found: Estimate, unit: str) -> str:
    """`2.314 (2.301–2.327) bits per character`, or a share in per cent."""
    if unit == BITS:
        return f"{found.mean:.3f} ({found.low:.3f}–{found.high:.3f}) {unit}"
    return f"{words.percent(found)} {unit}"


def change(found: Comparison, unit: str) -> str:
    """`−0.012 (−0.020 to −0.004)`, in bits, or in points of a share."""
    one = found.difference
    if unit == BITS:
        return f"{_signed(one.mean)} ({_signed(one.low)} to {_signed(one.high)})"
    return words.points(one)


def share(found: Estimate) -> str:
    """`81 % (74–88)`."""
    return f"{100 * found.mean:.0f} % ({100 * found.low:.0f} to {100 * found.high:.0f})".replace("-", "−")


def _known(one: "Entry") -> str:
    return f"{one.name} ({words.size(one.parameters)} parameters)"


def _closing(best: "Entry", full: "Entry | None") -> str:
    if best.closed is not None:
        return f"closes {share(best.closed)} of the gap between the LLM alone and the fully fine-tuned one"
    if full is not None:
        return "has no gap to close, because fine-tuning all of the LLM is not clearly better than the LLM alone"
    return "was compared with the LLM alone"


def _beside_lora(best: "Entry", lora: "Entry", unit: str) -> str:
    assert best.versus_lora is not None
    one = best.versus_lora.difference
    better, worse = (one.high < 0, one.low > 0) if unit == BITS else (one.low > 0, one.high < 0)
    verb = "is better than" if better else "is worse than" if worse else "cannot be told from"
    parameters = f"LoRA of rank {lora.rank} ({words.size(lora.parameters)})"
    return f"It {verb} {parameters}: {change(best.versus_lora, unit)}, {words.p_value(best.versus_lora.p_value)}."


def _own(entries: "Sequence[Entry]", best: "Entry") -> list[str]:
    """What is lost on the LLM's own domain, where that was measured."""
    if best.own_change is None:
        return []
    costs = {one.kind: _signed(one.own_change.difference.mean) for one in entries if one.role == "adapted" and one.own_change}
    at_work = [f"at work it costs {_signed(best.own_change.difference.mean)} bits per character"]
    at_work += [f"LoRA {costs['lora']}"] if "lora" in costs else []
    at_work += [f"full fine-tuning {costs['full']} for good"] if "full" in costs else []
    return [f"On the LLM's own domain nothing is lost once the small model is taken off; {', '.join(at_work)}."]


def _signed(value: float) -> str:
    text = f"{value:+.3f}"
    return "0.000" if float(text) == 0 else text.replace("-", "−")
