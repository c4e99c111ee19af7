"""Zero-cost proxies, one file each. Adding one is adding a file with one decorated function, and a name to `FILES`."""

from archsearch.proxies.proxy import Proxy, Undefined, proxies, proxy

__all__ = ["Proxy", "Undefined", "proxies", "proxy"]
