"""Likeness of sample relations, stage by stage."""

from __future__ import annotations

from archsearch.proxies.evidence import Evidence
from archsearch.proxies.proxy import Undefined, proxy


@proxy(
    "data", "teacher", magnitude=False, source="DisWOT, Dong et al. 2023, eq. 6; here over all stages, trained teacher"
)
def relation(ev: Evidence) -> float:
    """Minus the mean squared distance between student's and teacher's sample relations, averaged over stages.

    Stages are matched by relative depth, the last to the last. Relations are B×B whatever the networks' widths and
    resolutions, so nothing has to be projected: −‖G_T − G_S‖²_F / B² for each pair.
    """
    pairs = match_stages(len(ev.student.relations_BB), len(ev.teacher.relations_BB))
    if not pairs:
        raise Undefined("one of the networks names no stages")
    gaps = [(ev.student.relations_BB[s] - ev.teacher.relations_BB[t]).square().mean().item() for s, t in pairs]
    return -sum(gaps) / len(gaps)


def match_stages(students: int, teachers: int) -> list[tuple[int, int]]:
    """Pairs of stage indices at equal relative depth, as many as the shallower network has; ends meet."""
    count = min(students, teachers)
    return [(round((i + 1) * students / count) - 1, round((i + 1) * teachers / count) - 1) for i in range(count)]
