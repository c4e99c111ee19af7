"""What every domain, space, proxy and loss promises, as tests to run on one's own: subclass a contract in a test file.

    from archsearch.proxies import proxies
    from archsearch.testing import ProxyContract

    class TestMine(ProxyContract):
        proxies = (proxies.get("my_proxy"),)

Importing archsearch never comes by here, for pytest is needed: `pip install 'archsearch[testing]'`.
"""

from __future__ import annotations

try:
    import pytest
except ImportError:
    pytest = None  # type: ignore[assignment]
if not hasattr(pytest, "Subtests"):
    raise ImportError("archsearch.testing needs pytest 9 or later: pip install 'archsearch[testing]'")

# Before they are imported: what fails then shows the values it compared.
for _suite in ("domain", "loss", "proxy", "shown", "space"):
    pytest.register_assert_rewrite(f"{__name__}.{_suite}")

from archsearch.testing.domain import DomainContract  # noqa: E402
from archsearch.testing.loss import LossContract  # noqa: E402
from archsearch.testing.proxy import ProxyContract  # noqa: E402
from archsearch.testing.space import SpaceContract  # noqa: E402

__all__ = ["DomainContract", "LossContract", "ProxyContract", "SpaceContract"]
