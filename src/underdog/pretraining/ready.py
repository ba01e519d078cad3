"""Everything that a pre-training needs, made and checked before it starts."""

from dataclasses import dataclass

from underdog import models, runs
from underdog.errors import TaskError
from underdog.evaluation.documents import check_measurable
from underdog.models import LanguageModel
from underdog.nanofft.prepare import Corpus, prepare
from underdog.pretraining.spec import NewModel, PretrainingSpec, StartModel
from underdog.pretraining.watching import prompt_tokens
from underdog.progress import Progress
from underdog.settings import Settings
from underdog.training.blocks import Blocks
from underdog.training.loop import TRAINING_TOKENS


@dataclass(frozen=True, slots=True)
class Ready:
    """All that a pre-training needs, checked."""

    spec: PretrainingSpec
    corpus: Corpus
    lm: LanguageModel
    lessons: Blocks
    fingerprint: str

    @property
    def tokens(self) -> int:
        """To be learnt from."""
        return self.spec.training.steps * self.spec.training.batch_size * self.lessons.block

    @property
    def passes(self) -> float:
        """Over the training part."""
        return self.tokens / len(self.corpus.train)

    @property
    def unknown(self) -> int | None:
        """The token for text that the tokenizer does not know, where it is one of its own."""
        token = self.lm.tokenizer.unk_token_id
        return None if token == self.lm.end else token

    @property
    def tokens_at_once(self) -> int:
        """Tokens that go through the model together."""
        most = self.spec.training.tokens_per_batch or TRAINING_TOKENS[self.lm.device.type]
        block = self.lessons.block
        return block * min(max(1, most // block), self.spec.training.batch_size)


def get_ready(spec: PretrainingSpec, settings: Settings, progress: Progress) -> Ready:
    """Make or open the corpus, make or load the model, and check that they fit together."""
    identity, start = None, None
    if isinstance(spec.model, StartModel):
        start = models.load(spec.model.start, settings, progress)
        identity = models.identity(spec.model.start, settings)
        _check_context(spec.model, start)
    corpus = prepare(spec.corpus, settings, progress, tokenizer=start and start.tokenizer)
    for part in (corpus.valid, corpus.test):
        check_measurable(part)
    lessons = Blocks(corpus.train.tokens, spec.model.context)
    models.seed(spec.seed)
    lm = _adapted(start, spec) if start else _fresh(spec, corpus)
    for prompt in spec.sampling.prompts:
        prompt_tokens(lm, prompt, spec)
    shape = spec.model_dump(mode="json", include={"model", "training", "seed"})
    shape["training"].pop("tokens_per_batch")
    name = runs.fingerprint({**shape, "identity": identity, "corpus": corpus.train.path.parent.name})
    return Ready(spec, corpus, lm, lessons, name)


def _check_context(model: StartModel, lm: LanguageModel) -> None:
    if model.context > lm.max_length:
        raise TaskError(
            f"model.context is {model.context}, but {model.start} reads {lm.max_length} tokens at most. "
            f"Allowed: 2 to {lm.max_length}."
        )


def _fresh(spec: PretrainingSpec, corpus: Corpus) -> LanguageModel:
    """A model with first weights from the seed."""
    assert isinstance(spec.model, NewModel)
    model, tokenizer = spec.model, corpus.tokenizer
    config = {
        "model_type": "nanofft",
        "vocab_size": len(tokenizer),
        "embedding_size": model.embedding_size,
        "hidden_size": model.hidden_size,
        "max_position_embeddings": model.context,
        "num_hidden_layers": model.layers,
        "mixing": model.mixing,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    return LanguageModel(spec.name, models.from_config(config).to(models.default_device()), tokenizer)


def _adapted(lm: LanguageModel, spec: PretrainingSpec) -> LanguageModel:
    rank = spec.model.lora_rank if isinstance(spec.model, StartModel) else None
    return lm if rank is None else models.with_lora(lm, rank)
