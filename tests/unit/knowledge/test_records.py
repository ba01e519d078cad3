"""One record: what its key and checksum stand for, and what it refuses."""

import json
import math
from dataclasses import replace

import pytest

from records import record
from underdog.knowledge.records import Damage, Record, checksum, unharmed
from underdog.teachers.writing import Reply, Request, Sampling


def test_a_record_has_the_key_of_its_request() -> None:
    assert record(1).key == record(1).request.key
    assert record(1, "something else", item="another", task=None).key == record(1).key
    assert record(2).key != record(1).key


def test_equal_requests_have_equal_keys_however_their_numbers_are_written() -> None:
    asked = [Request("t", "r", "p", Sampling(8, temperature=warm, top_p=p)) for warm, p in ((0, 1), (0.0, 1.0))]
    assert asked[0] == asked[1]
    assert asked[0].key == asked[1].key


def test_imported_texts_are_told_apart_by_what_they_are_and_belong_to_because_nobody_knows_their_prompt() -> None:
    imported = record(1, mode="imported")
    assert replace(imported, created="2030-01-01T00:00:00+00:00", source="copy.jsonl").key == imported.key
    others = [
        replace(imported, item="item-2"),
        replace(imported, task="another"),
        replace(imported, answer="B"),
        replace(imported, saw_answer=True),
        replace(imported, reply=replace(imported.reply, text="Another.")),
        replace(imported, request=replace(imported.request, teacher="small-1b")),
    ]
    assert len({imported.key, *(other.key for other in others)}) == 7


def test_what_is_written_down_is_restored_exactly_and_always_written_alike() -> None:
    kept = record(3, 'Tab\t, NUL \0, "quotes", ü, 漢字, 😀', usd=0.1 + 0.2, answer="yes", source="file.jsonl")
    written = kept.written()
    assert unharmed(kept.key, written, checksum(written)) == kept
    assert unharmed(kept.key, written, checksum(written)).written() == written
    assert "\0" not in written


def test_half_a_character_becomes_a_replacement_character() -> None:
    cut = json.loads(r'"fine \ud83d"')
    kept = record(1, cut, answer=cut, item=cut)
    assert (kept.reply.text, kept.answer, kept.item) == ("fine \ufffd",) * 3
    kept.written().encode()


def test_a_record_holds_what_was_asked_and_said_and_nothing_of_how_the_server_was_reached() -> None:
    assert set(json.loads(record(1).written())) == {
        "key", "request", "reply", "item", "task", "mode", "saw_answer", "created", "source", "answer",
    }  # fmt: skip
    assert set(json.loads(record(1).written())["request"]) == {"teacher", "revision", "prompt", "sampling"}


@pytest.mark.parametrize(
    "changes", [{"usd": math.nan}, {"usd": math.inf}, {"usd": -0.01}, {"seconds": math.nan}, {"input_tokens": -1}]
)
def test_amounts_that_would_spoil_every_sum_are_refused(changes: dict[str, float]) -> None:
    reply = replace(Reply("Because.", "stop", 1, 1, 0.0), **changes)
    with pytest.raises(ValueError, match="a reply's cost, time and tokens are finite and not negative"):
        replace(record(1), reply=reply)


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(ValueError, match="a record's mode is one of free, forced, imported, not 'forcd'"):
        record(1, mode="forcd")  # type: ignore[arg-type]


def test_harm_is_named() -> None:
    kept = record(1)
    written = kept.written()

    def found(key: str, content: str, sum_: str) -> str:
        with pytest.raises(ValueError) as harm:
            unharmed(key, content, sum_)
        return str(harm.value)

    assert found(kept.key, written.replace("Because", "Becauze"), checksum(written)) == "its content does not fit its checksum"
    other = record(2).key
    assert found(other, written, checksum(written)) == f"it stands under another key than its own, {kept.key}"
    for nonsense in ("[]", "{", '{"key": "a"}', '"text"', json.dumps({"key": kept.key, "request": {}})):
        assert found(kept.key, nonsense, checksum(nonsense)).startswith("its content is no record (")
    strange = json.dumps({**json.loads(written), "mode": "other"})
    assert found(kept.key, strange, checksum(strange)).startswith(
        "its content is no record (ValueError: a record's mode is one of"
    )


def test_damage_says_where() -> None:
    assert str(Damage(7, "ab" * 32, "it is torn")) == "record 7 (key abababababababab): it is torn"
    assert str(Damage(7, None, "it is torn")) == "record 7: it is torn"
    assert str(Damage(None, None, "an index is torn")) == "the database: an index is torn"


def test_a_record_reads_back_as_its_own_type() -> None:
    assert isinstance(Record.restored(json.loads(record(1).written())).request.sampling.stop, tuple)
