"""A pre-training's plan and result as text for the terminal."""

from pathlib import Path

from underdog.evaluation.statistics import Estimate
from underdog.evaluation.words import seconds
from underdog.nanofft.prepare import CorpusReport
from underdog.pretraining.pretrain import RESULT, Planned, Pretrained
from underdog.pretraining.speed import Speed


def planned_text(found: Planned) -> str:
    """What would be done, and about how long it would take."""
    return "\n".join(
        [
            _model(found),
            _corpus(found.corpus),
            f"Training: {found.steps:,} steps, {found.tokens:,} tokens, {found.passes:,.2f} passes over the training texts.",
            _speed(found.speed),
            f"That takes about {seconds(found.seconds)}; held-out losses and samples come on top.",
        ]
    )


def pretrained_text(found: Pretrained, folder: Path) -> str:
    """What came of it, and where it is."""
    trained = f"{found.steps:,} steps, {found.tokens:,} tokens, {found.passes:,.2f} passes, {seconds(found.seconds)}"
    newest = max((sample.step for sample in found.samples), default=0)
    samples = [f"  {sample.prompt!r} … {sample.text!r}" for sample in found.samples if sample.step == newest]
    return "\n".join(
        [
            _model(found),
            _corpus(found.corpus),
            f"Trained: {trained}.",
            _speed(found.speed),
            f"Validation: {_bits(found.valid.bits_per_character)}. Test: {_bits(found.test.bits_per_character)}.",
            *(["It writes:", *samples] if samples else []),
            f"Model:   {folder / found.model}",
            f"Figures: {folder / RESULT}",
        ]
    )


def _model(found: Planned | Pretrained) -> str:
    learning = "" if found.trained_parameters == found.parameters else f", {found.trained_parameters:,} of which learn"
    return f"{found.name}: {found.parameters:,} parameters{learning}."


def _corpus(report: CorpusReport) -> str:
    parts = ", ".join(
        f"{name} {part.tokens:,} tokens of {len(part.documents)} text{'s' * (len(part.documents) != 1)}"
        for name, part in report.parts.items()
    )
    return (
        f"Texts: {report.folder}: {parts}; {report.characters_per_token:.2f} characters a token, "
        f"{report.vocabulary:,} tokens known.{_removed(report)}"
    )


def _removed(report: CorpusReport) -> str:
    """What cleaning found, step by step."""
    found = ", ".join(f"{step} {count:,}" for step, count in report.removed.items() if count)
    kept = f"{report.characters_kept:,} of {report.characters_read:,} characters are left"
    return f"\nCleaning found: {found}; {kept}." if found else ""


def _speed(speed: Speed) -> str:
    N, K, M = speed.product
    rates = ", ".join(f"{rate / 1e9:,.0f} in {name}" for name, rate in speed.product_flop_per_second.items())
    return (
        f"Speed: {speed.tokens_per_second:,.0f} tokens/s = {speed.flop_per_second / 1e9:,.1f} GFLOP/s, {speed.share:.0%} of what "
        f"this machine reaches on a matrix product of {N}×{K} by {K}×{M} ({rates})."
    )


def _bits(found: Estimate) -> str:
    return f"{found.mean:.3f} bits per character [{found.low:.3f}, {found.high:.3f}]"
