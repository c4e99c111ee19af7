"""From raw proposals to candidates: mended until they fit, never one that is known, until nothing is left."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

from archsearch.request import Architecture, SearchSpec
from archsearch.search.guided import Guided
from archsearch.search.outlines import outlines
from archsearch.search.repair import Members
from archsearch.search.samplers import Conditional, Evolution, Sampler, Separate, seeded
from archsearch.search.trial import Trial, key

# Proposals in a row that were known already, before the rest is looked for without the sampler.
_ATTEMPTS = 16


def make_sampler(spec: SearchSpec, spaces: Mapping[str, Members]) -> Sampler:
    match spec.sampler:
        case "tpe":
            return Guided(spec, spaces)
        case "evolution":
            return Evolution(spec, spaces)
        case "random":
            return Conditional(spec, spaces)
        case _:
            return Separate(spec, spaces)


def _plain(spec: SearchSpec, spaces: Mapping[str, Members]) -> list[tuple[str, Architecture]]:
    """What is proposed before a sampler is asked: of students cut out of their teacher, those that keep most of it
    whole, half of all candidates at most."""
    cut = {name: members for name, members in spaces.items() if members.space.start == "teacher"}
    found = [(name, architecture) for name, members in cut.items() for architecture in outlines(members)]
    return found[: spec.candidates // 2]


class Proposals:
    """Candidates within the budget, each only once, as they follow from a spec and the trials so far.

    Args:
        known: Trials of other searches, which are learned from and not proposed again.
    """

    def __init__(self, spec: SearchSpec, spaces: Mapping[str, Members], known: Sequence[Trial] = ()) -> None:
        self._spec, self._spaces = spec, spaces
        self._sampler = make_sampler(spec, spaces)
        self._trials: dict[str, Trial] = {}
        # Trials all of whose neighbours are known or beyond the budget.
        self._closed: set[str] = set()
        self._asked: str | None = None
        for trial in known:
            self.tell(trial)
        self._before = len(self._trials)
        self._first = [(name, one) for name, one in _plain(spec, spaces) if key(name, one) not in self._trials]

    def copy(self) -> Proposals:
        """The same at this moment: what is asked of a copy and told to it, these proposals never learn."""
        found = copy.copy(self)
        found._sampler = self._sampler.copy()
        found._trials, found._closed = dict(self._trials), set(self._closed)
        return found

    def next(self) -> tuple[str, Architecture] | None:
        """A new candidate, or None when everything that can be reached within the budget was scored."""
        self._asked = None
        told = len(self._trials)
        if told - self._before < len(self._first):
            return self._first[told - self._before]
        for attempt in range(_ATTEMPTS):
            name, raw = self._sampler.ask(attempt)
            mended = self._spaces[name].mend(raw, seeded(self._spec, told, attempt))
            if mended is None:
                continue
            mended = self._spaces[name].canonical(mended)
            known = self._trials.get(key(name, mended))
            if known is None:
                self._asked = key(name, mended)
                return name, mended
            self._sampler.again(known)
        return self._rest()

    def tell(self, trial: Trial) -> None:
        """A scored or failed candidate; of an earlier run too."""
        name = key(trial.space, trial.architecture)
        self._trials[name] = trial
        self._sampler.tell(trial, asked=name == self._asked)

    def replay(self, trials: Sequence[Trial]) -> None:
        """Bring the sampler to where it stood after these trials."""
        for trial in trials:
            if self._sampler.replays:
                self.next()
            self.tell(trial)

    def _rest(self) -> tuple[str, Architecture] | None:
        """A candidate the sampler did not come upon.

        Small spaces are listed. Large ones are walked: from every known candidate to all that differ from it in one
        parameter, so what is called exhausted is what such steps within the budget can reach.
        """
        rng = seeded(self._spec, len(self._trials), -1)
        for name in rng.sample(list(self._spaces), len(self._spaces)):
            members = self._spaces[name]
            listed = members.listed(rng)
            if listed is not None:
                known = (members.canonical(a) for a in listed)
                found = next((a for a in known if key(name, a) not in self._trials), None)
            else:
                found = self._walk(name, members)
            if found is not None:
                return name, found
        return None

    def _walk(self, name: str, members: Members) -> Architecture | None:
        starts = [trial.architecture for trial in self._trials.values() if trial.space == name]
        if members.anchor is not None and key(name, members.anchor) not in self._trials:
            return members.anchor
        rng = seeded(self._spec, len(self._trials), -2)
        for start in rng.sample(starts, len(starts)):
            # What comes out of a closed one is nothing, so that skipping it changes nothing but time.
            if key(name, start) in self._closed:
                continue
            for other in members.around(start, seeded(self._spec, len(self._trials), -3)):
                there = members.canonical(other)
                if key(name, there) not in self._trials and members.within(there):
                    return there
            self._closed.add(key(name, start))
        return None
