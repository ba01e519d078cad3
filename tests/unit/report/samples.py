"""Verdicts made by hand: a clear one, and one that finds none and has only a published figure to compare with."""

from underdog.evaluation import words
from underdog.evaluation.cost import Cost, Spread
from underdog.evaluation.statistics import Comparison, Estimate
from underdog.knowledge.select.select import Change, Selected
from underdog.search.verdict import Contender, Contrast, Disagreement, Opening, Selection, Trial, Verdict
from underdog.task.recipes import FILTERS, Filter
from underdog.task.spec import Goal

GOAL = Goal(at_least=0.85, finalists=2)


def estimate(mean: float, low: float, high: float, n: int = 3080, method: str = "bootstrap over items and seeds") -> Estimate:
    return Estimate(mean=mean, low=low, high=high, n=n, method=method)


def spread(median: float, by: float = 0.04) -> Spread:
    return Spread(median=median, low=median * (1 - by), high=median * (1 + by), runs=5)


def cost(parameters: int, memory_bytes: float, latency_s: float, per_second: float) -> Cost:
    return Cost(
        parameters=parameters,
        weights_bytes=parameters * 4,
        peak_memory_bytes=spread(memory_bytes),
        latency_p50_s=spread(latency_s),
        latency_p95_s=spread(latency_s * 1.6, 0.1),
        throughput_per_s=spread(per_second),
        best_batch=64,
        device="cpu",
        items=200,
    )


def compared(mean: float, low: float, high: float, p: float, p_holm: float | None = None, *, paired: bool = True) -> Comparison:
    method = "paired: exact McNemar" if paired else "unpaired: two-proportion test against a published figure on 1,165 items"
    return Comparison(difference=estimate(mean, low, high), p_value=p, p_holm=p_holm, paired=paired, method=method)


def trial(
    label: str, asked: str, parameters: int, quality: float, train_s: float, *, promising: bool, seed: int = 0, **more: object
) -> Trial:
    values = {
        "fingerprint": f"{parameters:016x}",
        "label": label,
        "asked_size": asked,
        "parameters": parameters,
        "trained_parameters": parameters,
        "recipe": "labels",
        "tuning": "full",
        "seed": seed,
        "quality": estimate(quality, quality - 0.02, quality + 0.02, 1003, "wilson"),
        "train_seconds": train_s,
        "train_peak_bytes": 60 * parameters + 400_000_000,
        "steps": 1252,
        "target_tokens_per_second": 1840.4,
        "promising": promising,
    }
    return Trial.model_validate(values | more)


REFERENCE = Contender(
    name="smollm2",
    role="reference",
    detail="smollm2-135m-instruct, 5-shot (0-shot 12.4 % on validation)",
    parameters=134_515_008,
    quality=estimate(0.158, 0.1456, 0.1713, method="wilson"),
    per_seed={0: 0.158},
    cost=cost(134_515_008, 1.21e9, 0.0412, 20.3),
    unscored=1,
)
WINNER = Contender(
    name="8.4M · labels · full",
    role="finalist",
    detail="smollm2-135m-instruct cut to 2 layers and 2,240 tokens; 1,252 steps in 402 s",
    parameters=8_412_345,
    quality=estimate(0.8531, 0.8402, 0.8648),
    per_seed={0: 0.8512, 1: 0.8561, 2: 0.852},
    versus_reference=compared(0.6951, 0.678, 0.712, 1e-300, 1e-299),
    cost=cost(8_412_345, 0.2412e9, 0.0034, 244.0),
    meets_goal=True,
)
SMALLER = Contender(
    name="4.2M · labels · full",
    role="finalist",
    detail="smollm2-135m-instruct cut to 1 layer and 1,310 tokens; 1,252 steps in 231 s",
    parameters=4_203_008,
    quality=estimate(0.7744, 0.7581, 0.7903),
    per_seed={0: 0.771, 1: 0.7781, 2: 0.7741},
    versus_reference=compared(0.6164, 0.597, 0.635, 1e-280, 1e-280),
    cost=cost(4_203_008, 0.2204e9, 0.0021, 391.0),
    meets_goal=False,
)
CONTROLS = (
    Contender(name="chance", role="control", detail="a blind guess", quality=estimate(1 / 77, 1 / 77, 1 / 77, method="exact")),
    Contender(
        name="majority answer",
        role="control",
        detail="always 'card_payment_fee_charged', the commonest in training",
        quality=estimate(0.013, 0.0096, 0.0177, method="wilson"),
        versus_reference=compared(-0.145, -0.157, -0.132, 1e-90),
    ),
    Contender(
        name="2 layers, 2,240 tokens, untrained",
        role="control",
        detail="the winner's student before training",
        parameters=8_412_345,
        quality=estimate(0.0214, 0.0169, 0.0271, method="wilson"),
        versus_reference=compared(-0.1366, -0.15, -0.123, 1e-80),
    ),
)
TRIALS = (
    trial("2.1M · 1 layer, 640 tokens · labels · full", "2M", 2_103_552, 0.612, 143, promising=False),
    trial("4.2M · 1 layer, 1,310 tokens · labels · full", "4M", 4_203_008, 0.781, 231, promising=False),
    trial(
        "4.2M · 1 layer, 1,310 tokens · labels · lora", "4M", 4_203_008, 0.594, 180, promising=False, trained_parameters=312_000
    ),
    trial(
        "8.4M · 2 layers, 2,240 tokens · labels · full",
        "8M",
        8_412_345,
        0.861,
        402,
        promising=True,
        notes=("batch halved after running out of memory at step 12",),
    ),
    trial("15.5M · 4 layers, 2,240 tokens · labels · full", "16M", 15_540_000, 0.874, 811, promising=True),
)
DISAGREEMENTS = (
    Disagreement(
        id="17",
        prompt="I was charged twice for the same purchase at the supermarket yesterday, how do I get one of them back?\nIntent:",
        gold="transaction_charged_twice", winner="transaction_charged_twice", reference="request_refund", who_is_right="winner",
    ),
    Disagreement(
        id="203",
        prompt="Which <b>currencies</b> do you hold & exchange | is GBP one of them?",
        gold="fiat_currency_support", winner="fiat_currency_support", reference=None, who_is_right="winner",
    ),
    Disagreement(
        id="411",
        prompt="What is the delivery time to the US?",
        gold="card_delivery_estimate", winner="country_support", reference="card_delivery_estimate", who_is_right="reference",
    ),
    Disagreement(
        id="512",
        prompt="My top-up has gone.",
        gold="top_up_reverted", winner="top_up_failed", reference="pending_top_up", who_is_right="neither",
    ),
)  # fmt: skip


def clear() -> Verdict:
    """8.4M parameters beat the reference; 4.2M do not reach what is asked for."""
    sentence = words.sentence("beats", metric="accuracy", goal=GOAL, reference=REFERENCE, best=WINNER, largest=15_540_000)
    return Verdict(
        task="banking-intents",
        metric="accuracy",
        outcome="beats",
        sentence=sentence,
        reference="smollm2",
        winner=WINNER.name,
        winner_folder="trials/000000000080619f/model",
        goal=words.goal_in_words(GOAL),
        confidence=0.95,
        seeds=(0, 1, 2),
        contenders=(REFERENCE, WINNER, SMALLER, *CONTROLS),
        trials=TRIALS,
        disagreements=DISAGREEMENTS,
        disagreement_counts={"both right": 451, "winner right": 2176, "reference right": 36, "both wrong": 416},
        split_sizes={"train": 8994, "valid": 1003, "test": 3080},
        removed={"also in test": 6},
        notes=("The untrained base was asked with the same prompt as the students.",),
        openings=(Opening(when="2025-03-04T10:11:12+00:00", reason="confirm finalists, references and controls"),),
        machine={"processor": "An Example CPU @ 2.80GHz", "cores": "2", "memory": "8 GiB", "system": "Linux 6.1", "threads": "2"},
        versions={"python": "3.11.7", "underdog": "0.1.0", "torch": "2.8.0", "transformers": "5.0.0"},
        commit="0123456789ab",
        command="underdog find examples/banking77.yaml",
        minutes=31.4,
        budget_reached=False,
    )


def contrast(way: str, mean: float, low: float, high: float, p: float, against: str = "labels · full") -> Contrast:
    return Contrast(way=way, against=against, size="8.4M", comparison=compared(mean, low, high, p / 5, p))


def selected(name: Filter, changed: int, dropped: int, *examples: Change) -> Selected:
    meaning = FILTERS[name]
    return Selected(teacher="LLaMA", filter=name, meaning=meaning, seen=1113, changed=changed, dropped=dropped, examples=examples)


def ways() -> Verdict:
    """Several ways of teaching one student, compared."""
    return clear().model_copy(
        update={
            "contrasts": (
                contrast("untrained", -0.8317, -0.845, -0.818, 1e-300),
                contrast("labels · lora", -0.0312, -0.0441, -0.0183, 2e-5),
                contrast("both teachers, cleaned · full", 0.0081, -0.0019, 0.0181, 0.31),
                contrast("shuffled <reasons> · full", -0.0042, -0.0131, 0.0047, 1.0),
                contrast("both · full", 0.0023, -0.0065, 0.0111, 1.0, against="one teacher · full"),
            ),
            "selections": (
                Selection(
                    recipes=("both teachers, cleaned", "shuffled <reasons>"),
                    results=(
                        selected("run_on", 288, 0, Change(item="7", before="It is hot. Question: Why", after="It is hot.")),
                        selected("cut_off", 640, 31, Change(item="9", before="The <answer> is not", after=None)),
                    ),
                ),
            ),
        }
    )


def none_found() -> Verdict:
    """The best of two finalists stays short of a published figure, which has no size, no cost and no single answers."""
    goal = Goal(within=0.02)
    published = Contender(
        name="flan-t5-xl",
        role="reference",
        detail="published figure, without its predictions",
        quality=estimate(0.6824, 0.6551, 0.7085, 1165, "wilson"),
        published_source="arXiv 2402.04616, table 2",
    )
    best = Contender(
        name="135M · rationales · lora",
        role="finalist",
        detail="smollm2-135m-instruct, whole",
        parameters=134_515_008,
        quality=estimate(0.312, 0.289, 0.336, 1165),
        per_seed={0: 0.305, 1: 0.319},
        versus_reference=compared(-0.3704, -0.406, -0.334, 1e-70, 1e-70, paired=False),
        meets_goal=False,
        unscored=3,
    )
    chance = Contender(
        name="chance", role="control", detail="a blind guess", quality=estimate(0.2501, 0.2501, 0.2501, 1165, "exact")
    )
    return clear().model_copy(
        update={
            "task": "arc-challenge",
            "outcome": "none",
            "sentence": words.sentence("none", metric="accuracy", goal=goal, reference=published, best=best, largest=134_515_008),
            "reference": "flan-t5-xl",
            "winner": None,
            "winner_folder": None,
            "goal": words.goal_in_words(goal),
            "seeds": (0, 1),
            "contenders": (published, best, chance),
            "trials": (trial("135M · rationales · lora", "135M", 134_515_008, 0.33, 1432, promising=False),),
            "disagreements": (),
            "disagreement_counts": {},
            "notes": ("No candidate looked good enough on validation; the best of them was measured on test all the same.",),
            "budget_reached": True,
            "commit": None,
        }
    )
