"""What a file asks for is what is built: sizes, ranks, tables, context; and what cannot be is told before anything is trained."""

import json
from pathlib import Path

import pytest
import torch

import replaces
from flow import planted
from underdog.errors import ModelUnavailable, TaskError, TextTooShort
from underdog.nanofft.configuration import small
from underdog.nanofft.modeling import parameter_count
from underdog.progress import Silent
from underdog.replacing import learners, recordings
from underdog.replacing.compare import compare
from underdog.replacing.learners import nanofft_config
from underdog.replacing.ready import Bench
from underdog.replacing.ways import NanoFFT, ResidualWay, Shrunk
from underdog.runs import Run
from underdog.systems.replaceable.pair import Pair


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return replaces.bench(replaces.write(tmp_path_factory.mktemp("bench")))


def test_a_size_takes_the_widest_states_that_fit(bench: Bench):
    config = nanofft_config(NanoFFT(size="60K", layers=2), bench.llm, 32)
    wider = nanofft_config(NanoFFT(hidden_size=config.hidden_size + 8, layers=2), bench.llm, 32)
    assert parameter_count(config) <= 60_000 < parameter_count(wider)
    assert (config.embedding_size, config.vocab_size, config.max_position_embeddings) == (32, len(bench.llm.head_weight), 32)
    with pytest.raises(
        ModelUnavailable, match=r"no small model of 1,000 parameters has 2 layers and the tables of .* the narrowest"
    ):
        nanofft_config(NanoFFT(size="1K", layers=2), bench.llm, 32)


def test_the_seeds_small_model_is_the_seeds():
    class Llm:
        """As far as a shape asks of it."""

        head_weight, input_width, pad, tokenizer = torch.empty(1092, 1), 1024, 0, type("T", (), {"eos_token_id": 1})()

    config = nanofft_config(NanoFFT(hidden_size=384, layers=7, context=370), Llm(), 128)  # type: ignore[arg-type]
    assert parameter_count(config) == parameter_count(small()) == 9_756_156


def test_tables_begin_as_the_llms_or_fresh(bench: Bench):
    way = ResidualWay()
    copied = learners.part_of(bench, way)
    assert torch.equal(copied.model.get_input_embeddings().weight, bench.llm.model.get_input_embeddings().weight)
    fresh = learners.part_of(bench, way.model_copy(update={"small": NanoFFT(hidden_size=32, layers=1, tables="fresh")}))
    assert not torch.equal(fresh.model.get_input_embeddings().weight, copied.model.get_input_embeddings().weight)


def test_a_small_model_is_cut_from_the_llm_or_has_its_shape_only(bench: Bench):
    def part(**fields: str):
        return learners.part_of(bench, ResidualWay(small=Shrunk(size="35K", **fields)))  # type: ignore[arg-type]

    copied, fresh = part(), part(weights="fresh")
    assert copied.parameter_count() == fresh.parameter_count() <= 35_000
    assert torch.equal(copied.head_weight, bench.llm.head_weight) and not torch.equal(fresh.head_weight, bench.llm.head_weight)


def test_first_weights_follow_from_the_seed_and_the_llm_is_left_alone(bench: Bench):
    before = {name: value.clone() for name, value in bench.llm.model.state_dict().items()}
    for way in bench.spec.ways:
        one, same, other = (learners.build(bench, way, seed) for seed in (1, 1, 2))
        if isinstance(one, Pair):
            one, same, other = one.small, same.small, other.small  # type: ignore[union-attr]
        else:
            one, same, other = one.model, same.model, other.model  # type: ignore[union-attr]
        pairs = zip(one.state_dict().values(), same.state_dict().values(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs), way.kind
        if way.kind not in ("full",):
            theirs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
            assert not all(torch.equal(a, b) for a, b in theirs), way.kind
        with torch.no_grad():
            for parameter in one.parameters():
                if parameter.requires_grad:
                    parameter.add_(1)
    after = bench.llm.model.state_dict()
    assert after.keys() == before.keys() and all(torch.equal(after[name], before[name]) for name in before)


def test_an_adapter_has_the_rank_that_comes_nearest_to_its_small_model(bench: Bench):
    lora, residual = bench.spec.way("lora"), bench.spec.way("residual")
    wanted = learners.trainable(learners.build(bench, residual, 0))
    learner = learners.build(bench, lora, 0)
    rank = learners.rank(learner)
    each = learners.trainable(learner) / rank
    assert abs(rank * each - wanted) <= min(abs((rank + step) * each - wanted) for step in (-1, 1))
    assert learners.in_memory(learner) == bench.llm.parameter_count(), "adapters are folded in when it answers"


def test_the_llm_reads_once_for_all_where_that_is_less(bench: Bench):
    residual, follower = bench.spec.way("residual"), bench.spec.way("follower")
    count = len(bench.subject.corpus.train)  # type: ignore[attr-defined]
    assert 2 * count < 100 * 8 * 32, "or the planted text has grown"

    def times(way: object, steps: int, **how: object) -> int:
        spec = bench.spec.model_copy(update={"recording": bench.spec.recording.model_copy(update=how)})
        here = Bench(spec, bench.run, bench.settings, bench.progress, bench.llm, bench.known, bench.subject, bench.context)
        plan = spec.plan(way, 1e-2, 0)  # type: ignore[arg-type]
        return recordings.passes(here, way, type(plan)(**{**_fields(plan), "steps": steps}))  # type: ignore[arg-type]

    few = count // (8 * 32)
    assert times(residual, 100) == times(follower, 100) == 2
    assert times(residual, few) == 0 and times(residual, few, when="always") == 1
    assert times(residual, 100, when="never") == 0
    assert times(residual, 100, gigabytes=count * 64 * 1.5 / 1e9) == 1, "there is room for one pass of hidden states"
    assert times(residual, 100, gigabytes=1e-9) == 0


def _fields(plan: object) -> dict:
    return {name: getattr(plan, name) for name in plan.__dataclass_fields__}  # type: ignore[attr-defined]


def test_more_context_than_a_model_reads_is_refused(tmp_path: Path):
    with pytest.raises(TaskError, match=r"training.context is 300, but .*llm reads 256 tokens at most. Allowed: 2 to 256."):
        replaces.bench(replaces.write(tmp_path, replaces.FILE.replace("context: 32", "context: 300")))
    narrow = replaces.FILE.replace("layers: 1}", "layers: 1, context: 20}")
    with pytest.raises(
        TaskError, match=r"training.context is 32, but the small model reads 20 tokens at most. Allowed: 2 to 20."
    ):
        replaces.bench(replaces.write(tmp_path, narrow))
    assert replaces.bench(replaces.write(tmp_path, narrow.replace("context: 32, ", ""))).context == 20


def test_the_test_part_is_sealed_until_it_is_opened(tmp_path: Path):
    bench = replaces.bench(replaces.write(tmp_path))
    with pytest.raises(ValueError, match="the test part is sealed"):
        bench.subject.score(bench.llm, "test", bench.progress)
    bench.subject.open_test("trying")
    assert bench.subject.score(bench.llm, "test", bench.progress).mean > 0
    assert [one["reason"] for one in bench.run.openings()] == ["trying"]


def test_held_out_text_that_is_too_short_is_told_before_anything_is_trained(tmp_path: Path):
    path = replaces.write(tmp_path, replaces.FILE.replace("text: texts", "text: texts\nown: own"))
    own = replaces.bench(path).own
    assert own is not None
    for number in range(3):
        (tmp_path / "own" / f"tale-{number}.txt").write_text("ab")
    with pytest.raises(
        TextTooShort, match=r"test part, held out from training: 'tale-\d' have 1 tokens to predict in all, too few"
    ):
        assert replaces.bench(path).own
    for number in range(5):
        (tmp_path / "texts" / f"tale-{number}.txt").write_text("ab" if number else "the old man " * 50)
    with pytest.raises(TextTooShort, match=r"valid part, .* Allowed: 20 or more. Give longer texts, or hold out a larger share."):
        replaces.bench(path)


def test_text_that_the_llm_has_learnt_is_not_taken_for_held_out(tmp_path: Path):
    """An LLM that `underdog pretrain` has made says which texts it learnt from."""
    content = replaces.FILE.replace("llm: llm", "llm: made/model").replace("text: texts", "text: {folder: texts}\nown: own")
    path = replaces.write(tmp_path, content)
    (tmp_path / "made").mkdir()
    (tmp_path / "llm").rename(tmp_path / "made" / "model")
    held_out = {"own": [], "texts": []}
    here = replaces.bench(path)
    held_out["own"], held_out["texts"] = list(here.own.file.names), list(here.subject.corpus.valid.names)  # type: ignore[union-attr]

    def learnt(folder: str, documents: list[str]) -> None:
        said = {"folder": folder, "parts": {"train": {"documents": documents}}}
        told = {"corpus": said, "spec": {"corpus": {"seed": 3, "held_out": 0.1}}}
        (tmp_path / "made" / "pretraining.json").write_text(json.dumps(told))

    for folder, field in (("own", "own"), ("texts", "text")):
        learnt(f"elsewhere/{folder}", held_out[folder])
        with pytest.raises(
            TaskError, match=rf"{field}: 1 of the \d texts .* `seed: 3` and `held_out: 0.1`, or name another folder."
        ):
            assert replaces.bench(path).own
        learnt(f"elsewhere/{folder}", ["tale-of-others"])
        assert replaces.bench(path).own


def test_items_that_do_not_fit_are_counted(tmp_path: Path):
    rows = planted.label_rows(40)
    for row in rows[::2]:
        row["text"] += " was" * 300
    planted.write_task(tmp_path, rows)
    content = replaces.FILE.replace("text: texts", "task: task.yaml").replace(", context: 32", "")
    bench = replaces.bench(replaces.write(tmp_path, content))
    lessons = bench.subject.lessons(bench.llm)
    left, items = bench.subject.left_out(lessons), bench.subject.splits.train  # type: ignore[attr-defined]
    assert left == sum(" was was was" in item.question.prompt for item in items) > 0
    assert len(lessons) == len(items) - left


def test_a_branch_that_the_llm_cannot_have_is_refused_before_anything_is_trained(tmp_path: Path):
    content = replaces.FILE.replace("  - lora", "  - {kind: branch, layers: 1}\n  - lora")
    bench = replaces.bench(replaces.write(tmp_path / "one", content))
    small = learners.build(bench, bench.spec.way("branch"), 0)
    assert learners.trainable(small) == sum(p.numel() for p in bench.llm.layers[-1].parameters()) + bench.llm.config.hidden_size
    most = len(bench.llm.layers) - 1
    for layers in (most + 1, 99):
        asked = content.replace("branch, layers: 1", f"branch, layers: {layers}")
        refused = f"a branch of {layers} layers cannot stand in for those of .*Allowed: 1 to {most}."
        assert_refused(replaces.write(tmp_path / str(layers), asked), refused)


@pytest.mark.parametrize("small", ["1K", "{kind: nanofft, size: 1K, layers: 2}"])
def test_a_size_that_cannot_be_is_refused_before_anything_is_trained(tmp_path: Path, small: str):
    asked = replaces.FILE.replace("  - alone\n", "").replace("{kind: nanofft, hidden_size: 32, layers: 1}", small)
    assert_refused(
        replaces.write(tmp_path, asked.replace("ways:\n", "ways:\n  - {kind: full, name: first}\n")), "1,000 parameters"
    )


def assert_refused(path: Path, words: str) -> None:
    """Comparing says so, and no way has been trained."""
    spec, run = replaces.load(path), Run(path.parent / "refused")
    with pytest.raises(ModelUnavailable, match=words):
        compare(spec, run, path.parent / "registry", settings=replaces.settings(path.parent), progress=Silent())
    assert not (run.folder / "trials").exists()
