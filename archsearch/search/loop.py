"""The search: proposals within the budget, one batch to score them on, and nothing is trained.

A search is a generator of trials. It keeps no state that its trials do not carry, so feeding it the trials it made
before continues it exactly where it was.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Sequence

from archsearch.errors import ImpossibleBudget, InvalidRequest
from archsearch.hardware import Ruler
from archsearch.proxies.score import check_weights
from archsearch.request import SearchSpec
from archsearch.search.ahead import Ahead
from archsearch.search.bench import Bench, Look, evaluate
from archsearch.search.pareto import improves
from archsearch.search.propose import Proposals
from archsearch.search.repair import Members
from archsearch.search.scorers import Pool
from archsearch.search.trial import Stop, Trial
from archsearch.spaces import Space


def check_search(spec: SearchSpec, device: str = "auto") -> None:
    """Raise InvalidRequest for voters nobody registered, or a sampler that cannot do what is asked of it.

    Args:
        device: Where candidates are scored; `auto` is not known yet.
    """
    check_weights(spec.score)
    if spec.precision == "fp16" and device == "cpu":
        raise InvalidRequest(
            "fp16 needs a GPU, and candidates are scored on the CPU; take bf16, fp32 or auto", field="search.precision"
        )
    if spec.trade is not None and spec.halving is not None:
        raise InvalidRequest(
            "halving looks closely at the best scores only and would leave a front of the dearest; leave out "
            "search.halving or search.trade",
            field="search.halving",
        )
    if spec.trade is not None and spec.sampler == "cmaes":
        raise InvalidRequest(
            f"cmaes looks for one best score and cannot trade it against {spec.trade}; use tpe or nsga2, or leave out "
            "search.trade",
            field="search.sampler",
        )


def search(
    spec: SearchSpec,
    bench: Bench,
    ruler: Ruler,
    spaces: Sequence[Space],
    done: Iterable[Trial] = (),
    look: Look = evaluate,
    pool: Pool | None = None,
    before: int = 0,
    known: Sequence[Trial] = (),
) -> Generator[Trial, None, Stop]:
    """Propose, check and score candidates of all `spaces` together until one of the spec's limits is reached.

    Args:
        ruler: Holds the budget in absolute numbers; no candidate beyond it is ever scored.
        done: Trials of an earlier run of the same search; it continues after them.
        look: What scores a candidate in this process.
        pool: Scores candidates side by side (`side_by_side`); the trials are the same. `spec.workers` is for whoever
            opens one.
        before: Candidates of other searches that are numbered before these (count).
        known: Trials of other searches that the budget holds: they are learned from, and count towards no limit.

    Yields:
        New trials only. `spec.candidates` counts old and new together, and so do time and patience.

    Returns:
        Why it ended.

    Raises:
        ImpossibleBudget: No member of any space is within the budget.
    """
    check_search(spec)
    found = {space.name: Members(space, ruler) for space in spaces}
    possible = {name: members for name, members in found.items() if members.anchor is not None}
    if not possible:
        raise ImpossibleBudget(f"no network of {', '.join(found)} is within {ruler.limits}", field="budget")
    by_name = {space.name: space for space in spaces}
    known = [trial for trial in known if trial.space in possible]
    proposals = Proposals(spec, possible, known)
    ahead = None if pool is None else Ahead(spec, bench, ruler, possible, pool, look, before)
    trials: list[Trial] = []
    # The scores seen at every rung, by which the next candidate is measured.
    seen: list[list[float]] = [[] for _ in bench.rungs]
    stale = 0

    def note(trial: Trial) -> None:
        nonlocal stale
        stale = 0 if spec.patience is None or improves(trial, [*known, *trials], spec.trade) else stale + 1
        trials.append(trial)
        learn(trial)

    def learn(trial: Trial) -> None:
        for scores, value in zip(seen, trial.rungs, strict=False):
            scores.append(value)
        if ahead is not None:
            ahead.note(trial)

    for trial in known:
        learn(trial)
    earlier = list(done)
    for trial in earlier:
        note(trial)
    proposals.replay(earlier)
    # Candidates of an earlier run were scored side by side, too, as far as anybody can tell.
    side_by_side = 1 if pool is None else pool.told.processes
    started = time.monotonic() - sum(trial.seconds for trial in earlier) / side_by_side
    while len(trials) < spec.candidates:
        if spec.time_limit_s is not None and time.monotonic() - started >= spec.time_limit_s:
            return "time"
        if spec.patience is not None and stale >= spec.patience:
            return "patience"
        candidate = proposals.next()
        if candidate is None:
            return "exhausted"
        name, architecture = candidate
        if ahead is not None:
            trial = ahead.score(candidate, before + len(trials), seen, proposals)
        else:
            trial = look(spec, by_name[name], bench, architecture, ruler, number=before + len(trials), seen=seen)
        note(trial)
        proposals.tell(trial)
        yield trial
    return "candidates"
