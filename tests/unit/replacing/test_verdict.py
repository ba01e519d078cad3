"""The verdict's sentence: what is claimed follows from the intervals, and a changed LLM voids it."""

from underdog.evaluation.statistics import Comparison, Estimate
from underdog.replacing.compared import Entry
from underdog.replacing.verdict import BITS, change, share, verdict_of

WAY = "paired: bootstrap over items"


def _estimate(mean: float, spread: float = 0.01) -> Estimate:
    return Estimate(mean=mean, low=mean - spread, high=mean + spread, n=100, method="bootstrap over items")


def _difference(mean: float, p: float = 0.001) -> Comparison:
    return Comparison(difference=_estimate(mean), p_value=p, paired=True, method=WAY)


def _entry(name: str, kind: str, role: str, bits: float, **fields: object) -> Entry:
    given = {"settings": {}, "parameters": 1_000_000, "in_memory": 2_000_000, "valid": bits, "quality": _estimate(bits)}
    return Entry(name=name, kind=kind, role=role, **(given | fields))  # type: ignore[arg-type]


LLM = _entry("llm", "llm", "llm", 2.5, parameters=0)
FULL = _entry("full", "full", "adapted", 2.0, own_change=_difference(0.2))
LORA = _entry("lora", "lora", "adapted", 2.15, rank=8, own_change=_difference(0.05))


def _best(versus_lora: float, **fields: object) -> Entry:
    given = {"closed": _estimate(0.8, 0.05), "versus_lora": _difference(versus_lora)}
    return _entry("residual", "residual", "replaceable", 2.1, **(given | fields))


def test_the_sentence_says_how_much_is_closed_and_how_lora_does():
    best = _best(-0.05)
    assert verdict_of([LLM, best, LORA, FULL], best, BITS, True) == (
        "residual (1M parameters) closes 80 % (75 to 85) of the gap between the LLM alone and the fully fine-tuned one: "
        "2.100 (2.090–2.110) bits per character, the LLM alone 2.500 (2.490–2.510) bits per character, fully fine-tuned "
        "2.000 (1.990–2.010) bits per character. It is better than LoRA of rank 8 (1M): −0.050 (−0.060 to −0.040), p = 0.001. "
        "The LLM's weights are unchanged."
    )
    worse, level = _best(0.05), _best(0.005)
    assert "It is worse than LoRA of rank 8 (1M): +0.050" in verdict_of([LLM, worse, LORA, FULL], worse, BITS, True)
    assert "It cannot be told from LoRA" in verdict_of([LLM, level, LORA, FULL], level, BITS, True)
    assert "It is better than LoRA" in verdict_of([LLM, worse, LORA, FULL], worse, "accuracy", True), "more is better there"


def test_what_is_lost_in_the_llms_own_domain_is_said_of_everybody():
    best = _best(-0.05, own_change=_difference(0.1))
    assert (
        "nothing is lost once the small model is taken off; at work it costs +0.100 bits per character, LoRA +0.050, full "
        "fine-tuning +0.200 for good."
    ) in verdict_of([LLM, best, LORA, FULL], best, BITS, True)


def test_no_gap_no_small_model_and_a_changed_llm_are_said():
    best = _best(-0.05, closed=None)
    said = verdict_of([LLM, best, FULL, LORA], best, BITS, True)
    assert "has no gap to close, because fine-tuning all of the LLM is not clearly better" in said
    assert "was compared with the LLM alone" in verdict_of([LLM, best], best, BITS, True)
    assert (
        verdict_of([LLM, FULL], None, BITS, True) == "No replaceable small model was compared. The LLM's weights are unchanged."
    )
    assert verdict_of([LLM, best], best, BITS, False).endswith("The LLM's weights HAVE CHANGED: this comparison is void.")


def test_figures_have_true_minus_signs():
    assert change(_difference(-0.012), BITS) == "−0.012 (−0.022 to −0.002)"
    assert change(_difference(0.05), "accuracy") == "+5.0 points (4.0–6.0)"
    assert share(_estimate(-0.5, 0.1)) == "−50 % (−60 to −40)"
