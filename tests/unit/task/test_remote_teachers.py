"""What a task file may not say about remote teachers, and about how teachers are asked."""

from typing import Any

import pytest

PRICES = {"usd_per_million_input": 1.0, "usd_per_million_output": 2.0}


def remote(**fields: Any) -> list[dict[str, Any]]:
    big = {"name": "big", "model": "some-model"}
    return [big, {"name": "far", "model": "m", "url": "https://example.org/v1", **fields}]


def test_a_remote_teacher_with_a_key_prices_and_a_cap_loads(folder) -> None:
    far = folder.task(teachers=remote(key="FAR_KEY", prices=PRICES, cap_usd=2.5)).spec.teacher("far")
    assert (far.kind, far.key, far.cap_usd, far.prices.usd_per_million_output) == ("remote", "FAR_KEY", 2.5, 2.0)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"cap_usd": 1.0}, "teacher 'far' has a cap on spending, but no prices to reckon with. Add `prices: "
         "{usd_per_million_input: ..., usd_per_million_output: ...}`, or remove `cap_usd`."),
        ({"ask": {"samples": 3}}, "3 samples of 'far' at temperature 0 would all be the same. Give `ask` a `temperature` above "
         "0, or ask for one sample."),
        ({"url": "example.org/v1"}, "the address of teacher 'far' is 'example.org/v1'; it must start with http:// or https:// "
         "and name a server. Write one such as http://localhost:8080/v1."),
        ({"url": "ftp://example.org"}, "it must start with http:// or https://"),
        ({"url": "https:///v1"}, "and name a server."),
        ({"url": "https://example.org:port/v1"}, "the address of teacher 'far' cannot be read."),
        ({"url": "https://example.org/v1?key=1"}, "the address of teacher 'far' has something after its path"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_said_with_its_line(folder, fields: dict[str, Any], message: str) -> None:
    problem = folder.problem(teachers=remote(**fields))
    assert problem.startswith("task.yaml:") and message in problem


@pytest.mark.parametrize("fields", [{"key": "sk-a1b2c3d4"}, {"url": "https://me:sk-a1b2c3d4@example.org/v1"}])
def test_a_secret_in_the_task_file_is_refused_and_not_repeated(folder, fields: dict[str, Any]) -> None:
    problem = folder.problem(teachers=remote(**fields))
    assert "environment" in problem and "a1b2c3d4" not in problem


def test_samples_of_a_local_teacher_need_a_temperature_too(folder) -> None:
    big = {"name": "big", "model": "some-model", "ask": {"samples": 2}}
    assert "2 samples of 'big' at temperature 0" in folder.problem(teachers=[big])
    big["ask"]["temperature"] = 0.7
    assert folder.task(teachers=[big]).spec.teacher("big").ask.samples == 2


def test_one_name_for_the_models_of_two_servers_is_refused_without_a_revision(folder) -> None:
    near = {"name": "near", "model": "m", "url": "http://localhost:8080/v1"}
    problem = folder.problem(teachers=[*remote(), near])
    assert (
        "teachers 'far' and 'near' are both called 'm' by their servers, and what one says would be kept as the other's."
        in problem
    )
    assert "Give one of them a `revision`; or, if they are one model, name it once." in problem
    assert len(folder.task(teachers=[*remote(), near | {"revision": "4 bits"}]).spec.teachers) == 3
    assert len(folder.task(teachers=[*remote(), near | {"url": "https://example.org/v1/"}]).spec.teachers) == 3
