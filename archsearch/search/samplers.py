"""What proposes candidates, by name: Optuna's samplers, each held to what the trials so far decide, and evolution.

A sampler's answer follows from the spec and the trials it was told, so that a search continues where it was. Those of
Optuna's that look at trials alone (`tpe`, `gp`, `random`) are made anew for every proposal, seeded by where the search
stands. Those with a memory of their own (`nsga2`, `cmaes`, `qmc`) are asked again for everything they proposed before
(`replays`); what they learn of is their raw proposals, with the score of what these were mended into.
"""

from __future__ import annotations

import copy
import math
import random
import warnings
import zlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from archsearch.request import Architecture, SearchSpec
from archsearch.search.pareto import ranked
from archsearch.search.repair import Members
from archsearch.search.trial import Trial

if TYPE_CHECKING:
    import optuna

# A proposal before it is mended: the name of its space and its parameters.
Raw = tuple[str, Architecture]
T = TypeVar("T")

# Real et al. 2019 take 100 and 25 for 20,000 candidates; for hundreds their smaller setting fits.
_POPULATION = 36
_TOURNAMENT = 8
# Optuna's fifty would leave most searches in NSGA-II's random first generation.
_NSGA2_POPULATION = 24
_STARTUP = 16
# Gaussian processes take the cube of what they look at: the latest so many trials, and the best.
_GP_LATEST = 150
_GP_BEST = 50
# Beyond these TPE's densities cost more than they gain: the latest so many trials, and the best.
_TPE_LATEST = 700
_TPE_BEST = 100


class Sampler(Protocol):
    """Proposes raw candidates.

    Attributes:
        replays: Whether it has to be asked again for what it proposed before a search was interrupted.
    """

    replays: bool

    def copy(self) -> Sampler:
        """The same at this moment, which learns without this one's learning."""

    def ask(self, attempt: int) -> Raw:
        """A proposal; `attempt` counts those since the last trial that turned out to be known already."""

    def tell(self, trial: Trial, *, asked: bool) -> None:
        """Learn a new trial; `asked` says that it is what the last proposal was mended into."""

    def again(self, trial: Trial) -> None:
        """The last proposal was mended into a trial known already."""


class Evolution:
    """Regularised evolution (Real et al. 2019): of eight among the latest 36 the best has a child, the oldest dies.

    A child has one parameter at another value, the space being one parameter more where there are several; a child in
    another space is a random member of it. Where a cost is traded, the parent is any of the eight that no other of
    them beats in both.
    """

    replays = False

    def __init__(self, spec: SearchSpec, spaces: Mapping[str, Members]) -> None:
        self._spec, self._spaces = spec, spaces
        self._trials: list[Trial] = []

    def copy(self) -> Evolution:
        """See Sampler."""
        found = copy.copy(self)
        found._trials = list(self._trials)
        return found

    def ask(self, attempt: int) -> Raw:
        rng = seeded(self._spec, len(self._trials), attempt)
        names = list(self._spaces)
        living = [trial for trial in self._trials[-_POPULATION:] if trial.first is not None]
        if len(self._trials) < _POPULATION or not living:
            name = rng.choice(names)
            return name, self._spaces[name].draw(rng)
        drawn = rng.sample(living, min(_TOURNAMENT, len(living)))
        best = ranked(drawn, self._spec.trade)
        if self._spec.trade is not None:
            best = unbeaten(best, self._spec.trade)
        parent = best[0] if self._spec.trade is None else rng.choice(best)
        return mutated(parent, self._spaces, rng)

    def tell(self, trial: Trial, *, asked: bool) -> None:
        self._trials.append(trial)

    def again(self, trial: Trial) -> None:
        """Nothing is learned from it."""


class Conditional:
    """TPE or chance over all spaces at once: each space's parameters exist only where that space is chosen."""

    replays = False

    def __init__(self, spec: SearchSpec, spaces: Mapping[str, Members]) -> None:
        self._spec, self._spaces = spec, spaces
        self._trials: list[Trial] = []
        self._study = _study(spec)
        self._added = 0

    def copy(self) -> Conditional:
        """See Sampler."""
        found = copy.copy(self)
        found._trials = list(self._trials)
        found._study = _copied(self._study, [self._study])
        return found

    def ask(self, attempt: int) -> Raw:
        told = len(self._trials)
        # Where TPE has settled on known points, only chance leads away from them.
        by_chance = self._spec.sampler == "random" or attempt > 4
        self._bring_up_to_date()
        self._study.sampler = _stateless("random" if by_chance else "tpe", seed(self._spec, told, attempt))
        asked = self._study.ask()
        names = list(self._spaces)
        name = asked.suggest_categorical("space", names) if len(names) > 1 else names[0]
        chosen = {
            p.name: asked.suggest_int(f"{name}.{p.name}", p.low, p.values[-1], step=p.step)
            for p in self._spaces[name].parameters
        }
        _forget(self._study, asked)  # what is told in earnest is the mended proposal
        return name, chosen

    def tell(self, trial: Trial, *, asked: bool) -> None:
        self._trials.append(trial)

    def again(self, trial: Trial) -> None:
        """Nothing is learned from it."""

    def _bring_up_to_date(self) -> None:
        """Tell the study what it has not been told; now and then start one anew, so that it stays small."""
        if self._spec.sampler == "random":
            return
        told = len(self._trials)
        # The number of trials alone decides what a study holds, never when it was made.
        kept = told - told % 100 if told > _TPE_LATEST + _TPE_BEST else 0
        if kept and self._added < kept:
            self._study, self._added = _study(self._spec), kept
            for trial in _latest_and_best(self._trials[:kept], _TPE_LATEST, _TPE_BEST, self._spec.trade):
                self._add(trial)
        for trial in self._trials[self._added :]:
            self._add(trial)
        self._added = told

    def _add(self, trial: Trial) -> None:
        import optuna

        several = len(self._spaces) > 1
        space = {"space": optuna.distributions.CategoricalDistribution(list(self._spaces))} if several else {}
        params = {f"{trial.space}.{name}": value for name, value in trial.architecture.items()}
        _add_trial(
            self._study,
            self._spec,
            trial,
            {**({"space": trial.space} if several else {}), **params},
            {**space, **_distributions(self._spaces[trial.space])},
        )


class Separate:
    """Samplers that cannot tell spaces apart, with a study for each space.

    With several spaces every other proposal goes to them by turns, and the others to the space of one of the best
    eighth of the trials, by chance; Sobol's points (`qmc`) always by turns.
    """

    def __init__(self, spec: SearchSpec, spaces: Mapping[str, Members]) -> None:
        self._spec, self._spaces = spec, spaces
        self._trials: list[Trial] = []
        self._asked: optuna.Trial | None = None
        self.replays = spec.sampler != "gp"
        self._studies = {name: _study(spec) for name in spaces}
        if self.replays:
            for i, (name, study) in enumerate(self._studies.items()):
                study.sampler = _stateful(spec.sampler, zlib.crc32(f"{spec.seed}/{i}/{name}".encode()))

    def copy(self) -> Separate:
        """See Sampler."""
        found = copy.copy(self)
        found._trials = list(self._trials)
        found._studies = dict(self._studies)
        if self.replays:  # the proposal that was asked for belongs to its study
            both = self._studies, self._asked
            found._studies, found._asked = _copied(both, list(self._studies.values()))
        return found

    def ask(self, attempt: int) -> Raw:
        name = self._space(attempt)
        if not self.replays:
            self._studies[name] = self._recent(name)
            self._studies[name].sampler = _stateless(self._spec.sampler, seed(self._spec, len(self._trials), attempt))
        study = self._studies[name]
        self._asked = asked = study.ask(fixed_distributions=_distributions(self._spaces[name]))
        chosen = {parameter.removeprefix(f"{name}."): int(value) for parameter, value in asked.params.items()}
        if not self.replays:
            _forget(study, asked)
            self._asked = None
        return name, chosen

    def tell(self, trial: Trial, *, asked: bool) -> None:
        self._trials.append(trial)
        if not self.replays:
            return
        if asked:
            self.again(trial)
            return
        # Found without this sampler: it learns of it all the same.
        params = {f"{trial.space}.{name}": value for name, value in trial.architecture.items()}
        distributions = _distributions(self._spaces[trial.space])
        _add_trial(self._studies[trial.space], self._spec, trial, params, distributions)

    def again(self, trial: Trial) -> None:
        """The raw proposal is worth what it was mended into."""
        if self._asked is None:
            return
        if trial.first is None:
            _forget(self._studies[trial.space], self._asked)
        else:
            self._studies[trial.space].tell(self._asked, _values(self._spec, trial))
        self._asked = None

    def _space(self, attempt: int) -> str:
        names, told = list(self._spaces), len(self._trials)
        rng = seeded(self._spec, told, attempt)
        best = ranked(self._trials, self._spec.trade, -(-len(self._trials) // 8))
        if len(names) == 1 or not best or self._spec.sampler == "qmc" or told % 2 == 0:
            return names[(told // 2 + attempt if self._spec.sampler != "qmc" else told + attempt) % len(names)]
        return rng.choice(best).space

    def _recent(self, name: str) -> optuna.Study:
        study = _study(self._spec)
        here = [trial for trial in self._trials if trial.space == name]
        for trial in _latest_and_best(here, _GP_LATEST, _GP_BEST, self._spec.trade):
            params = {f"{name}.{parameter}": value for parameter, value in trial.architecture.items()}
            _add_trial(study, self._spec, trial, params, _distributions(self._spaces[name]))
        return study


def mutated(parent: Trial, spaces: Mapping[str, Members], rng: random.Random) -> Raw:
    """A member that differs in one parameter, drawn evenly from its other values; the space is one parameter more."""
    parameters = [p for p in spaces[parent.space].parameters if len(p.values) > 1]
    others = [name for name in spaces if name != parent.space]
    which = rng.randrange(len(parameters) + bool(others)) if parameters or others else None
    if which is None:
        return parent.space, dict(parent.architecture)
    if which == len(parameters):
        name = rng.choice(others)
        return name, spaces[name].draw(rng)
    parameter = parameters[which]
    value = rng.choice([value for value in parameter.values if value != parent.architecture[parameter.name]])
    return parent.space, {**parent.architecture, parameter.name: value}


def unbeaten(trials: Sequence[Trial], trade: str) -> list[Trial]:
    """Those that no other of them beats in score without costing more, in the same order."""

    def beaten(trial: Trial) -> bool:
        cost = getattr(trial.cost, trade)
        return any(
            (o.first or 0.0) >= (trial.first or 0.0)
            and getattr(o.cost, trade) <= cost
            and (o.first, getattr(o.cost, trade)) != (trial.first, cost)
            for o in trials
        )

    return [trial for trial in trials if not beaten(trial)]


def seed(spec: SearchSpec, told: int, attempt: int) -> int:
    return zlib.crc32(f"{spec.seed}/{told}/{attempt}".encode())


def seeded(spec: SearchSpec, told: int, attempt: int) -> random.Random:
    return random.Random(f"{spec.seed}/{told}/{attempt}")


def _latest_and_best(trials: Sequence[Trial], latest: int, best: int, trade: str | None) -> list[Trial]:
    """In the order they were made."""
    if len(trials) <= latest + best:
        return list(trials)
    chosen = {trial.number for trial in [*trials[-latest:], *ranked(trials[:-latest], trade, best)]}
    return [trial for trial in trials if trial.number in chosen]


def _study(spec: SearchSpec) -> optuna.Study:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.RandomSampler(seed=0)
    if spec.trade is None:
        return optuna.create_study(direction="maximize", sampler=sampler)
    return optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)


def _copied(what: T, studies: Sequence[optuna.Study]) -> T:
    """A deep copy of what holds the studies. Their trials are shared: a storage puts another one in the place of a
    trial that changes."""
    return copy.deepcopy(what, {id(trial): trial for study in studies for trial in study.get_trials(deepcopy=False)})


def _stateless(name: str, seed: int) -> optuna.samplers.BaseSampler:
    import optuna

    samplers = optuna.samplers
    with warnings.catch_warnings():
        # `group` and Gaussian processes are experimental as an interface; versions of Optuna are pinned.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        match name:
            case "random":
                return samplers.RandomSampler(seed=seed)
            case "tpe":
                return samplers.TPESampler(
                    seed=seed, multivariate=True, group=True, n_startup_trials=_STARTUP, constant_liar=False
                )
            case "gp":
                return samplers.GPSampler(seed=seed, n_startup_trials=_STARTUP, warn_independent_sampling=False)
    raise ValueError(name)


def _stateful(name: str, seed: int) -> optuna.samplers.BaseSampler:
    import optuna

    samplers = optuna.samplers
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        match name:
            case "nsga2":
                return samplers.NSGAIISampler(seed=seed, population_size=_NSGA2_POPULATION)
            case "cmaes":
                return samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False)
            case "qmc":
                return samplers.QMCSampler(seed=seed, scramble=True, warn_independent_sampling=False)
    raise ValueError(name)


def _distributions(members: Members) -> dict[str, Any]:
    import optuna

    prefix = members.space.name
    return {
        f"{prefix}.{p.name}": optuna.distributions.IntDistribution(p.low, p.values[-1], step=p.step)
        for p in members.parameters
    }


def _values(spec: SearchSpec, trial: Trial) -> list[float]:
    """What a study is told: the score of the lowest rung, and the logarithm of the traded cost."""
    assert trial.first is not None
    cost = [] if spec.trade is None else [math.log(max(getattr(trial.cost, spec.trade), 1e-12))]
    return [trial.first, *cost]


def _add_trial(
    study: optuna.Study, spec: SearchSpec, trial: Trial, params: dict[str, Any], distributions: dict[str, Any]
) -> None:
    import optuna

    # Pruned without a value is Optuna's word for worse than all that were scored.
    state = optuna.trial.TrialState.PRUNED if trial.first is None else optuna.trial.TrialState.COMPLETE
    values = None if trial.first is None else _values(spec, trial)
    study.add_trial(optuna.trial.create_trial(state=state, values=values, params=params, distributions=distributions))


def _forget(study: optuna.Study, asked: optuna.Trial) -> None:
    import optuna

    study.tell(asked, state=optuna.trial.TrialState.FAIL)
