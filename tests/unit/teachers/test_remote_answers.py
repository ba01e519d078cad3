"""A remote model answers the task's questions: what it is asked, and which choice its reply means."""

from collections.abc import Iterator, Sequence

import pytest

from underdog.answering import Answer, Answerer, Question
from underdog.errors import SpendingCapReached, TeacherUnavailable, UnderdogError
from underdog.task.teachers import Asking, RemoteTeacher
from underdog.teachers.chosen import chosen
from underdog.teachers.remote_answers import RemoteAnswerer
from underdog.teachers.writing import Failure, Reply, Request

ANIMALS = ("A dog", "A cat", "A dog and a cat", "None of them")


@pytest.mark.parametrize(
    ("reply", "index"),
    [
        ("B", 1), ("b", 1), (" (B) ", 1), ("**B**", 1), ("B.", 1), ("B. A cat", 1), ("B) it purrs", 1), ("[B]", 1),
        ("B\nbecause", 1), ("The answer is B.", 1), ("The correct answer is (B) A cat.", 1), ("Answer: B", 1), ("answer:B", 1),
        ("**Answer:** B", 1), ("Not A, since dogs bark. The answer is C, no: the answer is B", 1), (r"Thus $\boxed{B}$", 1),
        ("Option B is right", 1), ("I would say (B), as it purrs", 1), ("<think>Maybe A. The answer is A.</think>B", 1),
        ("A cat", 1), ("a cat.", 1), ("It must be a cat", 1), ("The answer is A cat.", 1),
        ("The answer is A because it barks", 0), ("Choice A", 0), ("A dog and a cat, I think", 2), ("none of them", 3),
        ("D - none", 3), ("", None), ("I do not know", None), ("Perhaps (A), perhaps (B)", None),
        ("a dog, or none of them", None), ("E", None), ("The answer is E", None), ("<think>The answer is A", None),
        ("A cow", None), ("The answer is A cow", None), ("concatenate", None),
        ("Answer: b.", 1), ("It purrs, so the answer is (b).", 1), ("It purrs.\nB", 1), ("It barks, no, it purrs.</think>B", 1),
        ("Answer: B\n\nQuestion: Who barks?\nAnswer: A", 1), ("Answer: A, B", None), ("Answer: not a cat", None),
        ("Answer: B. A dog", None), ("", None),
    ],
)  # fmt: skip
def test_a_reply_means_a_choice_only_where_it_can_mean_no_other(reply: str, index: int | None) -> None:
    assert chosen(reply, ANIMALS) == index


def test_letters_go_on_after_z_and_a_choice_may_be_a_letter_itself() -> None:
    many = [f"intent {number}" for number in range(77)]
    assert chosen("BY", many) == 76
    assert chosen("Answer: AB", many) == 27
    assert chosen("b", ("c", "b", "a")) == 1
    assert chosen("C.", ("yes", "no", "maybe")) == 2


class Scripted:
    """A writer that replies from a dictionary, by the question that stands in the prompt."""

    def __init__(self, replies: dict[str, Reply | Failure]) -> None:
        self.replies = replies
        self.asked: list[Request] = []

    def write(self, requests: Sequence[Request]) -> Iterator[tuple[Request, Reply | Failure]]:
        for request in reversed(requests):
            self.asked.append(request)
            yield request, next(reply for words, reply in self.replies.items() if words in request.prompt)


def reply(text: str) -> Reply:
    return Reply(text, "stop", 1, 1, 0.1)


TEACHER = RemoteTeacher(name="big", model="big-model", url="http://localhost/v1", revision="r2", ask=Asking(max_tokens=99))


def test_choices_are_listed_with_letters_and_the_answers_come_in_order() -> None:
    questions = [
        Question("1", "Question: Who barks?", "\nAnswer:", ANIMALS),
        Question("2", "Question: Who purrs?", "\nAnswer:", ANIMALS),
        Question("3", "Question: Who moos?", "\nAnswer:", ANIMALS),
        Question("4", "Question: Who purrs?", "\nAnswer:", ANIMALS),
        Question("5", "Question: Who am I?", "\nAnswer:", ANIMALS),
    ]
    said = {"barks": reply("A"), "purrs": reply("The answer is B."), "moos": reply("A cow"), "am I": Failure("HTTP 500: 'no'")}
    writer = Scripted(said)
    answerer = RemoteAnswerer(TEACHER, writer, max_new_tokens=8)
    assert isinstance(answerer, Answerer)
    assert answerer.answer(questions) == [
        Answer("1", "A dog", 0),
        Answer("2", "A cat", 1),
        Answer("3", None, problem="none of the choices is named in the reply: 'A cow'"),
        Answer("4", "A cat", 1),
        Answer("5", None, problem="HTTP 500: 'no'"),
    ]
    assert len(writer.asked) == 4
    asked = writer.asked[-1]
    assert (asked.teacher, asked.revision, asked.sampling.max_tokens, asked.sampling.temperature) == ("big-model", "r2", 99, 0.0)
    assert asked.prompt == (
        "Question: Who barks?\nA. A dog\nB. A cat\nC. A dog and a cat\nD. None of them\n\n"
        "Answer with the letter of the right choice, and nothing else.\n\nAnswer:"
    )


def test_choices_that_the_prompt_lists_are_not_listed_again() -> None:
    listed = "Who?\nA. A dog\nB. A cat\nC. A dog and a cat\nD. None of them"
    writer = Scripted({"Who": reply("A")})
    RemoteAnswerer(TEACHER, writer, max_new_tokens=8).answer([Question("1", listed, "\nAnswer:", ANIMALS)])
    assert writer.asked[0].prompt.count("A. A dog") == 1


def test_a_free_answer_is_the_reply_s_first_line() -> None:
    writer = Scripted({"Who": reply(" a dog \nbecause it barks")})
    (answer,) = RemoteAnswerer(TEACHER, writer, max_new_tokens=8).answer([Question("1", "Who?", "\nAnswer:")])
    assert answer == Answer("1", "a dog")
    assert writer.asked[0].prompt == "Who?\nAnswer:" and writer.asked[0].sampling.max_tokens == 8


def test_the_size_is_what_the_task_file_states() -> None:
    writer = Scripted({})
    assert RemoteAnswerer(TEACHER, writer, max_new_tokens=8).footprint().parameters == 0
    known = TEACHER.model_copy(update={"parameters": 7_000_000_000})
    assert RemoteAnswerer(known, writer, max_new_tokens=8).footprint().parameters_per_answer == 7_000_000_000


class Leaving(Scripted):
    """Replies once, and then is gone."""

    def __init__(self, replies: dict[str, Reply | Failure], failure: UnderdogError) -> None:
        super().__init__(replies)
        self.failure = failure

    def write(self, requests: Sequence[Request]) -> Iterator[tuple[Request, Reply | Failure]]:
        yield from super().write(requests[:1])
        raise self.failure


@pytest.mark.parametrize("failure", [TeacherUnavailable("nobody is there\nmore"), SpendingCapReached("the cap is $5")])
def test_what_was_replied_before_the_server_went_away_counts_where_that_is_asked_for(failure: UnderdogError) -> None:
    questions = [Question(id, f"Which one, {id}?", choices=ANIMALS) for id in ("one", "two")]
    answerer = RemoteAnswerer(
        RemoteTeacher(name="big", model="m", url="http://localhost:1/v1"),
        Leaving({"one": reply("B"), "two": reply("A")}, failure),
        max_new_tokens=8,
    )
    first, second = answerer.answer_reached(questions)
    assert (first.text, first.problem) == ("A cat", None)
    assert (second.text, second.problem) == (None, str(failure).partition("\n")[0])
    with pytest.raises(type(failure)):
        answerer.answer(questions)
