"""The same equalities on the real SmolLM2-135M-Instruct."""

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from plain import choice_log_likelihoods, decoding_log_probabilities
from underdog import models
from underdog.answering import Question
from underdog.inference.answerer import ModelAnswerer
from underdog.students.depth import keep_layers
from underdog.students.vocabulary import trim_vocabulary

pytestmark = pytest.mark.models

QUESTIONS = [
    Question("sky", "Question: Why is the sky blue?", "\nAnswer:", ("Blue light is scattered more", "It reflects the sea")),
    Question("one", "Question: 1 + 1?\nThink well.", "\nAnswer:", ("2", "22", "☃ naïve 数学")),
]
SHOTS = "Question: What do bees make?\nAnswer: honey\n\nQuestion: What do cows eat?\nAnswer: grass\n\n"


def test_log_likelihoods_of_choices_are_the_stock_models(smollm2):
    answers = ModelAnswerer(smollm2, scoring="sum", prefix=SHOTS, precision="float32").answer(QUESTIONS)
    for question, answer in zip(QUESTIONS, answers, strict=True):
        np.testing.assert_allclose(answer.scores, choice_log_likelihoods(smollm2, question, SHOTS), atol=1e-3)


def test_constrained_probabilities_are_those_of_decoding_and_near_in_bfloat16(smollm2):
    question = Question("one", "1 + 1 =", "\nAnswer:", ("2", "22", "3"))
    (exact,) = ModelAnswerer(smollm2, precision="float32").answer([question])
    (rounded,) = ModelAnswerer(smollm2, precision="bf16").answer([question])
    np.testing.assert_allclose(exact.log_probabilities, decoding_log_probabilities(smollm2, question), atol=1e-3)
    np.testing.assert_allclose(rounded.log_probabilities, exact.log_probabilities, atol=0.15)


def test_a_shrunk_student_is_an_ordinary_model_folder(smollm2, tmp_path):
    """Two layers and the tokens of two questions: stock transformers loads it and scores the choices alike."""
    texts = [text for q in QUESTIONS for text in (q.prompt, q.cue, q.prompt + q.cue, *(" " + choice for choice in q.choices))]
    student = keep_layers(trim_vocabulary(smollm2, texts), [0, 29])
    assert student.parameter_count() < 7_500_000
    models.save(student, tmp_path / "student")
    stock = AutoModelForCausalLM.from_pretrained(tmp_path / "student", dtype=torch.float32)
    cutter = AutoTokenizer.from_pretrained(tmp_path / "student")
    assert len(cutter) == stock.config.vocab_size
    unseen = "Fjörd \U0001f98a ελληνικά\t\x00 and so on"
    assert cutter.decode(cutter(unseen)["input_ids"]) == unseen
    answers = ModelAnswerer(student, scoring="sum", precision="float32").answer(QUESTIONS)
    for question, answer in zip(QUESTIONS, answers, strict=True):
        start = cutter(question.prompt)["input_ids"] + cutter(question.cue)["input_ids"]
        for choice, score in zip(question.choices, answer.scores, strict=True):
            tokens = cutter(" " + choice)["input_ids"]
            with torch.no_grad():
                logits = stock(input_ids=torch.tensor([start + tokens])).logits[0].log_softmax(-1)
            plain = sum(float(logits[len(start) - 1 + index, token]) for index, token in enumerate(tokens))
            assert score == pytest.approx(plain, abs=1e-3)
            assert cutter.convert_ids_to_tokens(tokens) == smollm2.tokenizer.convert_ids_to_tokens(
                smollm2.encode([" " + choice])[0]
            )
