"""The search: what is proposed, how it is made to fit the budget, what it is looked at with, and who wins."""

from archsearch.search.bench import Bench, Look, Rung, evaluate, fidelities, prepare, require_room_for
from archsearch.search.inherited import look_at
from archsearch.search.loop import check_search, search
from archsearch.search.pareto import front, knee, winner
from archsearch.search.pretrained import look_along
from archsearch.search.scorers import Told, crew, side_by_side
from archsearch.search.trial import Stop, Trial, key

__all__ = [
    "Bench",
    "Look",
    "Rung",
    "Stop",
    "Told",
    "Trial",
    "check_search",
    "crew",
    "evaluate",
    "fidelities",
    "front",
    "key",
    "knee",
    "look_along",
    "look_at",
    "prepare",
    "require_room_for",
    "search",
    "side_by_side",
    "winner",
]
