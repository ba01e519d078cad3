"""Money: what is set aside and spent, and the cap that nothing passes."""

import math
from collections.abc import Iterator

import pytest

from records import record
from underdog.errors import UnknownName
from underdog.knowledge.ledger import account
from underdog.knowledge.records import Spending
from underdog.knowledge.store import Store


@pytest.fixture
def store(store_address: str) -> Iterator[Store]:
    with Store.open(store_address) as store:
        yield store


def test_money_is_set_aside_up_to_the_cap_and_comes_free_when_a_call_cost_less(store: Store) -> None:
    first = store.reserve("big-7b", 0.5, cap=1.0)
    second = store.reserve("big-7b", 0.5, cap=1.0)
    assert first and second
    assert store.reserve("big-7b", 0.125, cap=1.0) is None
    assert store.reserve("other", 0.125, cap=1.0) is not None
    store.settle(first, 0.25)
    assert store.spending("big-7b") == Spending(settled=0.25, open=0.5)
    assert store.reserve("big-7b", 0.5, cap=1.0) is None
    assert store.reserve("big-7b", 0.25, cap=1.0) is not None
    assert store.spent("big-7b") == 1.0
    assert store.spent("nobody") == 0.0


def test_what_was_never_settled_still_counts_when_the_store_is_opened_again(store_address: str) -> None:
    with Store.open(store_address) as store:
        assert store.reserve("big-7b", 0.75, cap=1.0)
    with Store.open(store_address) as store:
        assert store.spent("big-7b") == 0.75
        assert store.reserve("big-7b", 0.5, cap=1.0) is None


def test_without_a_cap_calls_are_booked_all_the_same(store: Store) -> None:
    name = store.reserve("big-7b", 3.0, cap=None)
    assert name
    store.settle(name, 2.0)
    assert store.reserve("big-7b", 0.5, cap=2.0) is None


def test_added_records_cost_what_they_cost_unless_their_calls_were_booked(store: Store) -> None:
    store.add([record(1, usd=0.5), record(2, usd=0.25), record(3, teacher="other", usd=1.0)])
    assert (store.spent("big-7b"), store.spent("other")) == (0.75, 1.0)
    store.add([record(1, usd=0.5), record(2, usd=0.25)])
    assert store.spent("big-7b") == 0.75
    store.add([record(4, usd=8.0)], accounted=True)
    assert store.spent("big-7b") == 0.75


def test_each_server_has_its_account_and_what_records_from_elsewhere_cost_counts_at_all(store: Store) -> None:
    here, there = account("big-7b", "https://here/v1"), account("big-7b", "https://there:8080/v1/")
    name = store.reserve(here, 0.5, cap=1.0)
    assert name
    store.settle(name, 0.5)
    assert (store.spent(here), store.spent(there), store.spent("big-7b"), store.spent("big")) == (0.5, 0.0, 0.5, 0.0)
    assert store.reserve(there, 1.0, cap=1.0)
    store.add([record(1, usd=0.25)])
    assert (store.spent(here), store.spent(there), store.spent("big-7b")) == (0.75, 1.25, 1.75)
    assert store.reserve(here, 0.5, cap=1.0) is None and store.reserve(here, 0.25, cap=1.0)
    assert store.spending_of_all() == {
        "big-7b": Spending(0.25, 0.0),
        "big-7b at here": Spending(0.5, 0.25),
        "big-7b at there:8080": Spending(0.0, 1.0),
    }


def test_a_reservation_is_settled_once(store: Store) -> None:
    name = store.reserve("big-7b", 0.5, cap=1.0)
    assert name
    store.settle(name, 0.25)
    with pytest.raises(UnknownName, match=f"no open reservation is called '{name}'.*was settled before"):
        store.settle(name, 0.25)
    assert store.spent("big-7b") == 0.25


@pytest.mark.parametrize("usd", [math.nan, math.inf, -0.1])
def test_an_amount_that_is_no_money_is_refused(store: Store, usd: float) -> None:
    name = store.reserve("big-7b", 0.5, cap=1.0)
    assert name
    with pytest.raises(ValueError, match="an amount of money is finite and not negative"):
        store.reserve("big-7b", usd, cap=1.0)
    with pytest.raises(ValueError, match="an amount of money is finite and not negative"):
        store.settle(name, usd)
    assert store.spent("big-7b") == 0.5


def test_a_cap_that_is_no_number_lets_nothing_through(store: Store) -> None:
    assert store.reserve("big-7b", 0.0, cap=math.nan) is None
