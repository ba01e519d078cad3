"""What validation teaches about models' probabilities: a temperature for each, and weights for several."""

from collections.abc import Sequence

import numpy as np

from underdog.answering import Answer
from underdog.errors import TaskError
from underdog.evaluation.calibration import choice_matrix, fit_temperature
from underdog.systems.together.plans import CalibratedPlan, Plan
from underdog.systems.together.weights import FOLDS, choice_features, choose_ridge, fit_weights
from underdog.task.examples import Example


def calibrated(plan: Plan, answers: Sequence[Answer], items: Sequence[Example]) -> Plan:
    """The plan with a temperature fitted on what it answered to these items; as it is where it never weighs choices."""
    weighed = [(one, item) for one, item in zip(answers, items, strict=True) if one.log_probabilities]
    if not weighed:
        return plan
    matrix = choice_matrix([one.log_probabilities for one, _ in weighed])
    gold = np.array([item.gold for _, item in weighed])
    return CalibratedPlan(inner=plan, temperature=fit_temperature(matrix, gold), fitted_on=len(gold))


def vote_weights(name: str, said: Sequence[Sequence[Answer]], items: Sequence[Example], seed: int) -> tuple[float, ...]:
    """A weight for each member of a vote from what they said ([members][items]), fitted on the items that all answered.

    Raises TaskError where these are fewer than two.
    """
    rows = zip(*said, strict=True)
    both = [(row, item) for row, item in zip(rows, items, strict=True) if all(one.log_probabilities for one in row)]
    if len(both) < 2:
        raise TaskError(
            f"vote {name!r} learns its weights from at least two validation items that every member answered, and {len(both)} of "
            f"{len(items)} are. Write `how: likelihood`, or take a member out"
        )
    opinions = [choice_matrix([row[place].log_probabilities for row, _ in both]) for place in range(len(said))]
    features = choice_features(np.stack(opinions, axis=1))
    gold = np.array([item.gold for _, item in both])
    ridge = choose_ridge(features, gold, nonnegative=len(said), folds=min(FOLDS, len(gold)), seed=seed)
    return tuple(map(float, fit_weights(features, gold, ridge, nonnegative=len(said))))
