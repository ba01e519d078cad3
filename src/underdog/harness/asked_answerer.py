"""Anything that answers behind the door: a vote, a cascade, a stack, a remote model.

It has no log-likelihood of a text. What it has is one answer to each question, and a share for each choice where it tells one. A
document's likelihood requests become one question, and each choice's score is its normalised log-probability less that of the
answer: 0 for the answer, negative for all others. So the answer wins by every accuracy (divided by length or not), and a softmax
over the scores gives the shares back.
"""

from collections.abc import Iterator, Sequence

from underdog.answering import Answer, Answerer, Question
from underdog.errors import HarnessRefused
from underdog.harness.asked_model import positions
from underdog.harness.requests import Likelihood, LikelihoodRequest, TextRequest, common_beginning, cut

NO_SHARE = -100.0
"""Score of a choice that is not the answer, where the answerer tells no shares; in nats."""
LEAST = -1e-6
"""Score of a choice that has the answer's share: it lost."""


class AskedAnswerer:
    """Answers through `answer(questions)`."""

    def __init__(self, answerer: Answerer) -> None:
        self._answerer = answerer

    def likelihoods(self, requests: Sequence[LikelihoodRequest]) -> Iterator[tuple[int, Likelihood]]:
        """Ask one question for each document. Raises HarnessRefused for what is no choice, or where an answer is missing."""
        groups = positions((request.task, request.document) for request in requests)
        asked = [as_question([requests[index] for index in group]) for group in groups]
        answers = self._answers([question for question, _ in asked])
        for group, (question, choice_of), answer in zip(groups, asked, answers, strict=True):
            scores = relative_scores(answer, len(question.choices))
            for index, choice in zip(group, choice_of, strict=True):
                yield index, Likelihood(scores[choice], choice == answer.choice)

    def rolling(self, texts: Sequence[str]) -> Iterator[tuple[int, float]]:
        """Raises HarnessRefused: there is no likelihood of a text."""
        raise HarnessRefused(
            f"{self._answerer.name} chooses and answers, but knows no likelihood of a text, which {len(texts)} requests ask for "
            "(loglikelihood_rolling: perplexity, bits per byte). Run such tasks with a single model."
        )

    def write(self, requests: Sequence[TextRequest]) -> Iterator[tuple[int, str]]:
        """Ask for free answers, each up to the first stop text. How long they get is the answerer's own affair."""
        drawn = next((request for request in requests if request.temperature > 0), None)
        if drawn is not None:
            raise HarnessRefused(
                f"{drawn.where}: asks for drawn texts (temperature {drawn.temperature:g}), but {self._answerer.name} answers in "
                "one way only. Set do_sample: false in the task's generation_kwargs."
            )
        questions = [Question(request.where, *prompt_and_cue(request.context)) for request in requests]
        for index, answer in enumerate(self._answers(questions)):
            yield index, cut(answer.text or "", requests[index].stop)

    def _answers(self, questions: Sequence[Question]) -> list[Answer]:
        """lm-evaluation-harness has no place for a missing answer, and would count it as one."""
        answers = self._answerer.answer(questions)
        pairs = zip(questions, answers, strict=True)
        missing = [answer for question, answer in pairs if (answer.choice if question.choices else answer.text) is None]
        if missing:
            raise HarnessRefused(
                f"{self._answerer.name} left {len(missing)} of {len(answers)} questions unanswered, the first of them "
                f"{missing[0].question_id}: {missing[0].problem or 'no reason given'}. lm-evaluation-harness cannot leave "
                "questions out. Mend the cause, or score with a task file: there unanswered questions are counted apart."
            )
        return answers


def relative_scores(answer: Answer, choices: int) -> list[float]:
    """Score of each choice in nats: 0 for the answer, below for every other."""
    if not answer.log_probabilities:
        return [0.0 if index == answer.choice else NO_SHARE for index in range(choices)]
    highest = answer.log_probabilities[answer.choice or 0]
    return [
        0.0 if index == answer.choice else max(NO_SHARE, min(LEAST, value - highest))
        for index, value in enumerate(answer.log_probabilities)
    ]


def as_question(requests: Sequence[LikelihoodRequest]) -> tuple[Question, list[int]]:
    """Turn one document's requests into a question; also tell which choice each request is (equal ones are asked once).

    Where the contexts differ (a blank filled in different ways), the choices start at the word at which they part.
    """
    where = requests[0].where
    if len(requests) < 2:
        raise HarnessRefused(
            f"{where}: asks for the likelihood of one text, not for a choice among several. Only a single model has likelihoods; "
            "systems and remote models can run multiple_choice and generate_until tasks."
        )
    if not all(request.context.strip() for request in requests):
        raise HarnessRefused(
            f"{where}: asks for the likelihood of choices without their question (as acc_mutual_info does). Only a single model "
            "has likelihoods. Leave that metric out."
        )
    texts = [request.context + request.continuation for request in requests]
    contexts = {request.context.rstrip() for request in requests}
    shared = contexts.pop() if len(contexts) == 1 else _whole_words(common_beginning(texts))
    written = [text[len(shared) :].strip() for text in texts]
    if not (shared and all(written)):
        found = "one of its choices is empty" if shared else "its choices have no beginning in common that could be the question"
        raise HarnessRefused(f"{where}: {found}. Look at the task's doc_to_text and doc_to_choice.")
    choices = tuple(dict.fromkeys(written))
    return Question(where, *prompt_and_cue(shared), choices), [choices.index(choice) for choice in written]


def prompt_and_cue(context: str) -> tuple[str, str]:
    """Part a context into the question and what asks for the answer: a last line that ends with a colon, else nothing."""
    context = context.rstrip()
    prompt, line, cue = context.rpartition("\n")
    return (prompt, line + cue) if prompt.strip() and cue.endswith(":") else (context, "")


def _whole_words(text: str) -> str:
    """A text up to its last white space."""
    return text[: max(text.rfind(" "), text.rfind("\n"), 0)]
