"""lm-evaluation-harness from end to end: tasks over local files, scores that are ours, and messages for what goes wrong."""

import gzip
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

pytest.importorskip("lm_eval", reason="needs lm-evaluation-harness: pip install 'underdog[lm-eval]'")

from lm_eval import simple_evaluate
from lm_eval.api.instance import Instance
from lm_eval.tasks import TaskManager

import tiny
from underdog import models
from underdog.answering import Answer, Footprint, Question
from underdog.cli import app
from underdog.errors import DataFileMissing, HarnessRefused, ModelUnavailable, UnknownName
from underdog.evaluation.statistics import wilson
from underdog.harness import TASKS
from underdog.harness.lm import UnderdogLM
from underdog.harness.run import find_tasks, run_tasks
from underdog.inference.answerer import ModelAnswerer
from underdog.progress import Silent
from underdog.runs import write_json, write_text
from underdog.settings import Settings
from underdog.systems.stack import files
from underdog.systems.stack.adapters import fresh
from underdog.systems.stack.loading import load_stack
from underdog.systems.together.parts import open_system
from underdog.systems.together.plans import ModelPlan, SystemFile, VotePlan
from underdog.task.stack import PRESETS

CARDS = ("activate my card", "card arrival", "card not working", "exchange rate")
NAMES = ("arc_challenge", "gsm8k", "hellaswag", "mmlu", "truthfulqa_mc1", "winogrande")


def choice_rows(count: int = 12) -> list[dict[str, Any]]:
    return [
        {
            "id": f"q{i}",
            "question": f"Where is my card number {i}?",
            "choices": list(CARDS),
            "answer": i % 4,
            "subject": "bank_cards",
        }
        for i in range(count)
    ]


@pytest.fixture
def tinybench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder with a few made-up rows in every file of the local tasks."""
    folder = tmp_path / "data" / "tinybench"
    folder.mkdir(parents=True)
    blanks = [
        {
            "id": f"w{i}",
            "question": f"My card was older than my shop so _ took {i} transfers.",
            "choices": ["card", "shop"],
            "answer": i % 2,
        }
        for i in range(6)
    ]
    sums = [
        {
            "id": f"s{i}",
            "question": f"How much is {i} and 1,000?",
            "solution": f"{i} + 1000 = {i + 1000}",
            "answer": str(i + 1000),
        }
        for i in range(8)
    ]
    for name, rows in {
        "arc_challenge_test": choice_rows(),
        "hellaswag_val_2000": choice_rows(),
        "mmlu_test": choice_rows(),
        "truthfulqa_mc1": choice_rows(),
        "winogrande_dev": blanks,
        "gsm8k_train": sums,
        "gsm8k_test": sums,
    }.items():
        with gzip.open(folder / f"{name}.jsonl.gz", "wt", encoding="utf-8") as file:
            file.write("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setenv("UNDERDOG_DATA", str(folder.parent))
    monkeypatch.setenv("UNDERDOG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("UNDERDOG_OFFLINE", "1")
    monkeypatch.setenv("UNDERDOG_THREADS", "1")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.chdir(tmp_path)
    return folder.parent


def settings(folder: Path) -> Settings:
    return Settings(cache=folder / "cache", data=folder, offline=True, threads=1)


class Knowing:
    """Answers every question as it is told to, and says how sure it is."""

    name = "knowing"

    def __init__(self, wrong: Sequence[int] = ()) -> None:
        self._wrong = wrong
        self.asked: list[Question] = []

    def footprint(self) -> Footprint:
        return Footprint(0, 0, 0)

    def answer(self, questions: Sequence[Question]) -> list[Answer]:
        self.asked += questions
        return [self._one(question) for question in questions]

    def _one(self, question: Question) -> Answer:
        number = int("".join(filter(str.isdigit, question.prompt.split("Where")[-1].split("How much is")[-1].split("and")[0])))
        if not question.choices:
            return Answer(question.id, f" That makes {number + 1000:,}.\n\nQuestion: and then?")
        choice = (number + (number in self._wrong)) % 4
        return Answer(
            question.id, question.choices[choice], choice, tuple(np.log([0.7 if i == choice else 0.1 for i in range(4)]))
        )


def test_a_models_local_tasks_score_as_its_own_answers_do(tinybench: Path, tiny_lm):
    """Choices as `underdog evaluate` weighs them, by sum and by length, question by question."""
    scores = run_tasks(tiny_lm, ["tinybench_arc_challenge"], settings(tinybench), Silent())
    rows = choice_rows()
    questions = [Question(row["id"], f"Question: {row['question']}", choices=tuple(row["choices"])) for row in rows]
    answers = ModelAnswerer(tiny_lm, scoring="sum", precision="float32").answer(questions)
    right = sum(answer.choice == row["answer"] for answer, row in zip(answers, rows, strict=True))
    lengths = np.array([len(choice) for choice in CARDS])
    by_length = sum(int(np.argmax(np.array(a.scores) / lengths)) == row["answer"] for a, row in zip(answers, rows, strict=True))
    assert [(score.metric, score.shots, score.higher_is_better) for score in scores] == [("acc", 0, True), ("acc_norm", 0, True)]
    assert [score.quality for score in scores] == [wilson(right, 12), wilson(by_length, 12)]


def test_every_local_task_runs_on_a_model_and_on_a_system_without_a_hub(tinybench: Path, tiny_lm):
    limit = 4
    names = [f"tinybench_{name}" for name in NAMES if name != "gsm8k"]
    for score in run_tasks(tiny_lm, names, settings(tinybench), Silent(), limit=limit):
        assert score.quality.n == limit and 0 <= score.quality.low <= score.quality.mean <= score.quality.high <= 1
    knowing = Knowing(wrong=[3])
    found = run_tasks(knowing, ["tinybench_arc_challenge", "tinybench_mmlu"], settings(tinybench), Silent(), limit=limit)
    assert {(score.task, score.metric): score.quality for score in found} == {
        ("tinybench_arc_challenge", "acc"): wilson(3, 4),
        ("tinybench_arc_challenge", "acc_norm"): wilson(3, 4),
        ("tinybench_mmlu", "acc"): wilson(3, 4),
    }
    arc, mmlu = knowing.asked[0], knowing.asked[limit]
    assert (arc.prompt, arc.cue, arc.choices) == ("Question: Where is my card number 0?", "\nAnswer:", CARDS)
    assert mmlu.prompt.startswith("Multiple choice questions about bank cards.\n\nWhere is my card number 0?\nA. activate")
    assert mmlu.choices == ("A", "B", "C", "D")


def test_items_are_drawn_alike_for_every_model(tinybench: Path):
    names = ["tinybench_arc_challenge", "tinybench_mmlu"]
    other = Knowing()
    run_tasks(other, names, settings(tinybench), Silent(), draw=5)
    drawn = [question.prompt for question in other.asked]
    assert len(set(drawn[:5])) == 5 and drawn[:5] != [f"Question: {row['question']}" for row in choice_rows()[:5]]
    knowing = Knowing(wrong=[int(drawn[2].rstrip("?").split()[-1])])
    scores = run_tasks(knowing, names, settings(tinybench), Silent(), draw=5)
    assert [question.prompt for question in knowing.asked] == drawn
    assert {(score.task, score.metric): score.values for score in scores} == {
        ("tinybench_arc_challenge", "acc"): (1, 1, 0, 1, 1),
        ("tinybench_arc_challenge", "acc_norm"): (1, 1, 0, 1, 1),
        ("tinybench_mmlu", "acc"): (1, 1, 0, 1, 1),
    }
    (score,) = run_tasks(other, ["tinybench_mmlu"], settings(tinybench), Silent(), draw=5_000)
    assert score.quality.n == len(score.values) == len(choice_rows())


def test_a_single_model_computes_in_the_precision_asked_for(tinybench: Path, tiny_folder: Path, tiny_lm, monkeypatch):
    seen, plain = [], torch.autocast

    def autocast(*given, enabled, **rest):
        seen.append(enabled)
        return plain(*given, enabled=enabled, **rest)

    monkeypatch.setattr(torch, "autocast", autocast)
    write_task(tinybench / "mine", "sums_written", WRITING + "generation_kwargs: {until: [], max_gen_toks: 4}\n")
    names = ["tinybench_arc_challenge", "sums_written"]
    for precision, enabled in (("float32", False), ("bf16", True)):
        seen.clear()
        run_tasks(tiny_lm, names, settings(tinybench), Silent(), include=[tinybench / "mine"], limit=2, precision=precision)
        assert set(seen) == {enabled}
    code, _, err = said(tiny_folder, "--lm-eval", "tinybench_arc_challenge", "--limit", 2, "--precision", "bf16")
    assert code == 0, err
    code, _, err = said(tiny_folder, "--lm-eval", "tinybench_arc_challenge", "--precision", "bf8", "--dry-run")
    assert (code, err) == (1, "Error: no precision is called 'bf8'. Known: bf16, float32.\n")


def test_free_answers_are_read_for_their_last_number(tinybench: Path):
    knowing = Knowing()
    (score,) = run_tasks(knowing, ["tinybench_gsm8k"], settings(tinybench), Silent(), limit=3)
    assert (score.metric, score.filter, score.shots) == ("exact_match", "last-number", 5)
    assert score.quality == wilson(3, 3)
    assert knowing.asked[0].prompt.count("####") == 5
    assert knowing.asked[0].prompt.endswith("Question: How much is 0 and 1,000?") and knowing.asked[0].cue == "\nAnswer:"


def test_a_blank_filled_in_either_way_is_scored_by_what_follows(tinybench: Path, tiny_lm):
    manager, _ = find_tasks(["tinybench_winogrande"], [])
    task = manager.load(["tinybench_winogrande"])["tasks"]["tinybench_winogrande"]
    task.build_all_requests(limit=1)
    assert [instance.args for instance in task.instances] == [
        ("My card was older than my shop so card", " took 0 transfers."),
        ("My card was older than my shop so shop", " took 0 transfers."),
    ]


TASK = """
task: {name}
custom_dataset: !function underdog.harness.tinybench.documents
dataset_kwargs: {{files: {{test: tinybench/gsm8k_test.jsonl.gz}}}}
test_split: test
"""
ROLLING = "output_type: loglikelihood_rolling\ndoc_to_text: ''\ndoc_to_target: question\n"
WRITING = "output_type: generate_until\ndoc_to_text: question\ndoc_to_target: answer\nrepeats: 2\n"


def write_task(folder: Path, name: str, rest: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.yaml").write_text(TASK.format(name=name) + rest)


def test_tasks_of_ones_own_and_perplexity_with_an_interval(tinybench: Path, tiny_lm):
    write_task(tinybench / "mine", "sums_text", ROLLING)
    scores = run_tasks(tiny_lm, ["sums_*"], settings(tinybench), Silent(), include=[tinybench / "mine"])
    assert [score.metric for score in scores] == ["word_perplexity", "byte_perplexity", "bits_per_byte"]
    bits = scores[2].quality
    texts = [f"How much is {i} and 1,000?" for i in range(8)]
    lm = UnderdogLM(tiny_lm)
    nats = lm.loglikelihood_rolling([Instance("loglikelihood_rolling", {}, (text,), 0) for text in texts])
    assert bits.mean == pytest.approx(-sum(nats) / sum(map(len, texts)) / np.log(2), abs=1e-6)
    assert bits.low < bits.mean < bits.high and bits.n == 8


def test_repeated_drawn_texts_differ_and_come_again(tinybench: Path, tiny_lm):
    settings_of_writing = "generation_kwargs: {until: [], do_sample: true, temperature: 1.5, max_gen_toks: 8}\n"
    write_task(tinybench / "mine", "sums_drawn", WRITING + settings_of_writing)
    found = [
        simple_evaluate(
            model=UnderdogLM(tiny_lm),
            tasks=["sums_drawn"],
            task_manager=TaskManager(include_path=[tinybench / "mine"], include_defaults=False),
            limit=3,
            bootstrap_iters=0,
        )
        for _ in range(2)
    ]
    drawn = [[sample["resps"] for sample in one["samples"]["sums_drawn"]] for one in found if one]
    assert drawn[0] == drawn[1]
    assert all(first != second for ((first, second),) in drawn[0])


def test_the_registered_name_makes_the_same_model_from_text(tinybench: Path, tiny_folder: Path, tiny_lm):
    ended = simple_evaluate(
        model="underdog",
        model_args=f"model={tiny_folder},max_length=128",
        tasks=["tinybench_arc_challenge"],
        task_manager=TaskManager(include_path=[TASKS], include_defaults=False),
        device="cpu",
        batch_size=1,
        use_cache=str(tinybench / "answers"),
        bootstrap_iters=0,
    )
    assert ended is not None and ended["config"]["model_num_parameters"] == tiny_lm.parameter_count()
    (acc, _) = run_tasks(tiny_lm, ["tinybench_arc_challenge"], settings(tinybench), Silent())
    assert ended["results"]["tinybench_arc_challenge"]["acc,none"] == pytest.approx(acc.quality.mean)
    assert (tinybench / "answers_rank0.db").exists()
    with pytest.raises(HarnessRefused, match="knowing is no single model"):
        simple_evaluate(model=UnderdogLM(Knowing()), tasks=["x"], use_cache=str(tinybench / "answers"))


def test_lm_evals_own_command_line_knows_the_model(tinybench: Path, tiny_folder: Path):
    arguments = ["--model", "underdog", "--model_args", f"model={tiny_folder}", "--include_path", str(TASKS), "--limit", "2"]
    code = (
        "import lm_eval.tasks as tasks; plain = tasks.TaskManager.__init__\n"
        "def quick(self, *a, **k): plain(self, *a, **{**k, 'include_defaults': False})\n"  # half a minute less
        "tasks.TaskManager.__init__ = quick\nfrom underdog.harness.__main__ import main\nmain()"
    )
    command = [sys.executable, "-c", code, *arguments, "--tasks", "tinybench_arc_challenge"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "|tinybench_arc_challenge|" in ended.stdout and "|acc_norm|" in ended.stdout


def vote_of(folder: Path, *members: Path) -> Path:
    """Write a vote of models, each with a weight of its own, as a search leaves one behind."""
    here = settings(folder)
    plans = tuple(
        ModelPlan(
            name=path.name, model=str(path), identity=models.identity(str(path), here), scoring="sum", precision="float32",
            max_new_tokens=8,
        )
        for path in members
    )  # fmt: skip
    plan = VotePlan(name="both", members=plans, weights=(1.0, 0.5), metric="accuracy")
    write_text(folder / "system.json", SystemFile(system=plan).model_dump_json())
    return folder


def stack_of(folder: Path, base: Path) -> Path:
    """Write a stack of three steps on one base, with untaught adapters."""
    here = settings(folder)
    identity = models.identity(str(base), here)
    lm = models.load(str(base), here)
    for number in range(3):
        files.save_adapter(fresh(lm, 4, number), folder / str(number), base=str(base), base_identity=identity)
    chain = [step.model_copy(update={"max_tokens": 5}).model_dump(mode="json") for step in PRESETS["three_steps"]]
    kept = {
        "name": "three steps", "seed": 0, "chain": chain, "lists_choices": True, "share_prompt": False, "shorten": True,
        "scoring": "sum", "precision": "float32", "steps": [{"base": str(base), "adapter": str(number)} for number in range(3)],
        "data": "none", "stack": {}, "task": None, "notes": [],
    }  # fmt: skip
    write_json(folder / "stack.json", kept)
    return folder


def test_stacks_and_systems_run_from_their_folders_and_score_as_they_answer(tinybench: Path, tiny_folder: Path, tmp_path: Path):
    other = tiny.write_llama(tmp_path / "other", seed=1)
    vote, stack = vote_of(tmp_path / "vote", tiny_folder, other), stack_of(tmp_path / "stack", tiny_folder)
    rows = choice_rows()
    asked = [Question(row["id"], f"Question: {row['question']}", choices=tuple(row["choices"])) for row in rows]
    here = settings(tinybench)
    for folder, system in ((vote, open_system(vote, here)), (stack, load_stack(stack, here))):
        right = sum(answer.choice == row["answer"] for answer, row in zip(system.answer(asked), rows, strict=True))
        code, out, err = said(folder, "--lm-eval", "tinybench_arc_challenge", "--json")
        assert code == 0, err
        expected = json.loads(wilson(right, 12).model_dump_json())
        assert [score["quality"] for score in json.loads(out)] == [expected, expected]  # acc and acc_norm


def said(*arguments: object) -> tuple[int, str, str]:
    ended = CliRunner().invoke(app, ["evaluate", *map(str, arguments)])
    return ended.exit_code, ended.stdout, ended.stderr


def test_the_command_prints_a_table_or_json(tinybench: Path, tiny_folder: Path):
    names = "tinybench_arc_challenge,tinybench_hellaswag"
    code, out, err = said(tiny_folder, "--lm-eval", names, "--lm-eval", "tinybench_mmlu", "--limit", 4)
    assert code == 0, err
    assert "tinybench_mmlu" in out and "acc_norm ↑" in out and "95 % interval" in out
    code, out, _ = said(tiny_folder, "--lm-eval", names, "--limit", 4, "--json")
    scores = json.loads(out)
    assert [(score["task"], score["metric"]) for score in scores] == [
        (f"tinybench_{name}", metric) for name in ("arc_challenge", "hellaswag") for metric in ("acc", "acc_norm")
    ]
    assert all(score["quality"]["n"] == 4 and score["quality"]["low"] < score["quality"]["high"] for score in scores)
    assert (
        said(tiny_folder, "--lm-eval", "tinybench_a*", "--dry-run")[1]
        == f"Would score {tiny_folder} on tinybench_arc_challenge.\n"
    )


@pytest.mark.parametrize(
    "arguments, told",
    [
        ([], "name either a task file, or with --lm-eval tasks"),
        (["task.yaml", "--lm-eval", "tinybench_mmlu"], "beside --lm-eval, a task file is for systems that ask servers"),
        (["--lm-eval", "tinybench_mmlu", "--test"], "--scoring, --test and --run are for task files"),
        (["task.yaml", "--limit", "3"], "--include-path, --limit, --draw and --precision are for tasks of lm-evaluation-harness"),
        (["task.yaml", "--precision", "bf16"], "--include-path, --limit, --draw and --precision are for tasks of"),
        (["--lm-eval", "tinybench_mmlu", "--precision", "bf8"], "no precision is called 'bf8'"),
        (
            ["--lm-eval", "tinybench_mmlu", "--limit", "3", "--draw", "3"],
            "--limit takes the first items of each task, --draw any",
        ),
        (["--lm-eval", "tinybench_mmlu", "--include-path", "nowhere"], "nowhere is no folder"),
        (["--lm-eval", "tinybench_mmlu", "--shots", "5"], "tinybench_mmlu is asked without worked examples"),
    ],
)
def test_what_does_not_go_together_is_told(tinybench: Path, tiny_folder: Path, arguments: list[str], told: str):
    code, out, err = said(tiny_folder, *arguments)
    assert (code, out) == (1, "")
    assert err.startswith("Error: ") and told in err


def test_an_unknown_task_is_answered_with_the_nearest(tinybench: Path, monkeypatch: pytest.MonkeyPatch):
    import underdog.harness.run as run

    ours = TaskManager(include_path=[TASKS], include_defaults=False)
    monkeypatch.setattr(run, "TaskManager", lambda **_: ours)  # half a minute less
    with pytest.raises(UnknownName) as caught:
        find_tasks(["tinybench_arc_chalenge"], [])
    assert "no task of lm-evaluation-harness is called 'tinybench_arc_chalenge'. Nearest: tinybench_arc_challenge" in str(
        caught.value
    )
    assert "It knows 6 tasks and groups" in str(caught.value) and "--include-path DIR" in str(caught.value)


def test_missing_data_and_models_are_told_before_anything_else(tinybench: Path, tiny_lm, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(ModelUnavailable, match="there is no such folder"):
        run_tasks("./nowhere", ["tinybench_mmlu"], settings(tinybench), Silent())
    with pytest.raises(
        UnknownName, match=r"no argument of the model 'underdog' is called 'max_lenght'. Did you mean 'max_length'"
    ):
        UnderdogLM(tiny_lm, max_lenght=3)
    with pytest.raises(UnknownName, match="no precision is called 'float16'"):
        UnderdogLM(tiny_lm, precision="float16")  # pyright: ignore[reportArgumentType]
    with pytest.raises(HarnessRefused, match="comes with worked examples of its own"):
        UnderdogLM(ModelAnswerer(tiny_lm, prefix="Q: 1 A: 1"))
    with pytest.raises(HarnessRefused, match="has no chat template"):
        UnderdogLM(tiny_lm).apply_chat_template([{"role": "user", "content": "x"}])
    monkeypatch.delenv("UNDERDOG_DATA")
    with pytest.raises(DataFileMissing, match="UNDERDOG_DATA names; it is not set"):
        run_tasks(tiny_lm, ["tinybench_mmlu"], settings(tinybench), Silent())


def test_a_task_that_cannot_be_loaded_or_written_for_is_told(tinybench: Path, tiny_lm):
    write_task(
        tinybench / "mine",
        "broken",
        "output_type: multiple_choice\ndoc_to_text: '{{question'\ndoc_to_choice: [a, b]\ndoc_to_target: 0\n",
    )
    with pytest.raises(HarnessRefused, match="broken: lm-evaluation-harness cannot load this \\(TemplateSyntaxError"):
        run_tasks(tiny_lm, ["broken"], settings(tinybench), Silent(), include=[tinybench / "mine"])
    write_task(tinybench / "mine", "beams", WRITING + "generation_kwargs: {until: [], num_beams: 4, max_gen_toks: 8}\n")
    with pytest.raises(HarnessRefused, match="task beams: generation setting 'num_beams' is not one that Underdog's models know"):
        run_tasks(tiny_lm, ["beams"], settings(tinybench), Silent(), include=[tinybench / "mine"])


def test_without_lm_eval_it_says_how_to_install_it():
    code = "import sys; sys.modules['lm_eval'] = None; sys.argv = ['underdog', 'evaluate', 'm', '--lm-eval', 'mmlu']\n"
    ended = subprocess.run(
        [sys.executable, "-c", f"{code}from underdog.cli import main; main()"], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith("Error: lm-evaluation-harness cannot be imported here")
    assert "pip install 'underdog[lm-eval]'" in ended.stderr


@pytest.mark.data
def test_the_real_files_hold_what_the_tasks_ask_for(data: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("UNDERDOG_DATA", str(data))
    manager, names = find_tasks(["tinybench_*"], [])
    loaded = manager.load(names)["tasks"]
    counts = {name.removeprefix("tinybench_"): len(task.eval_docs) for name, task in loaded.items()}
    assert counts == {
        "arc_challenge": 1172, "gsm8k": 1319, "hellaswag": 2000, "mmlu": 14042, "truthfulqa_mc1": 817, "winogrande": 1267,
    }  # fmt: skip
    for task in loaded.values():
        task.build_all_requests(limit=3)
        assert len({instance.doc_id for instance in task.instances}) == 3
        assert all(part.strip() for instance in task.instances for part in instance.args if isinstance(part, str))
