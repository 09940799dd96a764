"""Random and Bayesian search, and early stopping, by Optuna's ask and tell on a journal that launchers share."""

import hashlib
import importlib.util
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, NamedTuple

from lightning_cv.errors import UserError
from lightning_cv.sweeps.parameters import ENUMERABLE, Parameter, Value
from lightning_cv.sweeps.spec import Point, Sweep

if TYPE_CHECKING:  # an extra, and slow to import
    import optuna
    from optuna.distributions import BaseDistribution

MOST_REDRAWS = 200
_NUMBER = "number"


class Drawn(NamedTuple):
    """A point that a search proposes, and its number in the journal."""

    point: Point
    asked: int


class Search:
    """Proposes points, and judges trials at work.

    Random points follow from the seed and the trial's number alone, whoever asks in whatever order. A Bayesian search
    (TPE; Bergstra et al. 2011) also follows from the results at the time.

    Args:
        sweep: what to search.
        journal: file that all launchers of the sweep share.
        seed: of the draws.
    """

    def __init__(self, sweep: Sweep, journal: Path, seed: int) -> None:
        if importlib.util.find_spec("optuna") is None:
            what = "early_terminate" if sweep.method == "grid" else f"method: {sweep.method}"
            raise UserError(f"{sweep.file}: {what} needs Optuna: pip install 'lightning-cv[sweeps]'")
        import optuna
        from optuna.storages import JournalStorage

        from lightning_cv.sweeps.journal import Journal

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.sweep, self.journal, self.seed = sweep, journal, seed
        finite = all(parameter.distribution in ENUMERABLE for parameter in sweep.parameters)
        self._points = math.prod(len(parameter.grid()) for parameter in sweep.parameters) if finite else math.inf
        with self._reading():
            self._study = optuna.create_study(
                storage=JournalStorage(Journal(journal)),
                study_name=sweep.fingerprint,
                direction=sweep.metric.goal if sweep.metric else "minimize",
                pruner=_pruner(sweep),
                load_if_exists=True,
            )

    def ask(self, number: int, is_new: Callable[[str], bool]) -> Drawn | None:
        """A point for a trial; None where none is left that no other trial has.

        Args:
            number: of the trial. One that was asked for before gets the same point.
            is_new: whether a point, by its trial's id, may be this trial's.
        """
        from optuna.samplers import RandomSampler, TPESampler

        fixed = {p.key: distribution for p in self.sweep.parameters if (distribution := distribution_of(p)) is not None}
        with self._reading():
            placed = [known for known in self._study.get_trials(deepcopy=False) if _NUMBER in known.user_attrs]
            for known in placed:
                if known.user_attrs[_NUMBER] == number and known.state.name == "RUNNING":
                    return Drawn(self._point(known.params), known.number)
            if len(placed) >= self._points:
                return None
            for attempt in range(MOST_REDRAWS):
                seed = _mix(self.seed, number, attempt)
                bayes = self.sweep.method == "bayes" and attempt == 0
                self._study.sampler = TPESampler(seed=seed, constant_liar=True) if bayes else RandomSampler(seed)
                trial = self._study.ask(fixed)
                point = self._point(trial.params)
                if is_new(self.sweep.trial_id(point)):
                    trial.set_user_attr(_NUMBER, number)
                    return Drawn(point, trial.number)
                self._tell(trial.number, None, "FAIL")
        return None

    def follow(self, number: int) -> int:
        """The number in the journal of a trial whose point is not drawn, such as one of a grid."""
        with self._reading():
            for known in self._study.get_trials(deepcopy=False):
                if known.user_attrs.get(_NUMBER) == number and known.state.name == "RUNNING":
                    return known.number
            trial = self._study.ask()
            trial.set_user_attr(_NUMBER, number)
            return trial.number

    def is_hopeless(self, number: int, asked: int, values: list[float]) -> bool:
        """Whether a trial with these values of the metric so far should be stopped early."""
        if self.sweep.stopping is None:
            return False
        import optuna

        with self._reading():
            known = self._known(number, asked)
            if known is None or known.state.name != "RUNNING":
                return False
            trial = optuna.trial.Trial(self._study, known._trial_id)
            for step in range(len(known.intermediate_values) + 1, len(values) + 1):
                trial.report(values[step - 1], step)
                if trial.should_prune():  # asked at every value: a later one alone would skip what comes before
                    return True
        return False

    def tell(self, number: int, asked: int, best: float | None, outcome: str) -> None:
        """Say how a trial ended: finished or pruned with the best value of the metric, anything else without."""
        with self._reading():
            known, value = self._known(number, asked), best if outcome == "finished" else None
            if known is None:
                return
            if known.state.name == "FAIL" and value is not None:  # it was asked for again, by `sweep retry`
                self._add(known, value)
            if known.state.name != "RUNNING":
                return  # told before
            if value is not None:
                self._tell(asked, value, "COMPLETE")
            else:
                self._tell(asked, None, "PRUNED" if outcome == "pruned" else "FAIL")

    def _tell(self, asked: int, value: float | None, state: str) -> None:
        from optuna.trial import TrialState

        self._study.tell(asked, value, state=TrialState[state])

    def _add(self, failed: "optuna.trial.FrozenTrial", value: float) -> None:
        from optuna.trial import create_trial

        self._study.add_trial(create_trial(params=failed.params, distributions=failed.distributions, value=value))

    def _known(self, number: int, asked: int) -> "optuna.trial.FrozenTrial | None":
        """What the journal says of a trial; None where it was made anew since, without it."""
        for known in self._study.get_trials(deepcopy=False)[asked : asked + 1]:
            if known.user_attrs.get(_NUMBER) == number:
                return known
        return None

    def _point(self, drawn: dict[str, Any]) -> Point:
        return self.sweep.point([value_of(p, drawn.get(p.key)) for p in self.sweep.parameters])

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """What a broken journal raises, as a message that names it."""
        try:
            yield
        except UserError:
            raise
        except OSError as error:
            raise UserError(f"cannot use the search's journal {self.journal}: {error.strerror or error}") from error
        except (ValueError, KeyError, TypeError, AssertionError, RuntimeError) as error:
            reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
            raise UserError(
                f"the search's journal {self.journal} is damaged: {type(error).__name__}: {reason}\n"
                "without that file the sweep goes on and no trial runs again, but the search forgets what it has learnt"
            ) from error


def distribution_of(parameter: Parameter) -> "BaseDistribution | None":
    """What Optuna draws for a parameter; None for a constant.

    Where Optuna has no such distribution, a number between 0 and 1 that `value_of` puts through its inverse.
    """
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    kind, numbers = parameter.distribution.removeprefix("q_"), parameter.numbers
    if kind == "constant":
        return None
    if kind == "categorical":
        return CategoricalDistribution(range(len(parameter.values)))
    if kind == "int_uniform":
        return IntDistribution(int(numbers["min"]), int(numbers["max"]))
    if kind in ("uniform", "log_uniform", "inv_log_uniform"):
        return FloatDistribution(numbers["min"], numbers["max"])
    if kind in ("log_uniform_values", "inv_log_uniform_values"):
        return FloatDistribution(numbers["min"], numbers["max"], log=True)
    return FloatDistribution(0.0, 1.0)


def value_of(parameter: Parameter, drawn: Any) -> Value:  # Any: a number, or the index of a value
    """The parameter's value for what Optuna drew.

    W&B, "Sweep configuration options", distributions. A quantized one is the nearest multiple of `q`, a whole number
    where `q` is. `inv_log_uniform` is x with log(1/x) uniform; between values that is what `log_uniform_values` is.
    """
    kind, numbers = parameter.distribution.removeprefix("q_"), parameter.numbers
    if kind == "constant":
        return parameter.values[0]
    if kind == "categorical":
        return parameter.values[drawn]
    if kind == "categorical_w_probabilities":
        bounds = accumulate(parameter.probabilities)
        index = next((i for i, bound in enumerate(bounds) if drawn < bound), len(parameter.values) - 1)
        return parameter.values[index]
    if kind == "log_uniform":
        value = math.exp(drawn)
    elif kind == "inv_log_uniform":
        value = math.exp(-drawn)
    elif kind in ("normal", "log_normal"):
        value = NormalDist(numbers["mu"], numbers["sigma"]).inv_cdf(min(max(drawn, 1e-12), 1 - 1e-12))
        value = math.exp(value) if kind == "log_normal" else value
    elif kind == "beta":
        from scipy.stats import beta  # heavy, and hardly ever asked for

        value = float(beta.ppf(drawn, numbers["a"], numbers["b"]))
    else:
        value = drawn
    if "q" not in numbers:
        return value
    steps, q = round(value / numbers["q"]), numbers["q"]
    return steps * int(q) if q.is_integer() else float(f"{steps * q:.12g}")


def _pruner(sweep: Sweep) -> "optuna.pruners.BasePruner":
    """W&B's hyperband has one bracket, which is successive halving as it goes (ASHA; Li et al. 2020).

    `eta` is the nearest whole number above 1: Optuna knows no others.
    """
    from optuna.pruners import NopPruner, SuccessiveHalvingPruner

    if sweep.stopping is None:
        return NopPruner()
    return SuccessiveHalvingPruner(
        min_resource=sweep.stopping.first, reduction_factor=max(2, round(sweep.stopping.eta))
    )


def _mix(*numbers: int) -> int:
    return int.from_bytes(hashlib.sha256(repr(numbers).encode()).digest()[:4])
