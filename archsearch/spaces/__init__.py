"""Student families, one file each. Adding one is adding a file that registers a `Space`, and a name to `FILES`."""

from archsearch.spaces.choose import check_name, choose, of_domain, own, suited
from archsearch.spaces.count import Cost, Count
from archsearch.spaces.space import Parameter, Recipe, Space, spaces
from archsearch.spaces.teacher import of_teacher

__all__ = [
    "Cost",
    "Count",
    "Parameter",
    "Recipe",
    "Space",
    "check_name",
    "choose",
    "of_domain",
    "of_teacher",
    "own",
    "spaces",
    "suited",
]
