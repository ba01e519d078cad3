"""The door: Underdog's models and systems as a model of lm-evaluation-harness, under the name `underdog`."""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar, get_args

from lm_eval.api.instance import Instance
from lm_eval.api.model import LM, CacheHook
from lm_eval.api.registry import register_model
from lm_eval.models.utils import normalize_gen_kwargs

from underdog import models
from underdog.answering import Answerer
from underdog.errors import HarnessRefused, nearest, unknown
from underdog.harness.asked_answerer import AskedAnswerer
from underdog.harness.asked_model import AskedModel
from underdog.harness.requests import LikelihoodRequest, Respondent, TextRequest
from underdog.harness.tokens import Tokens
from underdog.inference.answerer import ModelAnswerer
from underdog.inference.precision import Precision
from underdog.models import LanguageModel
from underdog.progress import Progress, Silent
from underdog.settings import Settings
from underdog.systems.opening import opened
from underdog.task.teachers import RemoteTeacher
from underdog.teachers.writing import Writer

Result = TypeVar("Result")

ARGUMENTS = ("model", "device", "precision", "tokens_per_batch", "max_length", "add_bos_token", "prefix_token_id")
WRITING = frozenset({"until", "max_gen_toks", "do_sample", "temperature", "top_p"})
"""Generation settings that are understood; anything else would change the text and is refused."""


class UnderdogLM(LM):
    """Answers lm-evaluation-harness with a model's own likelihoods, or with whatever a system answers."""

    def __init__(
        self,
        model: str | LanguageModel | Answerer,
        *,
        device: str | None = None,
        precision: Precision = "float32",
        tokens_per_batch: int | None = None,
        max_length: int | None = None,
        add_bos_token: bool | None = None,
        prefix_token_id: int | None = None,
        batch_size: int | str | None = None,
        max_batch_size: int | None = None,
        settings: Settings | None = None,
        progress: Progress | None = None,
        remote: Callable[[RemoteTeacher], Writer] | None = None,
        **others: Any,
    ) -> None:
        """`model` names a model, or the folder of a stack or system; from Python also a loaded model, or any `Answerer`.

        `remote` makes what asks a system's servers; without it they are asked directly. Batches go by tokens, not by items:
        `batch_size`, which lm-evaluation-harness always passes, is not used. The other arguments only concern single models.
        Raises UnknownName for an argument or a model that there is none of.
        """
        super().__init__()
        del batch_size, max_batch_size
        if others:
            raise unknown("argument of the model 'underdog'", next(iter(others)), ARGUMENTS)
        if precision not in get_args(Precision):
            raise unknown("precision", str(precision), get_args(Precision))
        self._progress = progress or Silent()
        if isinstance(model, str):
            # lm-evaluation-harness makes its models from text alone: where that is our way in, the environment is read here.
            # Its command line says cuda:0 unless told otherwise, on machines without one, too.
            here = models.default_device() if device in (None, "cuda:0") else device
            model = opened(model, settings or Settings.from_environ(os.environ), self._progress, device=here, remote=remote)
        if isinstance(model, ModelAnswerer):
            model = _model_of(model)
        self.lm = model if isinstance(model, LanguageModel) else None
        self.name = model.name
        self._respondent: Respondent
        if isinstance(model, LanguageModel):
            tokens = Tokens(model, max_length=max_length, add_bos_token=add_bos_token, prefix_token_id=prefix_token_id)
            self._respondent = AskedModel(model, tokens, precision=precision, tokens_per_batch=tokens_per_batch)
        else:
            self._respondent = AskedAnswerer(model)

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        asked = [LikelihoodRequest(str(one.task_name), int(one.doc_id or 0), *one.args[:2]) for one in requests]
        answers = ((index, (found.nats, found.greedy)) for index, found in self._respondent.likelihoods(asked))
        return self._collected("loglikelihood", requests, answers)

    def loglikelihood_rolling(self, requests: list[Instance]) -> list[float]:
        answers = self._respondent.rolling([one.args[0] for one in requests])
        return self._collected("loglikelihood_rolling", requests, answers)

    def generate_until(self, requests: list[Instance]) -> list[str]:
        draws: Counter[tuple[str | None, int | None]] = Counter()
        asked = []
        for one in requests:
            asked.append(text_request(one, draws[one.task_name, one.doc_id]))
            draws[one.task_name, one.doc_id] += 1
        return self._collected("generate_until", requests, self._respondent.write(asked))

    def _collected(self, kind: str, requests: Sequence[Instance], answers: Iterable[tuple[int, Result]]) -> list[Result]:
        """Answers in the order of the requests; each is kept in lm-evaluation-harness's cache as soon as it is there."""
        found: dict[int, Result] = {}
        for index, answer in answers:
            found[index] = answer
            self.cache_hook.add_partial(kind, requests[index].args, answer)
            self._progress.step(f"answering lm-eval ({kind})", len(found), len(requests))
        return [found[index] for index in range(len(requests))]

    def set_cache_hook(self, cache_hook: CacheHook) -> None:
        """Raises HarnessRefused for a system: a question's scores hang together, and the cache takes them apart."""
        if self.lm is None and cache_hook.dbdict is not None:
            raise HarnessRefused(
                f"{self.name} is no single model, and its answers cannot be kept in lm-evaluation-harness's cache, which takes a "
                "question's choices apart. Run without use_cache."
            )
        super().set_cache_hook(cache_hook)

    @property
    def tokenizer(self) -> Any:
        """The model's tokenizer; None for a system."""
        return self.lm and self.lm.tokenizer

    @property
    def tokenizer_name(self) -> str:
        return self.name.replace("/", "__")

    @property
    def device(self) -> Any:
        return self.lm and self.lm.device

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """The tokenizer's chat template, where one is asked for."""
        return self._chatting().tokenizer.get_chat_template(chat_template if isinstance(chat_template, str) else None)

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """A conversation as text, by the tokenizer's chat template."""
        return self._chatting().tokenizer.apply_chat_template(
            chat_history,
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=not add_generation_prompt,
        )

    def _chatting(self) -> LanguageModel:
        if self.lm is None or self.lm.tokenizer.chat_template is None:
            raise HarnessRefused(
                f"{self.name} has no chat template. Run without apply_chat_template, or choose a model whose tokenizer has one."
            )
        return self.lm

    def get_model_info(self) -> dict[str, Any]:
        """What goes into lm-evaluation-harness's record of the run."""
        return {"model_name": self.name, "model_num_parameters": self.lm.parameter_count() if self.lm else None}


register_model("underdog")(UnderdogLM)


def text_request(instance: Instance, draw: int) -> TextRequest:
    """Read an instance's generation settings. Raises HarnessRefused for one that is not understood."""
    arguments: tuple[Any, ...] = instance.args
    context, given = arguments[0], arguments[1]
    settings: dict[str, Any] = dict(normalize_gen_kwargs(given))
    strange = sorted(set(settings) - WRITING)
    if strange:
        raise HarnessRefused(
            f"task {instance.task_name}: generation setting {strange[0]!r} is not one that Underdog's models know."
            f"{nearest(strange[0], WRITING)} Known: {', '.join(sorted(WRITING))}. Take it out of the task's generation_kwargs."
        )
    drawn = bool(settings["do_sample"])
    return TextRequest(
        str(instance.task_name),
        int(instance.doc_id or 0),
        str(context),
        stop=tuple(settings["until"]),
        max_tokens=settings["max_gen_toks"],
        temperature=float(settings["temperature"]) if drawn else 0.0,
        top_p=float(settings.get("top_p", 1.0)) if drawn else 1.0,
        draw=draw,
    )


def _model_of(answerer: ModelAnswerer) -> LanguageModel:
    """The model inside, which is asked directly."""
    if answerer.prefix:
        raise HarnessRefused(
            f"{answerer.name} comes with worked examples of its own. Hand over the plain model: tasks of lm-evaluation-harness "
            "bring their examples (num_fewshot)."
        )
    return answerer.lm
