"""Stacks taught from end to end on a planted rule: the first word decides, and only the first step sees it."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from flow.planted import FIRST, Recorder, Row, label_rows, load, settings, write_rows, write_task
from underdog import models
from underdog.cli import app
from underdog.errors import AdapterRefused, Interrupted, TaskError, UnderdogError
from underdog.evaluation.score import score
from underdog.runs import Run, read_json, write_json, write_text
from underdog.systems.stack import files
from underdog.systems.stack.adapters import fresh
from underdog.systems.stack.answerer import StackAnswerer, count_steps
from underdog.systems.stack.build import train_stack, workshop
from underdog.systems.stack.finding import find_stack
from underdog.systems.stack.loading import load_stack
from underdog.systems.together.plans import RemotePlan, StackPlan, SystemFile, VotePlan
from underdog.task.splits import split
from underdog.task.stack import Stack, Step
from underdog.task.task import Task
from underdog.task.teachers import RemoteTeacher

CHAIN = (
    Step(name="keywords", prompt="{question}\nKeywords:", max_tokens=6, sentences=False),
    Step(name="intermediate", prompt="Keywords: {keywords}\nThoughts:", max_tokens=16),
    Step(name="answer", prompt="Thoughts: {intermediate}\nAnswer:"),
)
"""Each step sees what the one before it wrote, and nothing else."""
TEACHERS = [
    {"name": "untrained", "model": "MODEL"},
    {"name": "free", "rationales": "why.jsonl", "field": "why", "saw_answer": False},
    {"name": "forced", "rationales": "why.jsonl", "field": "why"},
]


def reasons(rows: Sequence[Row]) -> list[Row]:
    return [{"id": row["id"], "why": f"It begins with {row['text'].split()[0]}. So it is {row['label']}."} for row in rows]


def write(folder: Path) -> Path:
    rows = label_rows(160)
    write_rows(folder / "why.jsonl", reasons(rows))
    return write_task(folder, rows, teachers=TEACHERS)


def stack(**fields: Any) -> Stack:
    given = {"teacher": "free", "steps": CHAIN, "rank": 16, "epochs": 16, "learning_rate": 0.02}
    return Stack.model_validate(given | fields)


def build(task: Task, described: Stack, folder: Path, progress: Recorder | None = None) -> StackAnswerer:
    return load_stack(trained(task, described, folder, progress), settings(task.folder))


def trained(task: Task, described: Stack, folder: Path, progress: Recorder | None = None) -> Path:
    shop = workshop(task, split(task), described, Run(folder), settings=settings(task.folder), progress=progress)
    return train_stack(task, shop)


def quality(task: Task, answerer: StackAnswerer) -> float:
    return score(answerer, split(task).valid, "accuracy").quality.mean


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Task:
    return load(write(tmp_path_factory.mktemp("stack")))


@pytest.fixture(scope="module")
def learnt(task: Task) -> Path:
    """A run folder with a stack that learnt step by step."""
    folder = task.folder / "run"
    build(task, stack(), folder)
    return folder


def test_a_two_step_rule_is_learnt_and_every_step_writes_what_it_was_taught(task: Task, learnt: Path) -> None:
    answerer = load_stack(find_stack(learnt), settings(task.folder))
    items = split(task).valid
    answers = answerer.answer([example.question for example in items])
    assert [answer.text for answer in answers] == [example.answer for example in items]
    for example, answer in zip(items, answers, strict=True):
        first = example.question.prompt.split()[0]
        assert [trace.text for trace in answer.trace] == [first, f"It begins with {first}.", FIRST[first]]
    assert [(count.empty, count.at_limit, count.shortened) for count in count_steps(answers)] == [(0, 0, 0)] * 3


@pytest.mark.parametrize(
    "fields",
    [
        {"training": "global_then_local", "epochs": 14, "steps": "two_steps"},
        {"training": "own_upstream", "share_prompt": True, "steps": "two_steps"},
    ],
    ids=["global then local", "own upstream, with a shared prompt"],
)
def test_other_ways_of_training_learn_it_too(task: Task, tmp_path: Path, fields: dict[str, Any]) -> None:
    assert quality(task, build(task, stack(**fields), tmp_path / "run")) == 1.0
    count = len(list((tmp_path / "run" / "adapters").iterdir()))
    assert count == (3 if fields["training"] == "global_then_local" else 2)


def test_texts_that_saw_the_answer_teach_through_folds_and_are_never_read(task: Task, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="never be part of a model's input"):
        build(task, stack(teacher="forced"), tmp_path / "run")
    assert not (tmp_path / "run" / "adapters").exists()
    taught = build(task, stack(teacher="forced", training="own_upstream", folds=2, steps="two_steps"), tmp_path / "run")
    assert quality(task, taught) == 1.0
    notes = [files.read_note(folder)["what"] for folder in (tmp_path / "run" / "adapters").iterdir()]
    assert sorted(notes) == [
        "stack · answer · seed 0",
        "stack · intermediate · seed 0",
        "stack · intermediate · seed 0 · all folds but 1",
        "stack · intermediate · seed 0 · all folds but 2",
    ]
    written = [read_json(path) for path in (tmp_path / "run" / "upstream").iterdir()]
    halves = [set(texts) for texts in written]
    assert len(halves) == 2
    assert not halves[0] & halves[1]
    assert halves[0] | halves[1] == {example.id for example in split(task).train}


class StopsAt(Recorder):
    """Presses Ctrl-C in the middle of one training."""

    def __init__(self, what: str, done: int) -> None:
        super().__init__()
        self._what, self._done = what, done

    def step(self, what: str, done: int, total: int) -> None:
        super().step(what, done, total)
        if self._what in what and done == self._done:
            raise KeyboardInterrupt


def test_a_stopped_training_goes_on_and_gives_the_same_weights(task: Task, learnt: Path, tmp_path: Path) -> None:
    with pytest.raises((Interrupted, KeyboardInterrupt)):
        build(task, stack(), tmp_path / "run", StopsAt("intermediate", 20))
    seen = Recorder()
    folder = trained(task, stack(), tmp_path / "run", seen)
    assert seen.trainings == ["stack · intermediate · seed 0", "stack · answer · seed 0"]
    assert min(done for what, done, _ in seen.steps if "intermediate" in what) >= 20
    assert folder.name == find_stack(learnt).name
    for adapter in (learnt / "adapters").iterdir():
        weights = (tmp_path / "run" / "adapters" / adapter.name / files.WEIGHTS).read_bytes()
        assert weights == (adapter / files.WEIGHTS).read_bytes()
    assert not list((tmp_path / "run").glob("checkpoints/*"))


def test_what_is_finished_is_not_trained_again(task: Task, learnt: Path) -> None:
    seen = Recorder()
    build(task, stack(), learnt, seen)
    assert seen.trainings == []
    assert len(list((learnt / "stacks").iterdir())) == 1


def test_a_name_changes_no_weights(task: Task, learnt: Path, tmp_path: Path) -> None:
    shutil.copytree(learnt, tmp_path / "run")
    seen = Recorder()
    build(task, stack(name="another"), tmp_path / "run", seen)
    assert seen.trainings == []
    with pytest.raises(UnderdogError, match=r"holds 2 stacks. Choose one with --stack") as several:
        find_stack(tmp_path / "run")
    assert "another (seed 0)" in str(several.value)
    assert read_json(find_stack(tmp_path / "run", "another") / "stack.json")["name"] == "another"


@pytest.fixture
def seeds(learnt: Path, tmp_path: Path) -> Path:
    """A run with the same stack of two seeds, as `underdog find` leaves one; the later seed's folder comes first by name."""
    shutil.copytree(learnt, tmp_path / "run")
    place = find_stack(tmp_path / "run")
    kept = read_json(place / "stack.json") or {}
    steps = [step | {"adapter": "../../adapters/another"} for step in kept["steps"]]
    write_json(place.with_name("0" * 16) / "stack.json", kept | {"seed": 1, "steps": steps, "notes": ["an item was too long"]})
    return tmp_path / "run"


def test_of_seeds_of_one_stack_the_first_is_taken_and_said(task: Task, learnt: Path, seeds: Path) -> None:
    first = find_stack(learnt).name
    for arguments in ((), ("--stack", "stack")):
        said = run(task, "trace", str(seeds), *arguments, "--count", "1", "--json")
        assert said.exit_code == 0, said.stderr
        assert len(json.loads(said.stdout)) == 1
        told = " ".join(said.stderr.split())
        assert f"{seeds} holds 2 seeds of 'stack'; this is seed 0, {first}. Another: --stack {'0' * 16} (seed 1)" in told
    assert find_stack(seeds, "0" * 16).name == "0" * 16


def test_a_stack_taught_otherwise_since_is_no_other_seed(seeds: Path) -> None:
    other = seeds / "stacks" / ("0" * 16)
    kept = read_json(other / "stack.json") or {}
    write_json(other / "stack.json", kept | {"stack": kept["stack"] | {"rank": 4}})
    with pytest.raises(UnderdogError, match=r"holds 2 stacks. Choose one with --stack"):
        find_stack(seeds)
    write_json(other / "stack.json", kept | {"seed": 0})
    with pytest.raises(UnderdogError, match=r"holds 2 stacks. Choose one with --stack"):
        find_stack(seeds)
    with pytest.raises(UnderdogError, match=r"has 2 stacks called 'stack'. Choose one with --stack"):
        find_stack(seeds, "stack")


def test_the_stacks_of_a_system_are_found_in_its_folder(task: Task, learnt: Path, tmp_path: Path) -> None:
    shutil.copytree(learnt, tmp_path / "run")
    build(task, stack(name="another"), tmp_path / "run")
    one, another = (find_stack(tmp_path / "run", name) for name in ("stack", "another"))
    plans = [StackPlan(name=path.name, folder=f"../../stacks/{path.name}", identity=path.name) for path in (one, another)]
    both = VotePlan(name="both", members=(plans[0], plans[1], plans[0]), metric="accuracy")
    remote = RemotePlan(name="far", teacher=RemoteTeacher(name="far", model="m", url="http://127.0.0.1:9/v1"), max_new_tokens=8)
    alone, vote, far = (tmp_path / "run" / "systems" / name for name in ("alone", "vote", "far"))
    for folder, plan in ((alone, plans[1]), (vote, both), (far, remote)):
        write_text(folder / "system.json", SystemFile(system=plan).model_dump_json())
    said = run(task, "trace", str(alone), "--count", "1", "--json")
    assert said.exit_code == 0, said.stderr
    assert len(json.loads(said.stdout)[0]["steps"]) == 3
    assert find_stack(alone) == another
    assert find_stack(vote, "stack") == one
    with pytest.raises(UnderdogError, match=r"holds 2 stacks. Choose one with --stack"):
        find_stack(vote)
    with pytest.raises(UnderdogError, match=r"there is no stack here. Name a run folder .* or a system's with a stack in it"):
        find_stack(far)


@pytest.fixture
def broken(task: Task, learnt: Path, tmp_path: Path) -> Path:
    """The same stack, but for its second step, which has forgotten all it learnt."""
    shutil.copytree(learnt, tmp_path / "run")
    place = find_stack(tmp_path / "run")
    kept = read_json(place / "stack.json")
    assert kept is not None
    lm = models.load(str(task.folder / "model"), settings(task.folder))
    identity = models.identity(lm.name, settings(task.folder))
    files.save_adapter(fresh(lm, 16, 0), tmp_path / "run" / "adapters" / "blank", base=lm.name, base_identity=identity)
    kept["steps"][1]["adapter"] = "../../adapters/blank"
    write_json(place / "stack.json", kept)
    return tmp_path / "run"


def run(task: Task, *arguments: str) -> Any:
    here = {"UNDERDOG_CACHE": str(task.folder / "cache"), "UNDERDOG_OFFLINE": "1", "UNDERDOG_THREADS": "1", "COLUMNS": "130"}
    return CliRunner().invoke(app, ["stack", *arguments], env=here)


def test_steps_that_are_too_long_to_be_learnt_are_told_from_texts_that_are_missing(task: Task, tmp_path: Path) -> None:
    steps = (CHAIN[0].model_copy(update={"max_tokens": 300}), *CHAIN[1:])
    with pytest.raises(
        TaskError, match=r"step 'keywords' of 'stack' has no item .*: \d\d of the \d\d are too long for the 256 pos"
    ):
        build(task, stack(steps=steps), tmp_path / "run")


def test_attribution_finds_the_broken_step(task: Task, broken: Path) -> None:
    said = run(task, "attribute", str(broken), "--json")
    assert said.exit_code == 0, said.stderr
    found = json.loads(said.stdout)
    assert found["quality"]["mean"] < 0.7
    rows = {row["step"]: row for row in found["steps"]}
    assert list(rows) == ["keywords", "intermediate", "all"]
    keywords, intermediate = rows["keywords"]["comparison"], rows["intermediate"]["comparison"]
    assert keywords["difference"]["mean"] == 0
    assert rows["intermediate"]["replaced"]["mean"] == 1.0
    assert intermediate["difference"]["low"] > 0.1
    assert intermediate["p_holm"] < 0.01
    assert rows["all"]["replaced"]["mean"] == 1.0
    assert {row["items"] for row in rows.values()} == {len(split(task).valid)}
    table = run(task, "attribute", str(broken), "--count", "20").stdout
    assert "comes back" in table
    assert "intermediate" in table


def test_attribution_takes_better_texts_from_a_file(task: Task, broken: Path, tmp_path: Path) -> None:
    items = split(task).valid[:10]
    texts = [{"id": item.id, "intermediate": f"It begins with {item.question.prompt.split()[0]}."} for item in items]
    file = write_rows(tmp_path / "better.jsonl", texts)
    found = json.loads(run(task, "attribute", str(broken), "--texts", str(file), "--json").stdout)
    assert [(row["step"], row["items"], row["replaced"]["mean"]) for row in found["steps"]] == [("intermediate", 10, 1.0)]
    write_rows(tmp_path / "worse.jsonl", [{"id": "x", "intermediat": "y"}])
    said = run(task, "attribute", str(broken), "--texts", str(tmp_path / "worse.jsonl"))
    assert said.exit_code == 1
    assert "each row needs 'id' and a column for a step (keywords, intermediate). Found: id, intermediat." in said.stderr


def test_trace_shows_every_step(task: Task, learnt: Path) -> None:
    item = split(task).valid[0]
    first = item.question.prompt.split()[0]
    said = run(task, "trace", str(learnt), "--item", item.id)
    assert said.exit_code == 0, said.stderr
    assert said.stdout.splitlines() == [
        f"{item.id}  {item.question.prompt}",
        f"  keywords: {first}",
        f"  intermediate: It begins with {first}.",
        f"  answer: {item.answer}",
        f"  → {item.answer}  (right: {item.answer})",
        "",
    ]
    own = ["--question", "card my new card", *(word for label in FIRST.values() for word in ("--choice", label)), "--json"]
    (traced,) = json.loads(run(task, "trace", str(learnt), *own).stdout)
    assert (traced["answer"], traced["gold"]) == ("left", None)
    assert [step["text"] for step in traced["steps"]] == ["card", "It begins with card.", "left"]


def test_what_is_shown_steers_no_terminal(task: Task, learnt: Path) -> None:
    steering = [word for label in FIRST.values() for word in ("--choice", f"{label}\x1b[2J")]
    said = run(task, "trace", str(learnt), "--question", "card my\x1b[2J\nnew card", *steering)
    assert said.exit_code == 0, said.stderr
    assert "\x1b" not in said.stdout
    assert "question  card my\ufffd[2J\nnew card\n" in said.stdout
    assert "\n  → left\ufffd[2J\n" in said.stdout


def test_what_is_not_there_is_said(task: Task, learnt: Path, tmp_path: Path) -> None:
    assert "there is no stack here. Name a run folder" in run(task, "trace", str(tmp_path)).stderr
    assert "has 0 stacks called 'nobody'" in run(task, "trace", str(learnt), "--stack", "nobody").stderr
    assert "no validation item has the id 'nobody'." in run(task, "trace", str(learnt), "--item", "nobody").stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--question", " "], 'the question is empty. Write one: --question "..."'),
        (["--question", "card", "--choice", "left"], "'left' leave no choice. Name --choice at least twice"),
        (["--question", "card", "--choice", "left", "--choice", "left"], "'left', 'left' leave no choice."),
        (["--choice", "left", "--choice", "right"], "--choice is for a question of your own: name it with --question,"),
        (["--question", "card", "--item", "item-1"], "--item is for validation items, --question asks one of your own in"),
        (["--question", "card", "--task", "task.yaml"], "--task is for validation items, --question asks one of your own in"),
        (["--question", "card", "--count", "1"], "--count is for validation items, --question asks one of your own in"),
        (["--item", "item-1", "--count", "5"], "--count is for the first of validation, --item names items: leave one out."),
    ],
)
def test_a_question_of_ones_own_must_be_one(task: Task, learnt: Path, arguments: list[str], words: str) -> None:
    said = run(task, "trace", str(learnt), *arguments)
    assert said.exit_code == 1
    assert words in " ".join(said.stderr.split())


def test_items_that_may_have_been_learnt_are_not_called_validation(task: Task, learnt: Path) -> None:
    text = (task.folder / "task.yaml").read_text(encoding="utf-8")
    other = task.folder / "other.yaml"
    other.write_text(text.replace("  test_share:", "  seed: 5\n  test_share:"), encoding="utf-8")
    said = run(task, "attribute", str(learnt), "--task", str(other))
    assert said.exit_code == 1
    assert "its data, splits or prompt are not those that the stack in" in " ".join(said.stderr.split())


@pytest.mark.parametrize(
    ("text", "words"), [('{"name": ', "cannot be read"), ('{"name": "x"}', "does not tell chain, lists_choices,")]
)
def test_a_broken_stack_file_is_refused(task: Task, learnt: Path, tmp_path: Path, text: str, words: str) -> None:
    shutil.copytree(learnt, tmp_path / "run")
    (find_stack(tmp_path / "run") / "stack.json").write_text(text, encoding="utf-8")
    said = run(task, "trace", str(tmp_path / "run"))
    assert said.exit_code == 1
    assert words in " ".join(said.stderr.split())
    assert "`underdog find` on the task writes it anew" in " ".join(said.stderr.split())


def test_adapters_of_another_base_are_refused(task: Task, learnt: Path, tmp_path: Path) -> None:
    import tiny

    shutil.copytree(learnt, tmp_path / "run")
    other = tiny.write_llama(tmp_path / "other", seed=5)
    place = find_stack(tmp_path / "run")
    kept = read_json(place / "stack.json")
    assert kept is not None
    for step in kept["steps"]:
        step["base"] = str(other)
    write_json(place / "stack.json", kept)
    with pytest.raises(AdapterRefused, match=r"this adapter was trained on .*model.*; the stack's base is .*other"):
        load_stack(place, settings(task.folder))


def test_the_task_of_a_stack_made_in_python_is_asked_for(task: Task, learnt: Path, tmp_path: Path) -> None:
    shutil.copytree(learnt, tmp_path / "run")
    place = find_stack(tmp_path / "run")
    write_json(place / "stack.json", (read_json(place / "stack.json") or {}) | {"task": None})
    assert "made in Python, without a task file. Name one with --task." in run(task, "trace", str(tmp_path / "run")).stderr
    said = run(task, "trace", str(tmp_path / "run"), "--task", str(task.folder / "task.yaml"), "--count", "1", "--json")
    assert len(json.loads(said.stdout)) == 1


def test_a_task_file_that_was_moved_is_asked_for(task: Task, learnt: Path, tmp_path: Path) -> None:
    shutil.copytree(learnt, tmp_path / "run")
    place = find_stack(tmp_path / "run")
    gone = tmp_path / "gone" / "task.yaml"
    write_json(place / "stack.json", (read_json(place / "stack.json") or {}) | {"task": str(gone)})
    for command in ("trace", "attribute"):
        said = run(task, command, str(tmp_path / "run"))
        assert said.exit_code == 1
        told = f"{gone}, the task file of the stack in {place}, is there no more. Name it where it is now with --task."
        assert told in " ".join(said.stderr.split())
    said = run(task, "trace", str(tmp_path / "run"), "--task", str(task.folder / "task.yaml"), "--count", "1", "--json")
    assert len(json.loads(said.stdout)) == 1
    nowhere = tmp_path / "nowhere.yaml"
    assert "the task file of the stack" not in run(task, "trace", str(tmp_path / "run"), "--task", str(nowhere)).stderr


def test_free_answers_are_written_by_the_last_step(task: Task, tmp_path: Path) -> None:
    rows = [row | {"label": FIRST[row["text"].split()[0]]} for row in label_rows(160)]
    write_rows(tmp_path / "why.jsonl", reasons(rows))
    free = load(write_task(tmp_path, rows, teachers=TEACHERS, kind="generate", choices=None, metric="exact", max_new_tokens=8))
    chain = (*CHAIN[:-1], CHAIN[-1].model_copy(update={"max_tokens": 8}))
    built = build(free, stack(steps=chain), tmp_path / "run")
    found = score(built, split(free).valid, "exact")
    assert found.quality.mean == 1.0
    assert {answer.trace[-1].finish for answer in found.answers} == {"stop"}
