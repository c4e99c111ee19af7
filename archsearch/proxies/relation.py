"""Likeness of sample relations, stage by stage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archsearch import kernels
from archsearch.evidence import Evidence
from archsearch.proxies.proxy import Undefined, proxy

if TYPE_CHECKING:
    from torch import Tensor


@proxy(
    "data",
    "teacher",
    reads={"relations"},
    magnitude=False,
    source="DisWOT, Dong et al. 2023, eq. 6; here over all stages, trained teacher",
)
def relation(ev: Evidence) -> Tensor:
    """Minus the mean squared distance between student's and teacher's sample relations, averaged over stages.

    Stages are matched by relative depth, the last to the last. Relations are B×B whatever the networks' widths and
    resolutions, so nothing has to be projected: −‖G_T − G_S‖²_F / B² for each pair.
    """
    gaps = [(kernels.relation(s_BB) - kernels.relation(t_BB)).square().mean() for s_BB, t_BB in matched_grams(ev)]
    return -kernels.added(gaps) / len(gaps)


def matched_grams(ev: Evidence) -> list[tuple[Tensor, Tensor]]:
    """The Gram matrices of student and teacher at equal relative depth."""
    students, teachers = ev.student.grams_BB, ev.teacher.grams_BB
    pairs = match_stages(len(students), len(teachers))
    if not pairs:
        raise Undefined("one of the networks names no stages")
    return [(students[s], teachers[t]) for s, t in pairs]


def match_stages(students: int, teachers: int) -> list[tuple[int, int]]:
    """Pairs of stage indices at equal relative depth, as many as the shallower network has; ends meet."""
    count = min(students, teachers)
    return [(round((i + 1) * students / count) - 1, round((i + 1) * teachers / count) - 1) for i in range(count)]
